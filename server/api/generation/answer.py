"""One answer as it grows: text joined from tokens, cut at stop texts, log probabilities kept. No wire format; it waits for nobody."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from server.api.generation.stop_texts import StopTexts
from server.errors import FerryError
from server.generation.options import Finish, LogProb
from server.generation.texts import TextStream


class KeptToken(NamedTuple):
    """A token with its log probabilities, None where there are none; `offset`: how many characters of the text were before it."""

    token: int
    logprob: LogProb | None
    offset: int


class News(NamedTuple):
    """What an answer has beyond what was taken before. `finish` is None while it grows."""

    text: str
    tokens: list[KeptToken]
    finish: Finish | None


class Answer:
    """A TokenSink. Its tokens gather here until somebody takes them: at most as many as were asked for. `scores`: of its prompt's tokens but the
    first, where they were asked for and it has begun."""

    __slots__ = (
        "_changed", "_ends", "_finish", "_grown", "_halt", "_kept", "_n_decoded", "_n_shown", "_parts", "_stops", "_stream",
        "error", "has_begun", "n_cached", "n_tokens", "scores",
    )  # fmt: skip

    def __init__(
        self, stream: TextStream, stops: StopTexts, ends: Collection[int], grown: Callable[[], None],
        changed: Callable[[], None], halt: Callable[[], None],
    ) -> None:  # fmt: skip
        """`ends`: ids that end this answer and are no part of it. `grown` is called when there is more text, `changed` when it has
        begun or is over, `halt` when a stop text is found and nobody wants more tokens."""
        self._stream = stream
        self._stops = stops
        self._ends = ends
        self._grown = grown
        self._changed = changed
        self._halt = halt
        self._parts: list[str] = []
        self._kept: list[KeptToken] = []
        self._n_decoded = self._n_shown = 0
        self._finish: Finish | None = None
        self.error: FerryError | None = None
        self.has_begun = False
        self.n_cached = self.n_tokens = 0
        self.scores: Sequence[LogProb] = ()

    @property
    def is_over(self) -> bool:
        return self._finish is not None or self.error is not None

    # What the engine tells

    def began(self, n_cached: int, scores: Sequence[LogProb]) -> None:
        self.n_cached = n_cached
        self.scores = scores
        self.has_begun = True
        self._changed()

    def token(self, token: int, logprob: LogProb | None) -> None:
        if self.is_over:
            return
        self.n_tokens += 1
        if token in self._ends:
            return
        if logprob is not None:
            self._kept.append(KeptToken(token, logprob, self._n_decoded))
        self._show(self._stream.add(token))
        if self._stops.found:
            self._finish = Finish.STOP
            self._halt()
            self._changed()

    def ended(self, why: Finish) -> None:
        if self.is_over:
            return
        self._show(self._stream.rest())
        if self._stops.found:
            why = Finish.STOP
        else:
            self._put(self._stops.rest())
        self._finish = why
        self._changed()

    def failed(self, error: FerryError) -> None:
        if self.is_over:
            return
        self.error = error
        self._changed()

    # What its reader asks

    def take(self) -> News:
        """What is new. The tokens are those whose text has begun to be shown; at the end also those without any."""
        text, self._parts = "".join(self._parts), []
        n_ready = len(self._kept)
        if self._finish is None or self._stops.found:
            n_ready = sum(one.offset < self._n_shown for one in self._kept)
        tokens, self._kept = self._kept[:n_ready], self._kept[n_ready:]
        return News(text, tokens, self._finish)

    def _show(self, piece: str) -> None:
        if piece:
            self._n_decoded += len(piece)
            self._put(self._stops.add(piece))

    def _put(self, text: str) -> None:
        if text:
            self._n_shown += len(text)
            self._parts.append(text)
            self._grown()
