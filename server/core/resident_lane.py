"""The scheduler's state for one open model whose requests stay resident for many steps: who waits, who is resident, what runs.

In every step of an instance all decode who have their first token; unfinished prompts and newcomers fill the time that is left.
"""

from __future__ import annotations

from collections.abc import Callable

from server.core.costs import StepCosts
from server.core.device import FLOOR, Device
from server.core.events import Action, Emit, Fail, Iterate, IterationDone, Release
from server.core.lifetimes import Lifetimes
from server.core.outlook import Outlook
from server.core.pace import RATE
from server.core.residents import Resident, Residents, Stepping
from server.core.step_forecast import StepForecast
from server.core.stepping import Plan
from server.core.tenant import Tenant, WhyNot
from server.core.types import (
    Chunk,
    Demand,
    Failure,
    GenerateRequest,
    InferRequest,
    Iteration,
    ModelKey,
    P,
    Refusal,
    ResidentLimits,
)  # fmt: skip
from server.core.waiting import Newcomers


class ResidentLane(Tenant[P]):
    """One generating model's queue and instances. The Scheduler mutates it; everybody else reads."""

    waiting: Newcomers[P]

    def __init__(self, model: ModelKey, limits: ResidentLimits, costs: StepCosts, device: Device[P]) -> None:
        assert limits.step_tokens >= limits.chunk, f"{limits!r}: a step must have room for a chunk"
        self.forecast = StepForecast(costs)
        super().__init__(model, Newcomers(self.forecast), device)
        self.limits = limits
        self.lifetimes = Lifetimes()
        self.places: dict[int, Residents[P]] = {}
        self.running: dict[int, Stepping[P]] = {}
        self.owed: dict[int, float] = {}
        self.step_s: float | None = None
        self._outlook: Outlook | None = None

    def __repr__(self) -> str:
        state = "draining" if self.draining else f"idle {self.idle}"
        return f"<{self.model} {state}, {list(self.places.values())!r}, {self.waiting!r}, {self.forecast!r}>"

    @property
    def is_empty(self) -> bool:
        return not self.waiting and not any(self.places.values())

    @property
    def wants_device(self) -> bool:
        return bool(self.waiting) or any(self._idle_places())

    @property
    def priority(self) -> int:
        waiting = [self.waiting.head] if self.waiting else []
        residents = [resident.request for place in self._idle_places() for resident in place.all()]
        return min([request.priority for request in [*waiting, *residents]])

    @property
    def patience_s(self) -> float:
        most_s = self.limits.gap_s / self.forecast.margin
        spares = [most_s - self._step_s(place) for place in self.places.values() if place.decoding]
        return min([self.slack_s, *[max(0.0, spare_s) for spare_s in spares]])

    @property
    def wake_at(self) -> float:
        return min([self.latest_start(head) for head in self.waiting.heads()])

    @property
    def next_s(self) -> float:
        return max([self._step_s(place) for place in self._idle_places()])

    @property
    def latest_safe_start(self) -> float:
        """Of those who decode that of their next token, of the others that of the first one."""
        starts = [self.latest_start(self.waiting.head)] if self.waiting else []
        for place in self._idle_places():
            starts += [self.latest_start(resident.request) for resident in place.prefilling.values()]
        return min([self.promised_start, *starts])

    @property
    def promised_start(self) -> float:
        decoding = [place for place in self._idle_places() if place.decoding]
        return min([self._next_due(one) - self._step_s(one) * self.forecast.margin for one in decoding], default=float("inf"))

    def is_active(self, now: float) -> bool:
        return super().is_active(now) or any(self.places.values())

    def is_ready(self, now: float) -> bool:
        return self.idle > 0 and self.wants_device

    def latest_start(self, request: InferRequest[P] | Demand) -> float:
        """The last moment at which this prompt, alone, can still give its first token in time."""
        return request.deadline_at - self.forecast.prefill_at_best_s(request.length)

    def work_before_s(self, priority: int, deadline_at: float, now: float) -> float:
        """Those who decode go first once in every gap, whoever waits; prompts have their turn."""
        steps = sum([self._decode_s(place) for place in self.places.values()])
        prompts_s = self.waiting.work_s * self.forecast.prefill_ratio * self.waiting.share_before(priority, deadline_at)
        return (prompts_s + steps * max(0.0, deadline_at - now) / self.limits.gap_s) / max(1, self.instances)

    def why_not(self, request: InferRequest[P], now: float) -> WhyNot | None:
        """Admission by predicted first token, for room and inter-token SLO that one request can ever have."""
        assert isinstance(request, GenerateRequest), f"{request!r} takes one step only"
        if request.room > min(self.limits.longest, self.limits.room):
            return Refusal.TOO_LONG, None
        if self.forecast.decode_at_best_s(1, request.room) > self.limits.gap_s:
            return Refusal.TOO_LONG, None
        if self.latest_start(request) < now:
            return Refusal.DEADLINE, None
        if len(self.waiting) >= self.limits.queue and self._is_full_for(request.priority):
            return Refusal.QUEUE_FULL, self.retry_after(now)
        if self.instances and not self.waiting and not all(self.places.values()) and not self.device.is_shared:
            return None  # an idle instance always tries: it is how a pessimistic forecast is unlearnt
        share = self.waiting.share_before(request.priority, request.deadline_at)
        late_s = (
            self._first_at(share, request.length, request.new_tokens, request.priority, request.deadline_at, now)
            - request.deadline_at
        )
        return None if late_s <= 0 else (Refusal.DEADLINE, late_s)

    def _is_full_for(self, priority: int) -> bool:
        """Whether the queue is full without those that are less urgent: they must not keep it from others."""
        return self.waiting.share_before(priority, float("inf")) * len(self.waiting) >= self.limits.queue

    def retry_after(self, now: float) -> float:
        return max(0.0, self._first_at(1.0, self.limits.chunk, 1, 0, now, now) - now)

    def _first_at(self, share: float, length: int, new_tokens: int, priority: int, deadline_at: float, now: float) -> float:
        """When a newcomer behind this share of those who wait would have its first token."""
        if self._outlook is None:
            self._outlook = Outlook(self.places, self.running, self.limits, self.forecast, self.lifetimes, self.step_s, now)
        waiting = self.waiting
        n_before, room_before, work_before_s = share * len(waiting), share * waiting.room, share * waiting.work_s
        first_at = self._outlook.first_at(n_before, room_before, work_before_s, length, new_tokens, now)
        return first_at + (self.device.work_before_s(self, priority, deadline_at, now) if self.device.is_shared else 0.0)

    def add_instance(self, now: float, instance: int) -> None:
        assert instance not in self.places, f"instance {instance} of {self.model} is up"
        self.instances += 1
        self.places[instance] = Residents(instance, self.limits)
        self._outlook = None

    def drop(self, request: InferRequest[P]) -> None:
        self.waiting.remove(request)

    def start_next(self, now: float, number: Callable[[], int]) -> list[Action[P]]:
        actions = self.refuse_late(now, at_wakeup=False)
        idle = self._idle_places()
        place = max(idle, key=len)
        if place.suspects:
            return [*actions, self._start(place, *self._alone(place, now), now, number())]
        plan = self._plan(place, now)
        if place.prefilling or (self.waiting and place.slots_left):
            n_may_join = -(-len(self.waiting) // len(idle))
            actions += self._fill(plan, place, n_may_join, now)
        if place.decoding or plan.chunks:
            actions.append(self._start(place, list(place.decoding.values()), plan, now, number()))
        return actions

    def _fill(self, plan: Plan[P], place: Residents[P], n_may_join: int, now: float) -> list[Action[P]]:
        """Chunks for those in line, in order, while there is time for them. A newcomer that has no slot, or no room, or would make a
        later step too long, is waited for: nothing smaller goes first. One that would be late even so is refused."""
        refused: list[Action[P]] = []
        for request in self._in_line(place):
            resident = place.prefilling.get(request.id)
            if resident is None:
                if not n_may_join or not self._fits(place, request, plan.n_finished):
                    n_may_join = 0
                    continue
                if place.decoding and plan.first_at(request) > request.deadline_at:
                    refused.append(self.refuse(request, now))
                    continue
            if not plan.add(request, resident.n_prefilled if resident else 0):
                break
            if resident is None:
                self.waiting.remove(request)
                place.join(request, self._n_likely(request))
                n_may_join -= 1
        self._settle(plan.chunks, place)
        return refused

    def _in_line(self, place: Residents[P]) -> list[GenerateRequest[P]]:
        """Whose prompt is next: who is owed it, else by urgency."""
        unfinished = [resident.request for resident in place.prefilling.values()]
        line = sorted([*unfinished, *self.waiting.first_few(place.slots_left)], key=_urgency)
        first: list[GenerateRequest[P]] = []
        for priority, tokens in self.owed.items():
            equals = [request for request in unfinished if request.priority == priority] + self.waiting.head_of(priority)
            head = min(equals, key=_urgency, default=None)
            if head is not None and head.room <= tokens:
                first.append(head)
        return first + [request for request in line if request not in first]

    def _settle(self, chunks: list[Chunk[P]], place: Residents[P]) -> None:
        """Each priority that still waits for its prompts is owed its floor of the tokens set out in this step, less what it got: those of
        its chunks, and the new ones of who joined. It goes first when it is owed all that its next one takes."""
        if not chunks:
            return
        wants = {resident.request.priority for resident in place.prefilling.values()}
        wants.update(head.priority for head in self.waiting.heads())
        got: dict[int, int] = {}
        for chunk in chunks:
            got[chunk.request.priority] = got.get(chunk.request.priority, 0) + claim(chunk)
        floor, most = FLOOR * sum(got.values()), float(self.limits.longest)
        owed = {}
        if len(wants | got.keys()) > 1:
            for priority in wants:
                tokens = self.owed.get(priority, 0.0) + floor - got.get(priority, 0)
                owed[priority] = min(max(-most, tokens), most)
        self.owed = owed

    def _fits(self, place: Residents[P], request: GenerateRequest[P], n_finished: int) -> bool:
        """Whether it may join: a slot and room are left, and when all have as many tokens as is likely a step still keeps the
        inter-token SLO, with a chunk of a prompt unless all prompts are done (`n_finished` of them in this step): who begins can go on."""
        if not place.slots_left or place.room_left < request.room:
            return False
        if not place:
            return True
        context = int(place.n_likely + self._n_likely(request))
        step_s = self.forecast.decode_s(len(place) + 1, context)
        if request.length > self.limits.chunk or len(place.prefilling) > n_finished:
            step_s += self.forecast.prefill_s(self.limits.chunk)
        return step_s * self.forecast.margin <= self.limits.gap_s

    def _n_likely(self, request: GenerateRequest[P]) -> float:
        return request.length + request.new_tokens * self.lifetimes.shares(0.0)[-1]

    def _plan(self, place: Residents[P], now: float) -> Plan[P]:
        most_s = self._most_s(place, now)
        if self.device.is_shared:
            most_s = min(most_s, self.device.most_s(self, now))
        return Plan(self.limits, self.forecast, self._decode_s(place), most_s, now)

    def _most_s(self, place: Residents[P], now: float) -> float:
        """How long a step may be expected to take, for the inter-token SLO of those who decode."""
        return (self._next_due(place) - now) / self.forecast.margin if place.decoding else float("inf")

    def _next_due(self, place: Residents[P]) -> float:
        """When those who decode must have their next token."""
        return place.stepped_at + self.limits.gap_s

    def _step_s(self, place: Residents[P]) -> float:
        """Expected time of its next step, with one chunk if any prompt is to be worked off."""
        has_prompts = place.prefilling or (self.waiting and place.slots_left)
        return self._decode_s(place) + (self.forecast.prefill_s(self.limits.chunk) if has_prompts else 0.0)

    def _decode_s(self, place: Residents[P]) -> float:
        return self.forecast.decode_s(len(place.decoding), place.context)

    def _alone(self, place: Residents[P], now: float) -> tuple[list[Resident[P]], Plan[P]]:
        """After a step failed each that was in it runs without company, so that only the culprit fails."""
        suspect = min([one for one in place.all() if one.request.id in place.suspects], key=lambda one: _urgency(one.request))
        if suspect.n_new:
            kept = suspect.n_prefilled + suspect.n_new
            return [suspect], Plan(self.limits, self.forecast, self.forecast.decode_s(1, kept), 0.0, now)
        plan = Plan[P](self.limits, self.forecast, 0.0, self._most_s(place, now), now)
        plan.add(suspect.request, suspect.n_prefilled)
        return [], plan

    def _start(self, place: Residents[P], decode: list[Resident[P]], plan: Plan[P], now: float, number: int) -> Action[P]:
        context = place.context if len(decode) == len(place.decoding) else sum([one.n_prefilled + one.n_new for one in decode])
        requests = tuple([resident.request for resident in decode])
        iteration = Iteration(number, self.model, place.instance, requests, tuple(plan.chunks), context, now)
        costs = self.forecast.costs
        decode_s = costs.decode_s(len(decode), context) if decode else 0.0
        self.running[place.instance] = Stepping(iteration, now + plan.takes_s, decode_s, self._prefill_s(iteration))
        self._outlook = None
        if self.device.is_shared:
            self.device.started(self, plan.takes_s)
        return Iterate(iteration, may_go_on=not place.suspects and self.device.is_left_to(self, now))

    def finish(self, done: IterationDone[P], now: float) -> tuple[list[Action[P]], list[Action[P]]]:
        """A step ran. Returns who is gone, which the next step may build on, and what clients are told after that."""
        iteration = done.ran
        place, stepping = self._take_off(done.iteration)
        took_s = now - (iteration.formed_at if done.began_at is None else done.began_at)
        prefill_s = self._prefill_s(iteration) if done.known else stepping.prefill_s
        self.forecast.learn(stepping.decode_s, prefill_s, took_s)
        if iteration.decode:
            self.step_s = took_s if self.step_s is None else self.step_s + RATE * (took_s - self.step_s)
        place.suspects.difference_update(
            [request.id for request in iteration.decode], [chunk.request.id for chunk in iteration.chunks]
        )
        got = place.advance(iteration, now)
        last = {request.id for request in done.ended}
        for resident in got:
            if resident.request.id in last:
                place.leaving.append(resident)
                self.lifetimes.learn(resident.n_new, resident.request.new_tokens)
            else:
                assert resident.n_new < resident.request.new_tokens, f"{resident!r} has all its tokens"
        tokens = tuple([resident.request for resident in got if resident.is_wanted])
        emit: list[Action[P]] = (
            [Emit(done.iteration, tokens, tuple([one for one in tokens if one.id in last]))] if tokens else []
        )
        return self._let_go(place), emit

    def fail(self, iteration: Iteration[P], detail: str) -> tuple[list[Action[P]], list[Action[P]]]:
        """A step raised. One bad request must not fail the others: each of them runs again, alone. Returns the same as finish()."""
        place, _ = self._take_off(iteration)
        ids = [request.id for request in iteration.decode] + [chunk.request.id for chunk in iteration.chunks]
        failed: list[Action[P]] = []
        if len(ids) == 1:
            culprit = next(resident for resident in place.all() if resident.request.id == ids[0])
            if culprit.is_wanted:
                place.leaving.append(culprit)
                failed.append(Fail(culprit.request, Failure.MODEL, detail))
        else:
            place.suspects.update(ids)
        return self._let_go(place), failed

    def lose(self, instance: int, detail: str) -> list[Action[P]]:
        """An instance died, and with it what it kept for its residents."""
        place = self.places.pop(instance)
        self.running.pop(instance, None)
        self.instances -= 1
        self._outlook = None
        return [Fail(resident.request, Failure.INSTANCE_LOST, detail) for resident in place.all() if resident.is_wanted]

    def cancel(self, request: InferRequest[P]) -> list[Action[P]]:
        """Forget a request wherever it is; one that is resident leaves before the next step."""
        if self.waiting.remove(request):
            return []
        for place in self.places.values():
            resident = place.of(request)
            if resident is None or not resident.is_wanted:
                continue
            resident.is_wanted = False
            place.leaving.append(resident)
            return [] if place.instance in self.running else self._let_go(place)
        return []

    def _prefill_s(self, iteration: Iteration[P]) -> float:
        """By the profile."""
        return sum([self.forecast.costs.prefill_s(chunk.stop - chunk.start) for chunk in iteration.chunks])

    def _take_off(self, iteration: Iteration[P]) -> tuple[Residents[P], Stepping[P]]:
        place, stepping = self.places[iteration.instance], self.running.pop(iteration.instance)
        assert stepping.iteration is iteration, f"{iteration!r} does not run"
        self._outlook = None
        return place, stepping

    def _let_go(self, place: Residents[P]) -> list[Action[P]]:
        """Free the slots of those who leave."""
        self._outlook = None
        gone = tuple([resident.request for resident in place.let_go()])
        return [Release(self.model, place.instance, gone)] if gone else []

    def _idle_places(self) -> list[Residents[P]]:
        return [place for place in self.places.values() if place.instance not in self.running]


def claim(chunk: Chunk[P]) -> int:
    """The tokens that a chunk sets out: its own, and with the first those to be generated."""
    return chunk.stop - chunk.start + (0 if chunk.start else chunk.request.new_tokens)


def _urgency(request: InferRequest[P]) -> tuple[int, float, int]:
    return request.priority, request.deadline_at, request.id
