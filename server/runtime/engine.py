"""Carries the scheduler's decisions out: futures, timer, instances. Lives on the event loop; decides nothing itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from server.backends.base import TextError
from server.core.costs import CostTable
from server.core.events import (
    Action,
    Answer,
    Cancel,
    Emit,
    Event,
    Fail,
    InstanceLost,
    InstanceUp,
    Iterate,
    Open,
    Recost,
    Refuse,
    Release,
    Run,
    StepDone,
    StepFailed,
    Submit,
)  # fmt: skip
from server.core.resident_lane import ResidentLane
from server.core.types import GenerateRequest, InferRequest, ModelKey, Refusal
from server.errors import BadText, Cancelled, EngineLost, FerryError
from server.generation.options import Finish, Prompt, Sampling, TokenSink
from server.generation.serving import GeneratingModel
from server.runtime.assemble import Inputs
from server.runtime.clock import Clock
from server.runtime.driver import Driver
from server.runtime.entrance import QueueEntrance
from server.runtime.generating import Generating
from server.runtime.instance import Instances, Runner, StepResult, WorkBatch
from server.runtime.measuring import Trial
from server.runtime.refusals import failure, refused
from server.runtime.reply_time import within_s
from server.runtime.served import ServedModel
from server.runtime.served_decoder import ServedDecoder
from server.runtime.terms import Terms
from server.runtime.text_stage import TextRequest, TextStage
from server.runtime.work import Outcome, Work, WorkRequest

log = logging.getLogger(__name__)

TURN_ROWS = 64
"""When so many rows have come in during one turn of the event loop, they do not wait for its end: under overload a turn
reads from a thousand connections and takes longer than a small model's SLO."""


class Engine(QueueEntrance):
    """All models of one process. Every method must be called on the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, broken: Callable[[], None] = lambda: None) -> None:
        """`broken`: is called once if a bug has left the scheduler in nobody knows what state. Then all that were accepted have been
        told to try again, as is whoever still comes: the process had better end."""
        super().__init__(clock, Driver(loop, clock, self._carry_out, self._hurry, self._give_up))
        self._loop = loop
        self._broken = broken
        self._is_given_up = False
        self._generating = Generating(loop, clock, self._driver)
        self.ring = self._driver.ring
        self._models: dict[ModelKey, ServedModel] = {}
        self._instances: dict[ModelKey, Instances] = {}
        self._texts: dict[ModelKey, TextStage] = {}
        self._trials: dict[int, Trial] = {}

    def __repr__(self) -> str:
        return f"<Engine {self._driver.scheduler!r}>"

    @property
    def n_requests(self) -> int:
        """How many came so far, of all models; batches that were tried out count too."""
        return self._driver.n_requests

    @property
    def tightest_slo_s(self) -> float:
        """Of all classes of all open models, of which there must be one, and between the tokens of those that generate."""
        return min([*self._generating.promises_s, *[one.slo_s for model in self._models.values() for one in model.classes.all]])

    def submit(
        self, model: ServedModel, inputs: Inputs, rows: int, length: int, answer: Outcome, timeout_s: float | None = None,
        arrived_at: float | None = None, priority: int = 0, client: int = 0,
    ) -> WorkRequest:  # fmt: skip
        """Queue one request; `answer` is told its outputs or a FerryError, later than this returns.

        Those of requests before may be told meanwhile.

        `timeout_s`: what the client allows, if shorter than the SLO it counts, from `arrived_at` (now by default). `priority`: one
        of the model's classes, 0 for the default. `client` does not matter here: see `rationed`.
        Requests that come in one turn of the event loop reach the scheduler together, so that they can share a batch even
        on an idle device.
        """
        arrived_at, deadline_at, work = self._accept(model, inputs, answer, timeout_s, arrived_at, priority)
        urgency = model.classes.urgency(priority) if priority else 0
        request = InferRequest(self._driver.n_requests, model.key, rows, length, arrived_at, deadline_at, work, urgency)
        if self._driver.n_arrived_rows >= TURN_ROWS:
            self._hurry()
        self._driver.add(request)
        return request

    def submit_text(
        self, model: ServedModel, text: str, truncate: bool, answer: Outcome, timeout_s: float | None = None,
        arrived_at: float | None = None, priority: int = 0,
    ) -> TextRequest:  # fmt: skip
        """Queue one text of a model that takes text: tokenised off the event loop, then a request like any other, of one row.

        Its time runs from `arrived_at`, tokenising included. `truncate`: cut it if it has too many tokens.
        """
        stage = self._texts.get(model.key)
        arrived_at, deadline_at, work = self._accept(model, {}, answer, timeout_s, arrived_at, priority)
        cost_s = stage.cost_s(text) if stage else 0.0
        urgency = model.classes.urgency(priority)
        request = TextRequest(
            self._driver.n_requests, model.key, text, truncate, arrived_at, deadline_at, work, cost_s, urgency
        )
        if stage is None:
            self._loop.call_soon(self.text_refused, request, Refusal.DRAINING, None)
        else:
            stage.add(request)
        return request

    def charge(self, model: ServedModel, client: int, rows: int, length: int) -> None:
        """Everybody may have as much as is there: see `rationed` for another engine."""

    def _accept(
        self, model: ServedModel, inputs: Inputs, answer: Outcome, timeout_s: float | None, arrived_at: float | None,
        priority: int,
    ) -> tuple[float, float, Work]:  # fmt: skip
        """One request more, whose number is the driver's last one: its arrival, its deadline and its payload."""
        if arrived_at is None:
            arrived_at = self._clock()
        slo_s = model.classes.of(priority).slo_s if priority else model.slo_s
        if timeout_s is not None and timeout_s < slo_s:
            slo_s = timeout_s
        self._driver.next_id()
        model.stats.arrived()
        return arrived_at, arrived_at + within_s(slo_s), Work(inputs, answer, slo_s)

    def named(self, number: int, name: str) -> None:
        """Note what its client calls the request of this number."""
        self.ring.name(number, name)

    def cancel(self, request: WorkRequest | TextRequest) -> None:
        """The client is gone. Harmless when the request has its outcome already."""
        if request.payload.answer.done():
            return
        scheduled = request.request if isinstance(request, TextRequest) else request
        if scheduled is not None:
            self._driver.flush()  # it may not have reached the scheduler yet
            self._driver.feed(Cancel(scheduled))
        if request.payload.answer.done():
            return
        request.payload.answer.set_exception(Cancelled("the client closed the connection"))
        self._models[request.model].stats.cancelled()

    def generate(
        self, model: GeneratingModel, prompt: Prompt, sampling: Sampling, sink: TokenSink, timeout_s: float | None = None,
        arrived_at: float | None = None, priority: int = 0, client: int = 0,
    ) -> GenerateRequest[object]:  # fmt: skip
        """Satisfies serving.GeneratingEngine. `client` does not matter here: see `rationed`."""
        return self._generating.generate(model, prompt, sampling, sink, timeout_s, arrived_at, priority)

    def charge_prompts(self, model: GeneratingModel, prompts: Sequence[Prompt], client: int) -> None:
        """Everybody may have as much as is there: see `rationed` for another engine."""

    def stop(self, request: GenerateRequest[object], why: Finish | None = None) -> None:
        """Satisfies serving.GeneratingEngine."""
        self._generating.stop(request, why)

    def resident_lane(self, key: ModelKey) -> ResidentLane[Any] | None:
        """Like `lane`, for a model that generates."""
        return self._generating.lane(key)

    def open_generating(self, model: ServedDecoder) -> None:
        """Start the instances of a model that generates, and take requests for it."""
        self._generating.open(model)

    async def close_generating(self, model: ServedDecoder) -> None:
        """Refuse new requests, let the accepted ones end, then stop the instances and give the memory back."""
        await self._generating.close(model)

    def open(self, model: ServedModel) -> None:
        """Start the model's instances and take requests for it."""
        terms = model.terms
        self._models[model.key] = model
        if model.reader is not None:
            self._texts[model.key] = TextStage(model, model.reader, self._loop, self._clock, self)
        self._driver.feed(Open(model.key, terms.limits, terms.mixing, terms.costs, terms.device))
        if not model.inline:  # an inline batch takes no time to speak of, and our own share of it is not in the profile
            model.stats.follow(self._driver.scheduler.lane(model.key))
        self._instances[model.key] = self._make_instances(model)
        for _ in range(model.placement.instances):
            self._add_instance(model)

    def recost(self, model: ServedModel, terms: Terms) -> None:
        """Serve an open model by costs that were measured, at the same placement."""
        assert isinstance(terms.costs, CostTable), "measured costs are known"
        model.adopt(terms)
        self._driver.feed(Recost(model.key, terms.limits, terms.costs))

    def try_out(self, model: ServedModel, inputs: Inputs, rows: int, length: int, answer: Trial) -> bool:
        """Run a batch of nobody's on each instance, if the device has nothing else to do; False if it has. It counts in no
        statistics."""
        lane = self.lane(model.key)
        if (
            lane is None
            or lane.draining
            or self._driver.arrived
            or any(one.running or one.waiting for one in lane.device.lanes)
        ):
            return False
        for _ in range(model.placement.instances):
            number, now = self._driver.next_id(), self._clock()
            self._trials[number] = answer
            work = Work(inputs, answer, model.slo_s)
            trial = InferRequest(number, model.key, rows, length, now, now + model.slo_s, work)
            self._driver.feed(Submit(model.key, (trial,)))
        return True

    async def close(self, model: ServedModel) -> None:
        """Refuse new requests, answer the accepted ones, then stop the instances and give the memory back."""
        await self._close_texts(model)
        await self._driver.drain(model.key)
        instances = self._instances.pop(model.key)
        instances.stop()
        await asyncio.to_thread(instances.join)
        model.session.close()
        del self._models[model.key]

    def texts_ready(self, model: ServedModel, requests: Sequence[WorkRequest]) -> None:
        """Satisfies text_stage.Customer."""
        self._driver.arrived.setdefault(model.key, []).extend(requests)
        self._driver.flush()

    def text_refused(self, text: TextRequest, why: Refusal, retry_after_s: float | None) -> None:
        """Satisfies text_stage.Customer."""
        if not text.payload.answer.done():
            self._end(text, refused(self._models.get(text.model), text, why, retry_after_s))

    def text_failed(self, text: TextRequest, reason: TextError) -> None:
        """Satisfies text_stage.Customer."""
        self._end(text, BadText(f"model {text.model}: {reason}"))

    async def _close_texts(self, model: ServedModel) -> None:
        """Texts that wait get their tokens and go to the scheduler before it is told to drain."""
        stage = self._texts.pop(model.key, None)
        if stage is not None:
            await stage.drain()
            stage.stop()
            await asyncio.to_thread(stage.join)

    def _make_instances(self, model: ServedModel) -> Instances:
        def report(result: StepResult) -> None:
            self._step_ended(model, result)

        def lost(batch: WorkBatch, detail: str) -> None:
            self._instance_lost(model, batch, detail)

        def is_brief(batch: WorkBatch) -> bool:
            return lane.costs.is_brief(batch.rows, batch.length)

        lane = self._driver.scheduler.lane(model.key)
        runner = Runner(model.session, model.assembler, self._clock)
        return Instances(str(model.key), runner, self._loop, report, lost, is_brief)

    def _add_instance(self, model: ServedModel) -> None:
        self._instances[model.key].add()
        self._driver.feed(InstanceUp(model.key))

    def _instance_lost(self, model: ServedModel, batch: WorkBatch, detail: str) -> None:
        model.stats.instance_lost()
        self._driver.feed(InstanceLost(model.key, batch, detail))
        if self.lane(model.key) is not None:  # a draining model too needs one for what still waits
            self._add_instance(model)

    def _hurry(self) -> None:
        """What has arrived reaches the scheduler, and the brief batches that come of it run at once."""
        hurried = [self._instances[key] for key in self._driver.arrived if key in self._instances]
        for instances in hurried:
            instances.hold()
        try:
            self._driver.flush()
        finally:
            for instances in hurried:
                instances.hurry()

    def _step_ended(self, model: ServedModel, result: StepResult) -> None:
        batch = result.batch
        event: Event[Work] = StepDone(batch, result.began_at) if result.error is None else StepFailed(batch, result.error)
        is_trial = bool(self._trials) and self._note_trial(result)
        self._driver.feed(event, result)
        if result.error is None and not is_trial:
            useful = sum(request.rows * request.length for request in batch.requests)
            share = 1 - useful / (batch.rows * batch.length) if batch.length else 0.0
            model.stats.stepped(result, batch.close, batch.rows, share)

    def _note_trial(self, result: StepResult) -> bool:
        """Whether the batch was one that is tried out; then its time is told."""
        trial = self._trials.get(result.batch.requests[0].id)
        if trial is None or len(result.batch.requests) > 1:
            return False
        trial.took(result.computed_at - result.joined_at)
        return True

    def _carry_out(self, action: Action[Any], result: Any) -> None:
        match action:
            case Run(batch):
                self._instances[batch.model].start(batch)
            case Answer(_, requests):
                self._answer(requests, result)
            case Refuse(GenerateRequest()) | Fail(GenerateRequest()):
                self._generating.carry_out(action, result)
            case Refuse(request, why, retry_after_s):
                self._end(request, refused(self._models.get(request.model), request, why, retry_after_s))
            case Fail(request, why, detail):
                self._end(request, failure(request, why, detail))
            case Iterate() | Emit() | Release():
                self._generating.carry_out(action, result)

    def _answer(self, requests: tuple[WorkRequest, ...], result: StepResult) -> None:
        batch = result.batch
        answers: Any = zip(batch.requests, result.answers, strict=True)
        if len(requests) < len(batch.requests):
            wanted = {request.id for request in requests}
            answers = [(request, outputs) for request, outputs in answers if request.id in wanted]
        now = self._clock()
        for request, outputs in answers:
            answer = request.payload.answer
            if not answer.done():  # its task may have been cancelled: that is not its batch-mates' affair
                try:
                    answer.set_result(outputs)
                except Exception:  # nor is a bug where it is told
                    log.exception("request %d could not be told its answer: a bug in ferry", request.id)
        if self._trials:
            requests = tuple([request for request in requests if self._trials.pop(request.id, None) is None])
        self._models[batch.model].stats.answered(requests, result, now)

    def _end(self, request: WorkRequest | TextRequest, error: FerryError) -> None:
        if not request.payload.answer.done():
            try:
                request.payload.answer.set_exception(error)
            except Exception:  # as in _answer
                log.exception("request %d could not be told that it failed: a bug in ferry", request.id)
        model = self._models.get(request.model)
        is_trial = bool(self._trials) and self._trials.pop(request.id, None) is not None
        if model is not None and not is_trial:
            model.stats.ended(request.arrived_at, error, self._clock())

    def _give_up(self, requests: Sequence[InferRequest[Any]]) -> None:
        """After a bug: each is told, whatever it waits for."""
        for request in requests:
            error = EngineLost(
                f"a bug in ferry ended the engine that had this request for model {request.model}; it starts anew, try again"
            )
            try:
                if isinstance(request, GenerateRequest):
                    self._generating.fail(request, error)
                elif not request.payload.answer.done():
                    self._end(request, error)
            except Exception:  # what broke may break this too: the others are told all the same
                log.exception("request %d could not be told of a bug in ferry", request.id)
        if not self._is_given_up:
            self._is_given_up = True
            self._broken()
