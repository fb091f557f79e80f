"""Who waits for an outcome. The scheduler knows it too, but after a bug nobody can say what it has mislaid: so the books are kept twice."""

from __future__ import annotations

from typing import Any

from server.core.events import Action, Answer, Cancel, Emit, Event, Fail, Refuse, Submit
from server.core.types import InferRequest


class Owed:
    """Requests that were accepted and have not been told yet what became of them, in the order they came."""

    def __init__(self) -> None:
        self._requests: dict[int, InferRequest[Any]] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def expect(self, event: Event[Any]) -> None:
        """Whom the event brings, or takes away."""
        if isinstance(event, Submit):
            for request in event.requests:
                self._requests[request.id] = request
        elif isinstance(event, Cancel):
            self._requests.pop(event.request.id, None)

    def settle(self, action: Action[Any]) -> None:
        """What was decided for some has been carried out: they have their outcome. Others may have got theirs meanwhile."""
        match action:
            case Answer():
                over = action.requests
            case Refuse() | Fail():
                self._requests.pop(action.request.id, None)
                return
            case Emit():
                over = action.ended
            case _:
                return
        for request in over:
            self._requests.pop(request.id, None)

    def take_all(self) -> list[InferRequest[Any]]:
        """Everybody who is owed an outcome; whoever takes them sees to that."""
        requests = list(self._requests.values())
        self._requests.clear()
        return requests
