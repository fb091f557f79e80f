"""What a unary call is, for the modules that declare some."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple


class Call(NamedTuple):
    """A method: the message that it takes and the coroutine that answers it with another."""

    takes: Any
    answer: Callable[[Any], Awaitable[Any]]
    changes_server: bool = False
