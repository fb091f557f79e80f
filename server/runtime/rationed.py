"""An engine that gives no client more than its share of the device's time. A server that rations nobody has the plain one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import inf

from server.core.costs import Unmeasured
from server.core.rates import Buckets
from server.core.types import GenerateRequest
from server.errors import FerryError, RateLimited
from server.generation.options import Finish, LogProb, Prompt, Sampling, TokenSink
from server.generation.serving import GeneratingModel
from server.runtime.assemble import Inputs
from server.runtime.clock import Clock
from server.runtime.engine import Engine
from server.runtime.served import ServedModel
from server.runtime.served_decoder import ServedDecoder
from server.runtime.work import Outcome, WorkRequest

MOST_CLIENTS = 65536
"""So many are told apart at a time; a client counts while its bucket is not full."""

REQUEST_S = 50e-6
"""What each request costs beside its batch: reading, scheduling and answering it keep the event loop busy for about so long."""


class RationedEngine(Engine):
    """A request is charged what it takes of the device by the model's profile, rows, lengths and instances considered, when
    it is accepted from the wire; what becomes of it later does not matter. One that generates pays for its tokens as they come."""

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
            self._refuse_if(wait_s, model, *_rows(1))
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
        self._refuse_if(wait_s, model, *_rows(rows))

    def generate(
        self, model: GeneratingModel, prompt: Prompt, sampling: Sampling, sink: TokenSink, timeout_s: float | None = None,
        arrived_at: float | None = None, priority: int = 0, client: int = 0,
    ) -> GenerateRequest[object]:  # fmt: skip
        """Its tokens are charged as they come: nobody knows how many there will be. Its prompt was, by `charge_prompts`."""
        if client:
            assert isinstance(model, ServedDecoder), "there are no others here"
            _, token_s = generating_cost_s(model, len(prompt.ids), prompt.new_tokens)
            sink = _Charged(sink, lambda: self._buckets.charge(client, token_s, self._clock()))
        return super().generate(model, prompt, sampling, sink, timeout_s, arrived_at, priority, client)

    def charge_prompts(self, model: GeneratingModel, prompts: Sequence[Prompt], client: int) -> None:
        """All or none. Raises Refused when the client may not have them."""
        assert isinstance(model, ServedDecoder), "there are no others here"
        cost = sum(generating_cost_s(model, len(one.ids), one.new_tokens)[0] for one in prompts)
        n_tokens = sum(len(one.ids) for one in prompts)
        what = (
            f"a prompt of {n_tokens} tokens" if len(prompts) == 1 else f"{len(prompts)} prompts of {n_tokens} tokens together"
        )
        wait_s = self._buckets.take(client, cost, self._clock())
        self._refuse_if(wait_s, model, what, "shorten the prompt" if len(prompts) == 1 else "ask for fewer answers at once")

    def _refuse_if(self, wait_s: float, model: ServedModel | ServedDecoder, what: str, less: str) -> None:
        """`what` the client may not have, and how it would ask for `less`."""
        if not wait_s:
            return
        share = f"client_share = {self._share:g} of the device's time"
        if wait_s == inf:
            error = RateLimited(
                f"{what} for model {model.key} would take more than a client may have at once ({share}, saved up to "
                f"{self._buckets.burst * 1e3:g} ms); {less}, or raise client_burst_s"
            )
        else:
            error = RateLimited(
                f"this client has had its {share} for now; send fewer requests, or raise client_share", retry_after_s=wait_s
            )
        model.stats.turned_away(error.label, 1, 0.0)
        raise error


class _Charged:
    """A sink whose client pays for each token. Satisfies TokenSink."""

    def __init__(self, sink: TokenSink, pay: Callable[[], None]) -> None:
        self._sink = sink
        self._pay = pay

    def began(self, n_cached: int, scores: Sequence[LogProb]) -> None:
        self._sink.began(n_cached, scores)

    def token(self, token: int, logprob: LogProb | None) -> None:
        self._pay()
        self._sink.token(token, logprob)

    def ended(self, why: Finish) -> None:
        self._sink.ended(why)

    def failed(self, error: FerryError) -> None:
        self._sink.failed(error)


def _rows(rows: int) -> tuple[str, str]:
    return f"{rows} row{'s' if rows > 1 else ''}", "send fewer rows"


def cost_s(model: ServedModel, rows: int, length: int) -> float:
    """Seconds of the device's time: so many rows at the best batch size, spread over the model's instances. While it is not known
    what they take, the request alone."""
    costs = model.terms.costs
    if isinstance(costs, Unmeasured):
        return REQUEST_S
    return REQUEST_S + rows * costs.row_s(length) / model.placement.instances


def generating_cost_s(model: ServedDecoder, n_prompt: int, new_tokens: int) -> tuple[float, float]:
    """Seconds of the device's time, spread over the model's instances: of a prompt, and of each token of its answer, with all slots in use and
    half of what may still come before it."""
    costs, slots, instances = model.terms.costs, model.limits.slots, model.placement.instances
    context = slots * (n_prompt + new_tokens // 2)
    prompt_s = REQUEST_S + costs.prefill_s(n_prompt) / instances
    return prompt_s, costs.decode_s(slots, context) / slots / instances
