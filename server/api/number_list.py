"""A JSON list of numbers → array, without a Python object for each of them: a third of the cost for an image.

Reads only what is plainly right. For all else it returns None, and the general decoder reads it or says what is wrong.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import simdjson

from server.api.infer_head import Body
from server.backends.base import Array

MOST_KEPT_BYTES = 1 << 16
"""A parser keeps some fourteen times the room of the longest text it has read; a longer one gets a parser of its own."""

_Letter = Literal["d", "i", "u"]
_KINDS: dict[str, tuple[_Letter, np.dtype[Any]]] = {
    "f": ("d", np.dtype(np.float64)),
    "i": ("i", np.dtype(np.int64)),
    "u": ("u", np.dtype(np.uint64)),
}


class NumberLists:
    """Reads for one thread."""

    def __init__(self) -> None:
        self._parser = simdjson.Parser()

    def read(self, text: Body, dtype: np.dtype[Any]) -> Array | None:
        """A list of numbers that `dtype` (float, signed or unsigned) can hold, flat or nested evenly, as [n] in row-major order;
        64-bit integers are exact."""
        text = bytes(text)
        n_lists = text.count(b"[")
        letter, wide = _KINDS[dtype.kind]
        parser = self._parser if len(text) <= MOST_KEPT_BYTES else simdjson.Parser()
        try:
            found: Any = parser.parse(text)
            if n_lists > 1 and not _is_even(found, n_lists):
                return None
            numbers: Array = np.frombuffer(found.as_buffer(of_type=letter), wide)
            if dtype == wide:
                return numbers
            if dtype.kind == "f":
                with np.errstate(over="raise"):
                    return numbers.astype(dtype)
        except (ValueError, TypeError, AttributeError, FloatingPointError, RuntimeError):
            return None  # not JSON; not numbers, or not of this kind; no list; too large; past 64 bits
        return _narrowed(numbers, dtype)


def _is_even(found: Any, n_lists: int) -> bool:
    """Whether a list that holds so many lists, itself included, has all its numbers at one depth, and at each level lists of
    one length: an array, whose numbers in order are the same flat. Raises TypeError when a number stands beside a list."""
    level, n_seen = [found], 1
    while n_seen < n_lists:
        if len({len(one) for one in level}) > 1:
            return False
        level = [part for one in level for part in one]
        n_seen += len(level)
    return n_seen == n_lists and len({len(one) for one in level}) == 1


def _narrowed(numbers: Array, dtype: np.dtype[Any]) -> Array | None:
    bounds = np.iinfo(dtype)
    if numbers.size and (int(numbers.min()) < bounds.min or int(numbers.max()) > bounds.max):
        return None
    return numbers.astype(dtype)
