"""What a process and all its descendants cost, from /proc: CPU seconds and resident memory. Linux only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a process tree. `rss` counts shared pages once per process, `pss` shares them out (None if unknown)."""

    rss: int
    pss: int | None


@dataclass(frozen=True, slots=True)
class _Stat:
    """The fields of /proc/<pid>/stat that are used here. `ticks` includes children that ended and were waited for."""

    parent: int
    ticks: int


def tree(pid: int) -> list[int]:
    """`pid` and its living descendants; empty if `pid` does not live."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) is not None:
            children.setdefault(stat.parent, []).append(int(entry.name))
    found = [pid] if _stat(pid) is not None else []
    for one in found:
        found.extend(children.get(one, ()))
    return found


def cpu_s(pid: int) -> float:
    """User and system CPU seconds that `pid`, its living descendants and their reaped children have used so far.

    Steps of one clock tick (10 ms as a rule): take differences over seconds. 0.0 if `pid` does not live.
    """
    stats = [_stat(one) for one in tree(pid)]
    return sum(stat.ticks for stat in stats if stat is not None) / os.sysconf("SC_CLK_TCK")


def own_cpu_s(pid: int) -> float:
    """Likewise of `pid` alone and its reaped children."""
    stat = _stat(pid)
    return 0.0 if stat is None else stat.ticks / os.sysconf("SC_CLK_TCK")


def command(pid: int) -> list[str]:
    """The command line of `pid`; empty if it does not live."""
    try:
        return (_PROC / str(pid) / "cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def memory(pid: int) -> Memory:
    """Resident memory of `pid` and its living descendants; `pss` is None unless every process tells it."""
    pids = tree(pid)
    shares = [own_pss(one) for one in pids]
    known = [share for share in shares if share is not None]
    return Memory(sum(map(_rss, pids)), sum(known) if len(known) == len(pids) else None)


def _stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None  # it ended meanwhile
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return _Stat(int(fields[1]), sum(map(int, fields[11:15])))


def _rss(pid: int) -> int:
    try:
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def own_pss(pid: int) -> int | None:
    """Proportional resident memory of `pid` alone; None if unknown."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    kib = [int(line.split()[1]) for line in lines if line.startswith("Pss:")]
    return kib[0] * 1024 if kib else None
