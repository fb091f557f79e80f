"""steps.json: what a generating version's steps were measured to take on one device, by rows and context, and by prompt tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from server.contract.device import Device
from server.contract.errors import ContractError
from server.contract.fields import Fields, check_schema
from server.contract.profile import Placement

SCHEMA = 1

MOST_GUARD = 3.0
"""Steps that were slower than that, one in a hundred, tell of what else ran on the machine while it was measured, not of the model."""


def margin(guard: float) -> float:
    """How many times its expected time a step may take that must not be too long: the guard's distance once again, since a request
    lives through hundreds of steps. Not its square: a hiccup of the machine, ten times a step of a small model, would become a
    hundred of it."""
    return 2 * guard - 1


@dataclass(frozen=True, slots=True)
class DecodeCell:
    """One token for each of `rows` rows that have `context` tokens each: medians and 99th percentiles in seconds, sampling included."""

    rows: int
    context: int
    p50_s: float
    p99_s: float
    samples: int

    @staticmethod
    def from_json(fields: Fields) -> DecodeCell:
        fields.only(DecodeCell.__slots__)
        return DecodeCell(fields.integer("rows", 1), fields.integer("context"), *_times(fields), fields.integer("samples"))


@dataclass(frozen=True, slots=True)
class PrefillCell:
    """A chunk of `tokens` tokens of one prompt, likewise."""

    tokens: int
    p50_s: float
    p99_s: float
    samples: int

    @staticmethod
    def from_json(fields: Fields) -> PrefillCell:
        fields.only(PrefillCell.__slots__)
        return PrefillCell(fields.integer("tokens", 1), *_times(fields), fields.integer("samples"))


@dataclass(frozen=True, slots=True)
class StepProfile:
    """A full grid of decode cells and one line of prefill cells, at one placement. Raises ContractError when there are holes."""

    device: Device
    placement: Placement
    decode: tuple[DecodeCell, ...]
    prefill: tuple[PrefillCell, ...]

    def __post_init__(self) -> None:
        rows, contexts = self.measured_rows, self.measured_contexts
        places = {(cell.rows, cell.context) for cell in self.decode}
        if not self.decode or len(places) != len(self.decode) or len(places) != len(rows) * len(contexts):
            raise ContractError("decode cells must form a full grid of rows x context, each cell once; measure again")
        if not self.prefill or len({cell.tokens for cell in self.prefill}) != len(self.prefill):
            raise ContractError("prefill cells must be there, each number of tokens once; measure again")

    @property
    def measured_rows(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(sorted({cell.rows for cell in self.decode}))

    @property
    def measured_contexts(self) -> tuple[int, ...]:
        """Of each row; ascending."""
        return tuple(sorted({cell.context for cell in self.decode}))

    @property
    def guard(self) -> float:
        """The 99th percentile ÷ the median of a decode step: the median of that over the cells, MOST_GUARD at most."""
        ratios = sorted(cell.p99_s / cell.p50_s for cell in self.decode)
        return min(MOST_GUARD, ratios[len(ratios) // 2])

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        return {
            "schema": SCHEMA,
            "device": self.device.to_json(),
            "placement": asdict(self.placement),
            "decode": [asdict(cell) for cell in self.decode],
            "prefill": [asdict(cell) for cell in self.prefill],
        }

    @staticmethod
    def from_json(data: object, where: str) -> StepProfile:
        """Raises ContractError for an unknown schema, a missing field or a grid with holes."""
        fields = Fields(data, where)
        check_schema(fields, SCHEMA)
        fields.only(("schema", "device", "placement", "decode", "prefill"))
        place = fields.child("placement")
        place.only(Placement.__slots__)
        placement = Placement(place.integer("instances", 1), place.integer("threads", 1))
        decode = tuple(DecodeCell.from_json(cell) for cell in fields.children("decode"))
        prefill = tuple(PrefillCell.from_json(cell) for cell in fields.children("prefill"))
        try:
            return StepProfile(Device.from_json(fields.child("device")), placement, decode, prefill)
        except ContractError as error:
            raise error if str(error).startswith(where) else ContractError(f"{where}: {error}") from None


def _times(fields: Fields) -> tuple[float, float]:
    p50, p99 = fields.number("p50_s"), fields.number("p99_s")
    if not 0 < p50 <= p99:
        raise fields.wrong("p50_s", f"must be positive and p50 <= p99, found {p50} and {p99}")
    if not 0 < p50 <= p99:
        raise fields.wrong("p50_s", f"must be positive and p50 <= p99, found {p50}, {p99}")
    return p50, p99
