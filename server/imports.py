"""Modules come in without the garbage collector looking on."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """For what the `ferry` command imports. Modules stay until the process ends: to look for garbage among them takes a sixth
    of the import, and later again each time. What is there afterwards is frozen, so this is for a process of ferry's own."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()  # first: what is new would be walked over at once
            gc.enable()
