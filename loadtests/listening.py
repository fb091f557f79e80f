"""Which process of this machine listens on a port, from /proc: so that its cost is known without being told its pid."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

from loadtests.errors import NothingListens

_PROC = Path("/proc")
_LISTEN = "0A"


def server_pid(told: int | None, host: str, port: int) -> int | None:
    """The server's process, `told` or found; None, with a word on stderr, where it is not seen on this machine. `host`: an address."""
    if told is not None or not ipaddress.ip_address(host).is_loopback:
        return told
    try:
        return listening_pid(port)
    except NothingListens as error:
        print(f"ferry loadtest: {error}", file=sys.stderr)
        return None


def listening_pid(port: int) -> int:
    """The oldest process with a socket that listens on `port`. Raises NothingListens, also if it belongs to another user."""
    sockets = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _inodes(_PROC / "net" / table, port)}
    holders = [int(one.name) for one in _PROC.iterdir() if one.name.isdigit() and sockets & _files(one)]
    if not holders:
        raise NothingListens(f"no process found that listens on port {port}: give --pid to measure the server's CPU")
    return min(holders)


def _inodes(table: Path, port: int) -> list[str]:
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [row[9] for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port]


def _files(process: Path) -> set[str]:
    try:
        return {_link(file) for file in (process / "fd").iterdir()}
    except OSError:
        return set()  # it ended, or is not ours to look at


def _link(file: Path) -> str:
    try:
        return str(file.readlink())
    except OSError:
        return ""  # closed meanwhile
