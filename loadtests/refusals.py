"""Why a server refused, as a short text that is the same for like refusals: figures in it become N."""

from __future__ import annotations

import re

from loadtests.wire import error_text

_FIGURES = re.compile(r"\d+(?:[.,]\d+)*")
_MAX_LENGTH = 120
_MAX_CACHED = 1024


class Refusals:
    """Turns the bodies of refusals into reasons and remembers them: they cost as much as answers otherwise."""

    def __init__(self) -> None:
        self._known: dict[bytes, str] = {}

    def reason(self, body: bytes) -> str:
        """The reason in a body; empty if it holds none."""
        found = self._known.get(body)
        if found is None:
            if len(self._known) >= _MAX_CACHED:
                self._known.clear()
            found = self._known[body] = _FIGURES.sub("N", error_text(body))[:_MAX_LENGTH]
        return found
