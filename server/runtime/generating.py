"""The half of the engine for models that generate: their instances, and who is told of which token. Lives on the event loop; decides
nothing itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from server.core.events import (
    Action,
    Cancel,
    Emit,
    Fail,
    InstanceLost,
    InstanceUp,
    Iterate,
    IterationDone,
    IterationFailed,
    OpenResident,
    Refuse,
    Release,
)  # fmt: skip
from server.core.resident_lane import ResidentLane
from server.core.types import GenerateRequest, ModelKey
from server.errors import FerryError, ModelFailed
from server.generation.asked import Asked, Asking
from server.generation.options import Finish, Prompt, Sampling, TokenSink
from server.generation.serving import GeneratingModel
from server.generation.stepper import Got, Stepped, Stepper
from server.runtime.clock import Clock
from server.runtime.driver import Driver
from server.runtime.refusals import failure, refused_generating
from server.runtime.reply_time import within_s
from server.runtime.resident_instances import ResidentInstances, StepReport
from server.runtime.served_decoder import ServedDecoder
from server.telemetry.generating_stats import StepTimes, Told

log = logging.getLogger(__name__)


class Generating:
    """All models of one process that generate."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, driver: Driver) -> None:
        self._loop = loop
        self._clock = clock
        self._driver = driver
        self._models: dict[ModelKey, ServedDecoder] = {}
        self._instances: dict[ModelKey, ResidentInstances] = {}

    @property
    def promises_s(self) -> list[float]:
        """What is promised between two tokens, by each open model."""
        return [model.gap_s for model in self._models.values()]

    def lane(self, key: ModelKey) -> ResidentLane[Any] | None:
        """The scheduler's books for one model, to read only; None when it is not open."""
        try:
            return self._driver.scheduler.resident_lane(key)
        except KeyError:
            return None

    def open(self, model: ServedDecoder) -> None:
        """Start its instances and take requests for it."""
        terms = model.terms
        self._models[model.key] = model
        self._driver.feed(OpenResident(model.key, terms.limits, terms.costs, terms.device))
        model.stats.follow(self._driver.scheduler.resident_lane(model.key))
        self._instances[model.key] = ResidentInstances(
            str(model.key), partial(_stepper, model), self._loop, self._clock, partial(self._step_ended, model), partial(self._lost, model)
        )  # fmt: skip
        for number in range(terms.placement.instances):
            self._add_instance(model, number)

    async def close(self, model: ServedDecoder) -> None:
        """Refuse new requests, let the accepted ones end, then stop the instances and give the memory back."""
        await self._driver.drain(model.key)
        instances = self._instances.pop(model.key)
        instances.stop()
        await asyncio.to_thread(instances.join)
        for decoder in model.decoders:
            decoder.close()
        del self._models[model.key]

    def generate(
        self, model: GeneratingModel, prompt: Prompt, sampling: Sampling, sink: TokenSink, timeout_s: float | None = None,
        arrived_at: float | None = None, priority: int = 0,
    ) -> GenerateRequest[object]:  # fmt: skip
        """See serving.GeneratingEngine."""
        arrived_at = self._clock() if arrived_at is None else arrived_at
        slo_s = model.classes.of(priority).slo_s
        if timeout_s is not None and timeout_s < slo_s:
            slo_s = timeout_s
        asked = Asked(np.asarray(prompt.ids, np.int64), sampling, sink, slo_s)
        assert min(asked.ids.size, prompt.new_tokens) >= 1, "the caller saw to that"
        request: GenerateRequest[Any] = GenerateRequest(
            self._driver.next_id(), model.key, 1, asked.ids.size, arrived_at, arrived_at + within_s(slo_s), asked,
            model.classes.urgency(priority), new_tokens=prompt.new_tokens,
        )  # fmt: skip
        served = self._models.get(model.key)
        if served is not None:
            served.stats.arrived()
        self._driver.add(request)
        return request

    def stop(self, request: GenerateRequest[Any], why: Finish | None = None) -> None:
        """See serving.GeneratingEngine."""
        asked: Asked = request.payload
        if asked.is_over:
            return
        asked.is_over = True
        self._driver.flush()  # it may not have reached the scheduler yet
        self._driver.feed(Cancel(request))
        model = self._models.get(request.model)
        if model is None:
            return
        if why is None:
            model.stats.cancelled()
        else:
            now = self._clock()
            model.stats.finished([now - request.arrived_at], now)
        self._count(model)

    def carry_out(self, action: Action[Any], stepped: Stepped | None) -> None:
        """A decision about requests that generate; `stepped`: what came of the step that brought it about."""
        match action:
            case Iterate(iteration):
                self._instances[iteration.model].start(action)
            case Release():
                self._instances[action.model].release(action)
            case Emit(iteration, requests):
                assert stepped is not None, "tokens come from steps"
                self._tell(self._models[iteration.model], requests, stepped.got)
            case Refuse(GenerateRequest() as request, why, retry_after_s):
                self.fail(request, refused_generating(self._models.get(request.model), request, why, retry_after_s))
            case Fail(GenerateRequest() as request, why, detail):
                self.fail(request, failure(request, why, detail))

    def fail(self, request: Asking, error: FerryError) -> None:
        """It gets nothing more but this, unless it is over."""
        if not request.payload.is_over:  # else its client is gone, and was counted
            self._fail(request, error)

    def _fail(self, request: Asking, error: FerryError) -> None:
        asked = request.payload
        asked.is_over = True
        try:
            asked.sink.failed(error)
        except Exception:  # as for tokens
            log.exception("request %d could not be told that it failed: a bug in ferry", request.id)
        model = self._models.get(request.model)
        if model is not None:
            model.stats.ended(request.arrived_at, error, self._clock())

    def _step_ended(self, model: ServedDecoder, report: StepReport) -> None:
        stepped, iteration = report.stepped, report.iteration
        if stepped is None:
            self._driver.feed(IterationFailed(iteration, report.error or ""))
        else:
            for request in [chunk.request for chunk in iteration.chunks if chunk.request.id in stepped.known]:
                request.payload.n_known = stepped.known[request.id]
            ended = tuple([got.request for got in stepped.got if got.finish is not None])
            self._driver.feed(IterationDone(iteration, ended, report.began_at, stepped.known), stepped)
            times = StepTimes(report.began_at, report.began_at, report.ended_at, report.ended_at)
            model.stats.iterated(times, len(stepped.got), stepped.n_rows - len(iteration.decode))
            model.occupied.n_kept = stepped.n_kept
        self._count(model)

    def _tell(self, model: ServedDecoder, wanted: Sequence[Asking], got: Sequence[Got]) -> None:
        """Each client its token. Times count from and until here: that is what they see."""
        now, ids = self._clock(), {request.id for request in wanted}
        firsts: list[Asking] = []
        gaps_s: list[float] = []
        whole_s: list[float] = []
        for one in got:
            request, asked = one.request, one.request.payload
            if request.id not in ids or asked.is_over:
                continue
            if asked.token_at is None:
                firsts.append(request)
            else:
                gaps_s.append(now - asked.token_at)
            try:
                is_whole = _tell_one(asked, now, one)
            except Exception:  # a bug where it is told: not its neighbours' affair
                log.exception("request %d could not be told a token: a bug in ferry", request.id)
                asked.is_over = True
                self._loop.call_soon(self._give_up, model, request)
                continue
            if is_whole:
                whole_s.append(now - request.arrived_at)
        known = [request.payload.n_known for request in firsts]
        told = Told(
            [now - request.arrived_at for request in firsts], gaps_s, whole_s, sum([request.length for request in firsts]), sum(known),
            sum([n_known > 0 for n_known in known]), sum([now - request.arrived_at > request.payload.allowed_s for request in firsts]),
        )  # fmt: skip
        model.stats.told(told, now)

    def _give_up(self, model: ServedDecoder, request: Asking) -> None:
        """What cannot be told any more need not be calculated. Later than now, for the driver is in the middle of a decision."""
        self._driver.feed(Cancel(request))
        self._fail(request, ModelFailed("the answer could not be told to its end; the server's log has the details"))
        self._count(model)

    def _add_instance(self, model: ServedDecoder, number: int) -> None:
        self._instances[model.key].add(number)
        self._driver.feed(InstanceUp(model.key, number))
        self._count(model)

    def _lost(self, model: ServedDecoder, number: int, detail: str) -> None:
        model.stats.instance_lost()
        self._driver.feed(InstanceLost(model.key, None, detail, number))
        if self.lane(model.key) is not None:  # a draining model too needs one for who still waits
            self._add_instance(model, number)

    def _count(self, model: ServedDecoder) -> None:
        lane = self.lane(model.key)
        occupied = model.occupied
        occupied.n_waiting = len(lane.waiting) if lane else 0
        occupied.n_resident = sum([len(place) for place in lane.places.values()]) if lane else 0
        occupied.n_slots = len(lane.places) * model.limits.slots if lane else 0


def _tell_one(asked: Asked, now: float, got: Got) -> bool:
    """Whether its answer is whole by that."""
    if asked.token_at is None:
        asked.sink.began(asked.n_known, got.scores)
    asked.token_at = now
    asked.sink.token(got.token, got.logprob)
    if got.finish is not None and not asked.is_over:  # its sink may just have stopped it
        asked.is_over = True
        asked.sink.ended(got.finish)
        return True
    return False


def _stepper(model: ServedDecoder, number: int) -> Stepper:
    return Stepper(model.decoders[number], model.generation.ends, model.limits.chunk)
