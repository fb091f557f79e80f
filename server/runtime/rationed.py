"""An engine that gives no client more than its share of the device's time. A server that rations nobody has the plain one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

from server.core.costs import Unmeasured
from server.core.rates import Buckets
from server.errors import RateLimited
from server.runtime.assemble import Inputs
from server.runtime.clock import Clock
from server.runtime.engine import Engine
from server.runtime.served import ServedModel
from server.runtime.work import Outcome, WorkRequest

MOST_CLIENTS = 65536
"""So many are told apart at a time; a client counts while its bucket is not full."""

REQUEST_S = 50e-6
"""What each request costs beside its batch: reading, scheduling and answering it keep the event loop busy for about so long."""


class RationedEngine(Engine):
    """A request is charged what it takes of the device by the model's profile, rows, lengths and instances considered, when
    it is accepted from the wire; what becomes of it later does not matter."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        share: float,
        burst_s: float,
        broken: Callable[[], None] = lambda: None,
    ) -> None:
        """`share`: seconds of the device's time per second for each client; who has been quiet may have that of `burst_s` at once.
        `broken`: see Engine."""
        super().__init__(loop, clock, broken)
        self._share = share
        self._buckets = Buckets(share, share * burst_s, MOST_CLIENTS)

    def arrival(self, model: ServedModel, arrived_at: float | None, priority: int = 0, client: int = 0) -> float:
        """Raises Refused, before anything is spent on decoding, also when its client may not have even the smallest request."""
        if client:
            wait_s = self._buckets.wait_s(client, cost_s(model, 1, model.shortest), self._clock())
            self._refuse_if(wait_s, model, 1)
        return super().arrival(model, arrived_at, priority, client)

    def submit(
        self, model: ServedModel, inputs: Inputs, rows: int, length: int, answer: Outcome, timeout_s: float | None = None,
        arrived_at: float | None = None, priority: int = 0, client: int = 0,
    ) -> WorkRequest:  # fmt: skip
        """Raises Refused when the client may not have so much."""
        if client:
            self.charge(model, client, rows, length)
        return super().submit(model, inputs, rows, length, answer, timeout_s, arrived_at, priority, client)

    def charge(self, model: ServedModel, client: int, rows: int, length: int) -> None:
        """Raises Refused, and charges nothing, when the client may not have so much."""
        wait_s = self._buckets.take(client, cost_s(model, rows, length), self._clock())
        self._refuse_if(wait_s, model, rows)

    def _refuse_if(self, wait_s: float, model: ServedModel, rows: int) -> None:
        if not wait_s:
            return
        share = f"client_share = {self._share:g} of the device's time"
        if wait_s == inf:
            error = RateLimited(
                f"{rows} row{'s' if rows > 1 else ''} for model {model.key} would take more than a client may have at once ({share}, saved up to "
                f"{self._buckets.burst * 1e3:g} ms); send fewer rows, or raise client_burst_s"
            )
        else:
            error = RateLimited(
                f"this client has had its {share} for now; send fewer requests, or raise client_share", retry_after_s=wait_s
            )
        self.turned_away(model, 0.0, error)
        raise error


def cost_s(model: ServedModel, rows: int, length: int) -> float:
    """Seconds of the device's time: so many rows at the best batch size, spread over the model's instances. While it is not known
    what they take, the request alone."""
    costs = model.terms.costs
    if isinstance(costs, Unmeasured):
        return REQUEST_S
    return REQUEST_S + rows * costs.row_s(length) / model.placement.instances
