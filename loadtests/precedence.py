"""Clients have processors of their own. One that shares the server's goes before it, where the system lets it: it costs the server what it would
cost it anyway, but is not late because the server is busy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_NICENESS = -10


def go_first() -> int:
    """For good: this thread, and processes that it starts later. Returns its niceness, which is what it was where that is not allowed."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, min(_NICENESS, niceness()))
    return niceness()


@contextmanager
def going_first() -> Iterator[int]:
    """For a while."""
    before = niceness()
    try:
        yield go_first()
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def niceness() -> int:
    """Of this thread."""
    return os.getpriority(os.PRIO_PROCESS, 0)
