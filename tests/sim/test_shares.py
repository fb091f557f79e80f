"""What a share for each client is worth, in virtual time: one that asks for three times what there is, and one that asks for little."""

from __future__ import annotations

import random

import pytest

from server.core.rates import Buckets
from server.simulation.clients import Request, ask, merged, poisson_times
from server.simulation.laws import steady
from server.simulation.station import Served, serve
from tests.sim.test_targets import COSTS, NOISE, PEAK, SEEDS, SLO_S

SHARE, BURST_S = 0.5, 0.05


def within_share(requests: list[Request]) -> list[Request]:
    """Those that their client may have."""
    buckets = Buckets(SHARE, SHARE * BURST_S, 1)
    return [request for request in requests if buckets.take(1, COSTS.row_s(0), request.arrived_at) == 0]


@pytest.mark.parametrize("seed", SEEDS)
def test_one_client_cannot_starve_the_rest(seed: int) -> None:
    rnd = random.Random(seed)
    greedy = ask(poisson_times(3 * PEAK, 15_000, rnd), rnd, SLO_S)
    modest = ask(poisson_times(0.2 * PEAK, 1_000, rnd), rnd, SLO_S)
    until = greedy[-1].arrived_at
    theirs = {request.arrived_at for request in modest}

    def modest_in_time(of_the_greedy: list[Request]) -> float:
        tally = serve(merged(of_the_greedy, modest), Served(COSTS, truth=steady(NOISE, rnd)))
        return tally.in_time_share(lambda request: request.arrived_at in theirs)

    assert modest_in_time(greedy) < 0.4, "without shares both lose alike"
    granted = within_share(greedy)
    assert modest_in_time(granted) >= 0.99
    assert len(granted) / until == pytest.approx(SHARE * PEAK, rel=0.02), "and the greedy one has its share in full"
