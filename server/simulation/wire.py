"""What a request costs besides its batch: the way to the server and back, and the event loop's work on it. Measured constants, docs/simulation.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from server.contract.manifest import Manifest
from server.contract.tensors import TensorSpec

TRAVEL_S = 600e-6
"""From the moment a request is due at its client until it can be read, and from the written answer until the client has it, both together."""

HAND_OVER_S = 170e-6
"""From the end of the event loop's turn until the thread of an idle instance has begun the batch that it was given in it."""

WAKE_S = 140e-6
"""What an event costs more that finds the event loop asleep: waking it, and cold caches."""

JOIN_S = 5e-6
"""For each row of a batch: joining the inputs and splitting the outputs, which the profile does not contain."""

READ_S = 10e-6
REPLY_S = 22e-6
"""CPU of the event loop for a small request and for its answer, while it is busy anyway."""

JSON_VALUE_S = 25e-9
BINARY_BYTE_S = 0.42e-9
"""What each value of a tensor in JSON, or each byte of a binary one, adds to that."""

REFUSAL_S = 20e-6
"""CPU of the event loop for a request that is refused unread."""


class Form(Enum):
    """How tensors are written on the wire."""

    JSON = "json"
    BINARY = "binary"


@dataclass(frozen=True, slots=True)
class Work:
    """Seconds of the event loop for one request: so much for any, for each row, and for each row and unit of length."""

    any_s: float = 0.0
    row_s: float = 0.0
    unit_s: float = 0.0

    def of(self, rows: int, length: int) -> float:
        return self.any_s + rows * (self.row_s + self.unit_s * length)


@dataclass(frozen=True, slots=True)
class Wire:
    """One model's requests on their way; `travel_s`, `wake_s`: as TRAVEL_S, WAKE_S."""

    travel_s: float = 0.0
    wake_s: float = 0.0
    read: Work = Work()
    reply: Work = Work()
    refusal_s: float = 0.0


NO_WIRE = Wire()
"""Requests are there when they are due, and answers with their clients when they are known: the scheduler alone."""


def wire_of(manifest: Manifest, form: Form) -> Wire:
    """What the wire costs for this model's tensors."""
    axis = manifest.ragged.axis if manifest.ragged else None
    read, reply = (
        _work(least_s, specs, axis, form) for least_s, specs in ((READ_S, manifest.inputs), (REPLY_S, manifest.outputs))
    )
    return Wire(TRAVEL_S, WAKE_S, read, reply, REFUSAL_S)


def _work(least_s: float, specs: Sequence[TensorSpec], axis: str | None, form: Form) -> Work:
    row_s = sum(_row_s(spec, form) for spec in specs if axis not in spec.shape)
    return Work(least_s, row_s, sum(_row_s(spec, form) for spec in specs if axis in spec.shape))


def _row_s(spec: TensorSpec, form: Form) -> float:
    """For one row (of length 1, where the length is free). Text is reckoned as one value."""
    n_values = math.prod(dim for dim in spec.shape[1:] if isinstance(dim, int))
    return n_values * (JSON_VALUE_S if form is Form.JSON else BINARY_BYTE_S * (spec.datatype.itemsize or 1))
