"""One visit: start a server for one model, see that it answers right, measure it, stop it. Only one runs at any time."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from loadtests import cpu
from loadtests.call import call
from loadtests.child import HOST, Child, free_port, running
from loadtests.closed_loop import drive
from loadtests.errors import CannotConnect, ChildFailed, LoadTestError, ServerError
from loadtests.lanes import Lane, largest_difference, measure
from loadtests.overload import Offer, overload
from loadtests.peers.peer import Model, Peer, Tuning, Visit
from loadtests.peers.wires import Wire

TOLERANCE = 1e-4
OVERLOAD_FACTORS = (0.8, 1.5)
JSON, ALONE, BINARY = "JSON", "JSON, alone", "binary"
_SHARED_MEMORY = Path("/dev/shm")
_WARM_UP_S = 0.5
_FEW_CONNECTIONS = 8
_FIRST_ANSWER_TIMEOUT_S = 60.0
_RETRY_S = 0.01
_ROUNDS_OF_WAITING = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard each visit asks.

    `slo_s` by model, for a server that takes an objective; `overloaded`: models that are also asked at multiples of the server's own maximum.
    """

    round_s: float
    alone_s: float
    open_s: float
    connections: int
    slo_s: Mapping[str, float]
    overloaded: Collection[str] = ()


@contextmanager
def started(peer: Peer, model: Model, tuning: Tuning, python: Path, slo_s: float | None) -> Iterator[Child]:
    """A server that listens; its scratch folder goes with it. `slo_s` is for who can be told. Raises ChildFailed."""
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as scratch:
        visit = Visit(model, tuning, free_port(), Path(scratch), python, slo_s)
        try:
            launch = peer.launch(visit)
        except OSError as error:
            raise ChildFailed(f"{peer.label} is not laid out as expected: {error}") from error
        try:
            with running(
                launch.command, visit.port, ready_path=launch.ready_path, environment=launch.environment, folder=visit.folder
            ) as server:
                yield server
        finally:
            if launch.shared_memory:
                for left in _SHARED_MEMORY.glob(f"{launch.shared_memory}*"):
                    left.unlink(missing_ok=True)


def measured(peer: Peer, model: Model, tuning: Tuning, python: Path, plan: Plan, seed: int) -> dict[str, Any]:
    """Everything one visit finds, as values for JSON. Raises LoadTestError for a server that fails or answers wrongly."""
    with started(peer, model, tuning, python, plan.slo_s.get(model.name)) as server:
        return _measured(peer, model, server, plan, seed)


def trial(peer: Peer, model: Model, tuning: Tuning, python: Path, plan: Plan) -> float:
    """Answers per second of one way to run a model. Raises LoadTestError."""
    wire = peer.wire(model)
    with started(peer, model, tuning, python, plan.slo_s.get(model.name)) as server:
        _first_right_answer(server, wire, model)
        verify(server.port, wire, model)
        lane = Lane("trial", server, [wire.request(row) for row in model.rows], plan.connections)
        _warm_up(lane, plan)
        return measure(lane, plan.round_s / 2).per_s


@dataclass(frozen=True, slots=True)
class Siege:
    """How a server is loaded beyond its own maximum. `loop_s` 0: that is known already, as `own_per_s`.

    `calm_slo_s` is the objective while it is found out, one that all connections of the closed loop can keep.
    """

    slo_s: float
    factor: float
    connections: int
    open_s: float
    calm_slo_s: float
    loop_s: float = 0.0
    own_per_s: float = 0.0


def patient_slo_s(connections: int, per_s: float) -> float:
    """An objective that `connections` which wait for their answers can keep, when so many requests per second are possible at most.

    A server that takes an objective refuses what it cannot answer within it: beside servers that answer however late, a closed loop needs such a one.
    """
    return math.ceil(_ROUNDS_OF_WAITING * connections / per_s * 1e3) / 1e3


def besieged(peer: Peer, model: Model, tuning: Tuning, python: Path, siege: Siege, seed: int) -> dict[str, Any]:
    """One way to run a model, at a multiple of its own maximum; values for JSON. Raises LoadTestError."""
    requests = _requests(peer, model)
    own_per_s = siege.own_per_s or _own_per_s(peer, model, tuning, python, siege)
    few = 1 if tuning.queue or tuning.timeout_ms else _FEW_CONNECTIONS  # a bound that is hit is no wrong answer
    with _warm(peer, model, tuning, python, siege.slo_s, few) as server:
        offer = Offer(siege.factor * own_per_s, siege.slo_s, siege.open_s, seed)
        return {"own_per_s": own_per_s, "overload": overload(server, requests, offer)}


def _own_per_s(peer: Peer, model: Model, tuning: Tuning, python: Path, siege: Siege) -> float:
    """Without bounds of the queue and of time: they would refuse what a closed loop of so many connections asks, and what is left is no maximum."""
    bare = replace(tuning, queue=0, timeout_ms=0.0)
    with _warm(peer, model, bare, python, siege.calm_slo_s, _FEW_CONNECTIONS) as server:
        found = measure(Lane("own maximum", server, _requests(peer, model), siege.connections), siege.loop_s).per_s
    if not found:
        raise LoadTestError("no answer at all in a closed loop")
    return found


@contextmanager
def _warm(peer: Peer, model: Model, tuning: Tuning, python: Path, slo_s: float, connections: int) -> Iterator[Child]:
    """A server that has answered right, `connections` at a time. Raises LoadTestError."""
    wire = peer.wire(model)
    with started(peer, model, tuning, python, slo_s) as server:
        _first_right_answer(server, wire, model)
        verify(server.port, wire, model, connections)
        measure(Lane("warm", server, _requests(peer, model), connections), _WARM_UP_S)
        yield server


def _requests(peer: Peer, model: Model) -> list[bytes]:
    wire = peer.wire(model)
    return [wire.request(row) for row in model.rows]


def _measured(peer: Peer, model: Model, server: Child, plan: Plan, seed: int) -> dict[str, Any]:
    wire = peer.wire(model)
    requests = [wire.request(row) for row in model.rows]
    found: dict[str, Any] = {"cold_start_s": _first_right_answer(server, wire, model)}
    found["difference"] = verify(server.port, wire, model)
    _warm_up(Lane(JSON, server, requests, plan.connections), plan)
    found["memory"] = asdict(cpu.memory(server.pid))
    lanes = {
        JSON: measure(Lane(JSON, server, requests, plan.connections), plan.round_s),
        ALONE: measure(Lane(ALONE, server, requests, 1), plan.alone_s),
    }
    if peer.binary is not None and model.name != "minilm":
        binary = peer.binary(model)
        verify(server.port, binary, model)
        lanes[BINARY] = measure(
            Lane(BINARY, server, [binary.request(row) for row in model.rows], plan.connections), plan.round_s
        )
    if silent := [name for name, sample in lanes.items() if not sample.n_answered]:
        raise LoadTestError(f"right when asked a few at a time, but no answer at all under load ({', '.join(silent)})")
    found["lanes"] = {name: asdict(sample) for name, sample in lanes.items()}
    if model.name in plan.overloaded:
        found["overload"] = {
            str(factor): overload(
                server, requests, Offer(factor * lanes[JSON].per_s, plan.slo_s[model.name], plan.open_s, seed)
            )
            for factor in OVERLOAD_FACTORS
        }
    return found


def _warm_up(lane: Lane, plan: Plan) -> None:
    """Few connections: what a slow server still owes at the end has to be waited for."""
    measure(replace(lane, connections=min(_FEW_CONNECTIONS, lane.connections)), min(_WARM_UP_S, plan.round_s))


def _first_right_answer(server: Child, wire: Wire, model: Model) -> float:
    """Seconds from the start to the first right answer: some servers listen before they can answer."""
    request, give_up_at = wire.request(model.rows[0]), server.started_at + _FIRST_ANSWER_TIMEOUT_S
    while True:
        try:
            response = call(HOST, server.port, request)
            difference(wire.answer(response.status, response.headers, response.body), model.expected[0])
        except (CannotConnect, ServerError):
            if time.perf_counter() > give_up_at:
                raise
            time.sleep(_RETRY_S)
        else:
            return time.perf_counter() - server.started_at


def verify(port: int, wire: Wire, model: Model, connections: int = _FEW_CONNECTIONS) -> float:
    """The largest difference to the answers in process, several at a time so that batches form. Raises LoadTestError."""
    wrong: list[LoadTestError] = []
    worst = [0.0]

    def compare(index: int, status: int, headers: Mapping[str, str], body: bytes) -> None:
        try:
            worst.append(difference(wire.answer(status, headers, body), model.expected[index]))
        except LoadTestError as error:
            wrong.append(error)

    requests = [wire.request(row) for row in model.rows[: len(model.expected)]]
    done = drive(
        HOST, port, requests, connections=connections, n_requests=len(requests), on_answer=compare
    )  # fmt: skip
    if wrong or done.failed:
        raise LoadTestError(str(wrong[0]) if wrong else f"{done.failed} of {done.sent} requests got no reply")
    return max(worst)


def difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> float:
    """The largest difference, absolute for values up to 1 and relative above. Raises LoadTestError beyond `TOLERANCE`."""
    shapes = [{name: one.shape for name, one in outputs.items()} for outputs in (found, wanted)]
    if shapes[0] != shapes[1]:
        raise LoadTestError(f"answered {shapes[0]} where {shapes[1]} was expected")
    most = max(largest_difference(found[name], one) for name, one in wanted.items())
    if most > TOLERANCE:
        raise LoadTestError(f"wrong answers: {most:.2g} away from those in process, where {TOLERANCE:g} is allowed")
    return most
