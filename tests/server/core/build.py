"""Short ways to make requests, costs and lanes for tests of the core."""

from __future__ import annotations

from server.core.costs import HAND_OFF_S, CostTable, LinearSteps
from server.core.device import Device
from server.core.lane import Lane
from server.core.resident_lane import ResidentLane
from server.core.types import Batch, Close, GenerateRequest, InferRequest, Limits, Mixing, ModelKey, ResidentLimits
from server.simulation.laws import linear_profile

KEY = ModelKey("m", 1)
Request = InferRequest[str]

MS = 1e-3


def costs(
    alpha_ms: float = 1.0, beta_ms: float = 4.0, max_rows: int = 8, lengths: tuple[int, ...] = (0,), instances: int = 1
) -> CostTable:
    """l(rows, length) = beta + alpha · rows · length, hand-off included, so that times in tests are round."""
    profile = linear_profile(
        alpha_ms * MS, beta_ms * MS - HAND_OFF_S, rows=(1, 2, 4, 8, 16, 32), lengths=lengths, instances=instances
    )
    return CostTable(profile, max_rows)


def request(
    number: int,
    deadline_ms: float = 1000.0,
    rows: int = 1,
    length: int = 0,
    arrived_ms: float = 0.0,
    model: ModelKey = KEY,
    priority: int = 0,
) -> Request:
    return InferRequest(number, model, rows, length, arrived_ms * MS, deadline_ms * MS, f"payload {number}", priority)


def batch(*requests: Request, number: int = 1, formed_ms: float = 0.0) -> Batch[str]:
    rows, length = sum(r.rows for r in requests), max(r.length for r in requests)
    return Batch(number, requests[0].model, requests, rows, length, formed_ms * MS, Close.IDLE)


def lane(table: CostTable | None = None, mixing: Mixing = Mixing.ANY, batch_rows: int = 8, queue_rows: int = 100) -> Lane[str]:
    return Lane(KEY, Limits(batch_rows, queue_rows), mixing, table or costs(max_rows=batch_rows), Device())


STEPS = LinearSteps(step_s=1 * MS, row_s=1 * MS, chunk_s=1 * MS, token_s=0.1 * MS)
"""1 ms and 1 ms a row; 1 ms and 0.1 ms a token for each chunk, so 7.4 ms for 64 tokens."""

LIMITS = ResidentLimits(slots=4, room=1000, longest=500, step_tokens=512, queue=100, gap_s=20 * MS)


def prompt(
    number: int, deadline_ms: float = 1000.0, length: int = 10, new_tokens: int = 5, arrived_ms: float = 0.0, model: ModelKey = KEY,
    priority: int = 0,
) -> GenerateRequest[str]:  # fmt: skip
    return GenerateRequest(
        number, model, 1, length, arrived_ms * MS, deadline_ms * MS, f"payload {number}", priority, new_tokens=new_tokens
    )


def resident_lane(
    limits: ResidentLimits = LIMITS, n_instances: int = 1, device: Device[str] | None = None
) -> ResidentLane[str]:
    lane: ResidentLane[str] = ResidentLane(KEY, limits, STEPS, device or Device())
    for number in range(n_instances):
        lane.add_instance(0.0, number)
    return lane


def ids(requests: object) -> list[int]:
    """The numbers of requests, in order."""
    return [r.id for r in requests]  # type: ignore[attr-defined]
