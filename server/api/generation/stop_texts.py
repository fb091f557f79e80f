"""Finds the texts that end an answer while it comes in pieces. Pure; no wire, no tokens."""

from __future__ import annotations

from collections.abc import Sequence


class StopTexts:
    """Passes a growing text on, but never any of a stop text: what may still become one is held back."""

    __slots__ = ("_held", "_longest", "_stops", "found")

    def __init__(self, stops: Sequence[str]) -> None:
        """None of `stops` is empty."""
        self._stops = tuple(stops)
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self.found = False

    def add(self, piece: str) -> str:
        """What can be shown now. Once `found`, nothing more: it ends before the stop text that is complete first (the longer of two),
        however the text is cut into pieces."""
        if not self._stops:
            return piece
        if self.found:
            return ""
        text = self._held + piece
        places = [(place + len(stop), place) for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)[1]]
        n_shown = len(text) - self._n_open(text)
        self._held = text[n_shown:]
        return text[:n_shown]

    def rest(self) -> str:
        """What was held back, when the text ends without a stop text."""
        rest, self._held = self._held, ""
        return rest

    def _n_open(self, text: str) -> int:
        """The length of the longest end of `text` with which a stop text begins."""
        first = max(0, len(text) - self._longest + 1)
        return max((len(text) - _open_at(text, stop, first) for stop in self._stops), default=0)


def _open_at(text: str, stop: str, first: int) -> int:
    """Where, from `first` on, the rest of `text` is a beginning of `stop`; its length when that is nowhere."""
    place = text.find(stop[0], first)
    while place >= 0 and not stop.startswith(text[place:]):
        place = text.find(stop[0], place + 1)
    return len(text) if place < 0 else place
