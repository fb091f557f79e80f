"""Generating models in a random world: their clients, their instances and their accidents. See world.py."""

from __future__ import annotations

from server.core.costs import LinearSteps
from server.core.events import (
    Action,
    Cancel,
    Drain,
    InstanceLost,
    InstanceUp,
    Iterate,
    IterationDone,
    IterationFailed,
    OpenResident,
    Submit,
)  # fmt: skip
from server.core.types import GenerateRequest, Iteration, ModelKey, ResidentLimits
from tests.sim.world import World


class MixedWorld(World):
    """Generating models, with or without others beside them."""

    def begin(self) -> None:
        self.decoders: dict[ModelKey, Decoder] = {}
        device = self.random.choice((None, "shared"))
        for number in range(self.random.choice((0, 0, 0, 1))):
            self.open_model(ModelKey(f"m{number}", 1), device)
        for number in range(self.random.choice((1, 1, 2))):
            key = ModelKey(f"g{number}", 1)
            self.decoders[key] = Decoder(self, key, device)
            self.decoders[key].begin()

    def carry_out(self, action: Action[str]) -> None:
        if isinstance(action, Iterate):
            self.decoders[action.iteration.model].step(action.iteration)
        super().carry_out(action)


class Decoder:
    """One of them, drawn at random."""

    def __init__(self, world: World, model: ModelKey, device: str | None) -> None:
        rnd = self.random = world.random
        self.world, self.model = world, model
        self.costs = LinearSteps(0.002, rnd.choice((0.0, 0.0005)), rnd.choice((0.0, 1e-6)), 0.0005, rnd.choice((1e-5, 1e-4)))
        self.wrong = rnd.choice((1.0, 1.0, 0.5, 1.5))  # what the scheduler is told
        c = self.costs
        told = LinearSteps(
            c.step_s * self.wrong, c.row_s * self.wrong, c.kept_s, c.chunk_s, c.token_s * self.wrong, rnd.choice((1.0, 1.2))
        )
        self.longest = rnd.choice((220, 240))
        slots = rnd.choice((1, 3, 8, 8))
        room = rnd.choice((self.longest, self.longest * slots))
        gap_s = rnd.choice((0.003, 0.006, 0.012, 1.0))
        self.limits = ResidentLimits(slots, room, self.longest, rnd.choice((64, 256)), rnd.choice((5, 1000)), gap_s)
        self.next_instance = 0
        self.n_tokens: dict[int, int] = {}
        self.takes: dict[int, int] = {}
        self.poisoned: set[int] = set()
        world.feed(OpenResident(model, self.limits, told, device))

    def begin(self) -> None:
        """Put its whole life on the agenda."""
        rnd, world = self.random, self.world
        for _ in range(rnd.choice((1, 1, 2))):
            world.at(rnd.choice((0.0, 0.05)), self.come_up)
        priorities = rnd.choice(((0,), (0,), (0, 1), (-1, 0, 5)))
        first_s = rnd.choice((0.02, 0.1, 0.5))
        gap_s = 0.02 / rnd.choice((0.3, 1, 3, 10))
        at = 0.0
        for _ in range(rnd.randrange(3, 16)):
            at += rnd.expovariate(1 / gap_s)
            world.at(at, lambda: self.arrive(first_s, priorities))
        world.at(at * rnd.choice((0.5, 1.0, 2.0)), lambda: world.feed(Drain(self.model)))

    def arrive(self, first_s: float, priorities: tuple[int, ...]) -> None:
        rnd, world = self.random, self.world
        requests = []
        for _ in range(rnd.choice((1, 1, 1, 4))):
            number = world.next_id()
            prompt, new_tokens = rnd.choice((3, 64, 100, 190)), rnd.choice((1, 8, 20, 40))
            deadline_at = world.now + first_s * rnd.choice((1.0, 1.0, 0.3))
            priority = rnd.choice(priorities)
            one = GenerateRequest(
                number, self.model, 1, prompt, world.now, deadline_at, "payload", priority, new_tokens=new_tokens
            )
            requests.append(one)
            self.takes[number] = rnd.randint(1, new_tokens)
            if rnd.random() < world.nature.poison:
                self.poisoned.add(number)
        world.feed(Submit(self.model, tuple(requests)))
        for request in requests:
            if rnd.random() < world.nature.cancels:
                world.at(world.now + rnd.expovariate(20), lambda r=request: world.feed(Cancel(r)))

    def come_up(self) -> None:
        try:
            self.world.scheduler.resident_lane(self.model)
        except KeyError:
            return  # the model closed meanwhile
        self.next_instance += 1
        self.world.feed(InstanceUp(self.model, self.next_instance))
        if self.random.random() < 3 * self.world.nature.losses:
            number = self.next_instance
            self.world.at(self.world.now + self.random.expovariate(10), lambda: self.lose(number))

    def step(self, iteration: Iteration[str]) -> None:
        rnd, nature = self.random, self.world.nature
        ran = iteration.moved(self.known(iteration))
        takes_s = sum(self.costs.prefill_s(chunk.stop - chunk.start) for chunk in ran.chunks)
        takes_s += self.costs.decode_s(len(iteration.decode), iteration.context) if iteration.decode else 0.0
        end_at = self.world.now + takes_s * nature.slowdown * rnd.uniform(0.9, 1.1)
        if rnd.random() < nature.step_failures / 3 or self.is_poisoned(iteration):
            self.world.at(end_at, lambda: self.end(IterationFailed(iteration, "boom")))
            return
        began_at = rnd.choice((None, self.world.now))
        self.world.at(end_at, lambda: self.end(self.done(iteration, began_at)))

    def known(self, iteration: Iteration[str]) -> dict[int, int]:
        """In every other world: of some prompts that begin, all but the last chunk at most."""
        begin = [one.request for one in iteration.chunks if not one.start and self.longest == 240]
        known = {one.id: min(one.id % 4, (one.length - 1) // 64) * 64 for one in begin}
        return {number: tokens for number, tokens in known.items() if tokens}

    def done(self, iteration: Iteration[str], began_at: float | None) -> IterationDone[str]:
        known = self.known(iteration)
        got = [*iteration.decode, *[chunk.request for chunk in iteration.moved(known).chunks if chunk.is_last]]
        for request in got:
            self.n_tokens[request.id] = self.n_tokens.get(request.id, 0) + 1
        ended = tuple([one for one in got if self.n_tokens[one.id] == self.takes[one.id]])
        return IterationDone(iteration, ended, began_at, known)

    def end(self, event: IterationDone[str] | IterationFailed[str]) -> None:
        """Unless its instance died meanwhile."""
        if self.is_up(event.iteration.instance):
            self.world.feed(event)

    def is_up(self, instance: int) -> bool:
        try:
            return instance in self.world.scheduler.resident_lane(self.model).places
        except KeyError:
            return False

    def lose(self, instance: int) -> None:
        """Whatever it does at that moment."""
        if self.is_up(instance):
            self.world.feed(InstanceLost(self.model, None, "gone", instance))
            self.world.at(self.world.now + 0.01, self.come_up)

    def is_poisoned(self, iteration: Iteration[str]) -> bool:
        members = [*iteration.decode, *[chunk.request for chunk in iteration.chunks]]
        return any(request.id in self.poisoned for request in members)
