"""Tensor vocabulary: V2 datatypes and named shapes. Arrays themselves do not appear here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from server.contract.fields import Fields

Dim = int | str
"""A fixed size, or the name of an axis whose size may differ between requests."""


class DataType(Enum):
    """V2 datatypes; `value` is the name on the wire."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BF16 = "BF16"
    BYTES = "BYTES"

    def holds(self, number: int | float) -> bool:
        """Whether one element can be `number`, exactly for integers. BYTES hold no number but 0, which stands for empty."""
        kind, bits = self.value.rstrip("0123456789"), 8 * (self.itemsize or 0)
        if kind in ("BYTES", "BOOL"):
            return number in ((0,) if kind == "BYTES" else (0, 1))
        if kind in ("FP", "BF"):
            return abs(number) <= _LARGEST[self.value]
        low, high = (0, 2**bits - 1) if kind == "UINT" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return number == int(number) and low <= number <= high

    @property
    def itemsize(self) -> int | None:
        """Bytes per element; None for BYTES, whose elements differ."""
        return _ITEMSIZE[self.value]


_ITEMSIZE: dict[str, int | None] = {
    "BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8,
    "FP16": 2, "FP32": 4, "FP64": 8, "BF16": 2, "BYTES": None,
}  # fmt: skip


_LARGEST = {"FP16": 65504.0, "BF16": 3.3895313892515355e38, "FP32": 3.4028234663852886e38, "FP64": 1.7976931348623157e308}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. `shape[0]` is the batch axis; names mark axes whose size is free."""

    name: str
    datatype: DataType
    shape: tuple[Dim, ...]

    @property
    def wire_shape(self) -> list[int]:
        """The shape as V2 metadata gives it: −1 for a free axis."""
        return [dim if isinstance(dim, int) else -1 for dim in self.shape]

    def axis(self, name: str) -> int | None:
        """Position of the axis called `name`, or None."""
        return self.shape.index(name) if name in self.shape else None

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype.value, "shape": list(self.shape)}

    @staticmethod
    def from_json(fields: Fields) -> TensorSpec:
        """Raises ContractError for an unknown datatype or an impossible shape."""
        fields.only(("name", "datatype", "shape"))
        datatype = fields.text("datatype")
        if datatype not in _ITEMSIZE:
            raise fields.wrong("datatype", f"{datatype!r} is unknown; known are {', '.join(_ITEMSIZE)}")
        shape = fields.items("shape")
        if not shape:
            raise fields.wrong("shape", "needs a first (batch) axis")
        if not all(_is_dim(dim) for dim in shape):
            raise fields.wrong("shape", f"must hold positive sizes and axis names, found {shape}")
        return TensorSpec(fields.text("name"), DataType(datatype), tuple(shape))


def _is_dim(dim: object) -> bool:
    if isinstance(dim, str):
        return bool(dim)
    return isinstance(dim, int) and not isinstance(dim, bool) and dim >= 1
