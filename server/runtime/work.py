"""The payload that travels through the scheduler with a request, unseen by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from server.backends.base import Array
from server.errors import FerryError
from server.runtime.assemble import Inputs


class Outcome(Protocol):
    """Takes what became of a request, once. A future can; none of these may raise."""

    def done(self) -> bool:
        """Whether it has been told, or does not want to know any more."""

    def set_result(self, outputs: list[Array], /) -> None:
        """Arrays [rows, …] in output order."""

    def set_exception(self, error: FerryError, /) -> None: ...


@dataclass(slots=True, eq=False)
class Work:
    """A request's arrays, who is told its outcome, and the seconds it may take in all. `prepared_s`: how long after the
    request's arrival its arrays were there, where they had to be made from text."""

    inputs: Inputs
    answer: Outcome
    allowed_s: float
    prepared_s: float = 0.0
