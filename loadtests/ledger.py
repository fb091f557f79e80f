"""What became of every request of a schedule, each exactly once. Pure: time is an argument, sockets are elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FAILED = 0
TIMED_OUT = -1
NEVER_SENT = -2
_OPEN = -3
_MAX_REASONS = 64
OTHER = "other reasons"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Record:
    """All requests of a run, by their order in the schedule; times in seconds from its start, NaN where there is none.

    `status` is the HTTP status, or FAILED, TIMED_OUT, NEVER_SENT; `reason` is an index into `reasons`, the first of
    which is empty. `held_back` marks requests that were sent late because no connection, or not their own, was free.
    """

    due_s: Floats
    sent_s: Floats
    done_s: Floats
    status: npt.NDArray[np.int16]
    reason: npt.NDArray[np.int16]
    held_back: npt.NDArray[np.bool_]
    reasons: Sequence[str]

    @property
    def latency_s(self) -> Floats:
        """From the intended send time to the answer, NaN where no status came."""
        return self.done_s - self.due_s

    @property
    def lag_s(self) -> Floats:
        """From the intended to the real send time, NaN for what was never sent."""
        return self.sent_s - self.due_s


class Reasons:
    """Texts as small numbers; no more than 64, so that a server with a clock in its messages does no harm."""

    def __init__(self) -> None:
        self._by_text: dict[str, int] = {"": 0}

    def number(self, text: str) -> int:
        """The number of a text."""
        found = self._by_text.get(text)
        if found is not None:
            return found
        if len(self._by_text) >= _MAX_REASONS:
            text = OTHER
        return self._by_text.setdefault(text, len(self._by_text))

    def texts(self) -> list[str]:
        """All texts by number."""
        return list(self._by_text)


class Ledger:
    """Hands out requests when they are due, and notes their ends. `timeout_s` counts from when a request was due."""

    def __init__(self, due_s: Sequence[float], timeout_s: float) -> None:
        n = len(due_s)
        self._due_s = due_s
        self._timeout_s = timeout_s
        self._sent_s = [math.nan] * n
        self._done_s = [math.nan] * n
        self._status = [_OPEN] * n
        self._reason = [0] * n
        self._held_back = bytearray(n)
        self._n = n
        self._next = 0
        self._oldest = 0
        self._held_until_s = -math.inf
        self._reasons = Reasons()
        self.n_open = n

    @property
    def next_due_s(self) -> float:
        """When the next request is due; infinity when none is left."""
        return self._due_s[self._next] if self._next < self._n else math.inf

    @property
    def next_timeout_s(self) -> float:
        """When the oldest open request times out; infinity when none is open."""
        while self._oldest < self._n and self._status[self._oldest] != _OPEN:
            self._oldest += 1
        return self._due_s[self._oldest] + self._timeout_s if self._oldest < self._n else math.inf

    def take(self, now_s: float) -> int:
        """The number of the next request, which is due: it is sent now, or waits for a connection of its own."""
        ordinal = self._next
        assert self._due_s[ordinal] <= now_s
        self._next = ordinal + 1
        return ordinal

    def sent(self, ordinal: int, now_s: float) -> None:
        """A request that was taken goes out."""
        self._sent_s[ordinal] = now_s
        if self._due_s[ordinal] <= self._held_until_s:
            self._held_back[ordinal] = 1

    def sent_after_wait(self, ordinal: int, now_s: float) -> None:
        """Likewise, and it has waited for its own connection: its lateness is not the generator's."""
        self._sent_s[ordinal] = now_s
        self._held_back[ordinal] = 1

    def is_open(self, ordinal: int) -> bool:
        """Whether a request has not ended yet."""
        return self._status[ordinal] == _OPEN

    def hold_back(self, now_s: float) -> None:
        """What is due by now has to wait, for no connection is free: its lateness is not the generator's."""
        self._held_until_s = now_s

    def answered(self, ordinal: int, now_s: float, status: int, reason: str = "") -> None:
        """A whole response came; `reason` is what a refusal says."""
        self._end(ordinal, status, reason)
        self._done_s[ordinal] = now_s

    def failed(self, ordinal: int, reason: str) -> None:
        """No whole response will come, or a wrong one came."""
        self._end(ordinal, FAILED, reason)

    def timed_out(self, ordinal: int) -> None:
        """The server says that the request's own deadline has passed."""
        self._end(ordinal, TIMED_OUT, "")

    def expire(self, now_s: float) -> list[int]:
        """Time out what is due for it; the requests among them that were sent, whose connections are of no use now."""
        expired = []
        while self.next_timeout_s <= now_s:
            ordinal = self._oldest
            if self._was_sent(ordinal):
                self._end(ordinal, TIMED_OUT, "")
                expired.append(ordinal)
            else:
                self._next = max(self._next, ordinal + 1)
                self._end(ordinal, NEVER_SENT, "no free connection before the timeout")
        return expired

    def give_up(self, reason: str) -> None:
        """End the run now: what is open failed, what was not sent never will be."""
        for ordinal in range(self._oldest, self._n):
            if self._status[ordinal] == _OPEN:
                self._end(ordinal, FAILED if self._was_sent(ordinal) else NEVER_SENT, reason)
        self._next = self._n

    def _was_sent(self, ordinal: int) -> bool:
        return not math.isnan(self._sent_s[ordinal])

    def _end(self, ordinal: int, status: int, reason: str) -> None:
        assert self._status[ordinal] == _OPEN, f"request {ordinal} ended twice"
        self._status[ordinal] = status
        if reason:
            self._reason[ordinal] = self._reasons.number(reason)
        self.n_open -= 1

    def record(self) -> Record:
        """Everything as arrays; only when nothing is open."""
        assert self.n_open == 0, f"{self.n_open} requests are open"
        return Record(
            np.array(self._due_s, np.float64),
            np.array(self._sent_s, np.float64),
            np.array(self._done_s, np.float64),
            np.array(self._status, np.int16),
            np.array(self._reason, np.int16),
            np.frombuffer(self._held_back, np.bool_).copy(),
            self._reasons.texts(),
        )


def interleave(records: Sequence[Record]) -> Record:
    """The record of a schedule that was dealt out in turn: request i to generator i modulo their number."""
    reasons = Reasons()
    numbers = [np.array([reasons.number(text) for text in one.reasons], np.int16)[one.reason] for one in records]
    return Record(
        due_s=_dealt([one.due_s for one in records]),
        sent_s=_dealt([one.sent_s for one in records]),
        done_s=_dealt([one.done_s for one in records]),
        status=_dealt([one.status for one in records]),
        reason=_dealt(numbers),
        held_back=_dealt([one.held_back for one in records]),
        reasons=reasons.texts(),
    )


def _dealt(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    whole = np.empty(sum(map(len, parts)), parts[0].dtype)
    for at, part in enumerate(parts):
        whole[at :: len(parts)] = part
    return whole
