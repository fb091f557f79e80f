"""Generators as child processes, so that neither progress nor reports ever delay a send: one plan each, one start for all."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from loadtests.errors import ChildFailed
from loadtests.ledger import Record, interleave
from loadtests.open_loop import Check, Driven, Plan, drive
from loadtests.precedence import go_first

_START_DELAY_S = 0.05
_MOST_LATENCIES = 2_000
_STOP = "stop"


@dataclass(frozen=True, slots=True)
class Tick:
    """How far one generator has come; `latencies_s` are the answers' since its last tick, or every n-th of them."""

    generator: int
    at_s: float
    latencies_s: Sequence[float]
    n_answers: int
    n_ended: int
    n_lost: int


@dataclass(frozen=True, slots=True)
class Generated:
    """The record of the whole schedule, and what generating it cost. `cpu_s` is of all generators together; `niceness`: of the one that
    others on the machine had to give way to least."""

    record: Record
    cpu_s: float
    n_connections: int
    wall_s: float
    interrupted: bool
    niceness: int = 0


OnTick = Callable[[Tick], None]


def deal(plan: Plan, n: int) -> list[Plan]:
    """A plan for each of `n` generators, request i to generator i modulo `n`, and their shares of the connections."""
    connections, warm = max(1, plan.max_connections // n), -(-plan.warm_connections // n)
    return [
        replace(
            plan,
            due_s=plan.due_s[at::n],
            which=plan.which[at::n],
            max_connections=connections,
            warm_connections=warm,
            client_of=None if plan.client_of is None else [client % connections for client in plan.client_of[at::n]],
        )
        for at in range(n)
    ]


def generate(
    address: tuple[str, int], plan: Plan, n: int, check: Check | None, on_tick: OnTick, on_start: Callable[[], None]
) -> Generated:
    """Drive a plan with `n` processes. Ctrl-C ends it early with what there is. Raises ChildFailed if a process dies."""
    context = multiprocessing.get_context("spawn")
    workers: list[tuple[Any, Connection]] = []
    try:
        for at, one in enumerate(deal(plan, n)):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, at, address, one, check), daemon=True)
            process.start()
            there.close()
            workers.append((process, here))
        pipes = [pipe for _, pipe in workers]
        niceness = max([_receive(pipe) for pipe in pipes])
        on_start()
        start_at = time.perf_counter() + _START_DELAY_S
        for pipe in pipes:
            pipe.send(start_at)
        done, interrupted = _collect(pipes, on_tick)
        wall_s = time.perf_counter() - start_at
    finally:
        for process, pipe in workers:
            pipe.close()
            process.terminate()
            process.join()
    drivens = [done[at] for at in range(n)]
    cpu_s, n_connections = sum(one.own_cpu_s for one in drivens), sum(one.n_connections for one in drivens)
    return Generated(interleave([one.record for one in drivens]), cpu_s, n_connections, wall_s, interrupted, niceness)


def _collect(pipes: Sequence[Connection], on_tick: OnTick) -> tuple[dict[int, Driven], bool]:
    done: dict[int, Driven] = {}
    interrupted = False
    while len(done) < len(pipes):
        try:
            for pipe in wait([pipe for at, pipe in enumerate(pipes) if at not in done]):
                assert isinstance(pipe, Connection)
                found = _receive(pipe)
                if isinstance(found, Driven):
                    done[pipes.index(pipe)] = found
                else:
                    on_tick(found)
        except KeyboardInterrupt:
            interrupted = True
            for pipe in pipes:
                with suppress(OSError):
                    pipe.send(_STOP)
    return done, interrupted


def _receive(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, OSError) as error:
        raise ChildFailed("a generator process ended before its run did") from error


def _work(pipe: Connection, number: int, address: tuple[str, int], plan: Plan, check: Check | None) -> None:
    """The main function of a generator process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and says so
    n_answers = 0

    def on_tick(at_s: float, latencies_s: Sequence[float], n_ended: int, n_lost: int) -> bool:
        nonlocal n_answers
        n_answers += len(latencies_s)
        few = latencies_s[:: len(latencies_s) // _MOST_LATENCIES + 1]
        pipe.send(Tick(number, at_s, few, n_answers, n_ended, n_lost))
        return not pipe.poll()

    pipe.send(go_first())
    start_at = pipe.recv()
    pipe.send(drive(address, plan, start_at=start_at, check=check, on_tick=on_tick))
