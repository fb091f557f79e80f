"""A child for the supervisor's tests: `python fake_child.py KIND DESCRIPTOR`. It writes what happens to it into the folder."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

from server.fleet.child import Line


def main(kind: str, descriptor: int) -> int:
    """The kinds are told where they are tested."""
    if kind == "breaks":
        return 3
    line = Line(descriptor)
    orders = line.orders()
    book = Path(orders.folder) / orders.name
    if kind == "breaks later" and book.exists():
        return 4

    def note(what: str) -> None:
        with book.open("a") as file:
            file.write(f"{what} {os.getpid()} {time.monotonic()}\n")

    def end(*_: object) -> None:
        note("ended")
        if kind != "stubborn":
            sys.exit(0)

    # A signal that comes just before one waits would be heard only after the wait: its byte ends the wait instead.
    heard, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno())
    signal.signal(signal.SIGTERM, end)
    note("began")
    line._socket.send(b"ready\n")
    while True:
        come, _, _ = select.select([line._socket, heard], [], [])
        if heard in come:
            heard.recv(1)
        elif not line._socket.recv(1):
            note("orphaned")
            return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
