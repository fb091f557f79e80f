"""One load: a schedule of requests to one server, generated and measured. What becomes of the figures is told elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadtests import cpu
from loadtests.arrivals import Seconds
from loadtests.clients import Clients, draw
from loadtests.generators import Generated, OnTick, generate
from loadtests.ledger import Record
from loadtests.open_loop import Plan
from loadtests.protocols import Protocol
from loadtests.tally import part
from loadtests.verify import Verifier
from loadtests.wire import Response


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests of one kind: `which` says for each due time which of `requests` it is."""

    name: str
    requests: Sequence[bytes]
    due_s: Seconds
    which: npt.NDArray[np.int64]
    slo_s: float | None
    verifier: Verifier | None = None
    lengths: Sequence[int] = ()
    """How long each of `requests` is, in tokens or bytes of text; empty where all are alike."""


@dataclass(frozen=True, slots=True)
class Generator:
    """How a load is generated."""

    processes: int
    max_connections: int
    timeout_s: float
    protocol: Protocol = Protocol.HTTP
    clients: Clients = Clients.POOLED


@dataclass(frozen=True, slots=True)
class ServerCost:
    """What the server's process tree used from the first send to the last answer."""

    pid: int
    cpu_s: float
    memory_before: cpu.Memory
    memory_after: cpu.Memory
    died: bool


@dataclass(frozen=True, slots=True)
class Loaded:
    """A load that was generated: one record for all, and the number of the traffic that each request belongs to."""

    traffic: Sequence[Traffic]
    generator: Generator
    generated: Generated
    of_traffic: npt.NDArray[np.int64]
    server: ServerCost | None
    duration_s: float

    def record(self, at: int) -> Record:
        """The requests of one kind."""
        return part(self.generated.record, self.of_traffic == at)


@dataclass(frozen=True, slots=True)
class _Checks:
    """Verifiers of several kinds of traffic behind one numbering of requests."""

    first: Sequence[int]
    verifiers: Sequence[Verifier | None]

    def __call__(self, index: int, response: Response) -> str:
        at = max(number for number, first in enumerate(self.first) if first <= index)
        verifier = self.verifiers[at]
        return verifier(index - self.first[at], response) if verifier is not None else ""


def load(
    address: tuple[str, int],
    traffic: Sequence[Traffic],
    generator: Generator,
    *,
    duration_s: float,
    server_pid: int | None,
    on_tick: OnTick,
    beside: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> Loaded:
    """Generate a load; `beside` is entered when the first request is about to go out."""
    due_s = np.concatenate([one.due_s for one in traffic])
    order = np.argsort(due_s, kind="stable")
    of_traffic = np.repeat(np.arange(len(traffic)), [len(one.due_s) for one in traffic])[order]
    first = np.cumsum([0, *(len(one.requests) for one in traffic)])[:-1]
    which = np.concatenate([one.which + start for one, start in zip(traffic, first, strict=True)])[order]
    requests = [request for one in traffic for request in one.requests]
    plan = Plan(
        due_s[order].tolist(),
        which.tolist(),
        requests,
        generator.timeout_s,
        generator.max_connections,
        _warm(generator),
        generator.protocol,
        _client_of(generator, len(due_s)),
    )
    checks = _Checks(first.tolist(), [one.verifier for one in traffic]) if any(one.verifier for one in traffic) else None
    with contextlib.ExitStack() as stack:
        meter = _Meter(server_pid)

        def on_start() -> None:
            meter.start()
            stack.enter_context(beside())

        generated = generate(address, plan, generator.processes, checks, on_tick, on_start)
        cost = meter.stop()
    return Loaded(traffic, generator, generated, of_traffic, cost, duration_s)


def _warm(generator: Generator) -> int:
    """A few connections stand before the first request, those of independent clients all: opening them is not what is measured."""
    if generator.clients is Clients.INDEPENDENT:
        return generator.max_connections
    return min(8 * generator.processes, generator.max_connections)


def _client_of(generator: Generator, n_requests: int) -> list[int] | None:
    if generator.clients is Clients.POOLED:
        return None
    whole = generator.max_connections // generator.processes * generator.processes  # each generator has as many clients
    return draw(n_requests, max(1, whole), seed=n_requests)


class _Meter:
    """Reads the server's cost before and after a load."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._cpu_s = 0.0
        self._memory = cpu.Memory(0, None)
        self._began_at = 0.0

    def start(self) -> None:
        if self._pid is not None:
            self._cpu_s, self._memory = cpu.cpu_s(self._pid), cpu.memory(self._pid)
        self._began_at = time.perf_counter()

    def stop(self) -> ServerCost | None:
        if self._pid is None:
            return None
        died = not cpu.tree(self._pid)
        spent_s = 0.0 if died else cpu.cpu_s(self._pid) - self._cpu_s
        return ServerCost(self._pid, spent_s, self._memory, cpu.memory(self._pid), died)
