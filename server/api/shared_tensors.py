"""Tensors in shared memory: the parameters that name a slot, arrays out of slots, outputs into them. For every protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from server.api.binary_tensors import from_bytes
from server.api.infer_call import ExpectedInput, OutputChoice
from server.api.shared_memory import Regions, Slot, offered
from server.backends.base import Array
from server.errors import BadRequest

REGION, OFFSET, BYTE_SIZE = "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"
"""The parameters of a tensor in shared memory; the first tells that it is there."""


class SharedOutput(NamedTuple):
    """An output's bytes, and where they go."""

    name: str
    slot: Slot
    data: Any


def from_slot(regions: Regions | None, parameters: Mapping[str, object], expected: ExpectedInput, shape: list[int]) -> Array:
    """One input, copied and then checked. Raises TurnedOff, NotFound, TooLarge or BadRequest."""
    where = f"input {expected.name!r}"
    table = offered(regions, where)
    slot = _slot(table, parameters, where)
    table.check_copied(slot.byte_size, where)
    return from_bytes(expected.name, slot.read(), shape, expected.dtype)


def shared_choice(regions: Regions | None, parameters: Mapping[str, object], place: int, name: str) -> OutputChoice:
    """An output that is to be written into its slot. Raises TurnedOff, NotFound or BadRequest."""
    where = f"output {name!r}"
    slot = _slot(offered(regions, where), parameters, where)
    if "classification" in parameters:
        raise BadRequest(f"{where}: 'classification' does not work with shared memory; leave one of them out")
    return OutputChoice(place, False, 0, slot)


def write_all(outputs: Sequence[SharedOutput]) -> None:
    """Raises BadRequest when one does not fit or its memory is gone: as a rule before the first is written."""
    for name, slot, data in outputs:
        slot.check(name, len(data))
    for _, slot, data in outputs:
        slot.write(data)


def _slot(table: Regions, parameters: Mapping[str, object], where: str) -> Slot:
    return table.slot(parameters[REGION], parameters.get(OFFSET, 0), parameters.get(BYTE_SIZE), where)
