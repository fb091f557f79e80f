"""A simulation whose every event is checked against the laws."""

from __future__ import annotations

from collections.abc import Sequence

from server.core.events import Action, Event
from server.core.invariants import Onlooker
from server.core.scheduler import Scheduler
from server.simulation.clients import Request
from server.simulation.station import Served, serve
from server.simulation.tally import Tally


def watched(requests: Sequence[Request], *models: Served) -> Tally:
    """serve() under the eye of the Onlooker; raises BrokenLaw."""
    onlookers: list[Onlooker[int]] = []

    def see(scheduler: Scheduler[int], event: Event[int], actions: list[Action[int]], now: float) -> None:
        if not onlookers:
            onlookers.append(Onlooker(scheduler))
        onlookers[0].see(event, actions, now)

    tally = serve(requests, *models, see=see)
    onlookers[0].end()
    return tally
