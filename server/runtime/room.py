"""Memory as a budget: what a version needs on its device before it is loaded, and whether that is left. Nobody is ever put out for another
model: who does not fit is refused, with the figures. Knows no library; what is free on a card is asked of the backend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from server.backends.base import LoadError
from server.contract.device import Device
from server.contract.generation import Generation
from server.contract.layout import VersionFiles
from server.contract.profile import Cell
from server.contract.tensors import DataType, TensorSpec
from server.contract.wants import Wants

IN_FLIGHT = 2
"""Batches that a card holds at a time, and so often ONNX Runtime has the weights there. For what was never measured."""


class Basis(Enum):
    """How a need is known; the value is for people."""

    MEASURED = "measured on such a machine"
    RECKONED = "reckoned from its files and largest batch, for it was not measured on such a machine"


class Where(Enum):
    """Whose memory; the value is for people."""

    PROCESSOR = "memory for models on the processor"
    CARD = "memory of the card"


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a version takes while it is loaded and runs its largest batch. `lever`: the line of model.toml that lowers it."""

    n_bytes: int
    where: Where
    basis: Basis
    lever: str = "max_rows"


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """What one loaded version has of the room, until it is given back. Equal only to itself."""

    who: str
    need: Need


class Room:
    """All loaded versions share it. For several threads."""

    def __init__(self, processor_bytes: int = 0, card_bytes: int = 0) -> None:
        """What models may take in all. 0: on the processor any amount, on the card what is free when the first one is loaded there."""
        self._told = {Where.PROCESSOR: processor_bytes, Where.CARD: card_bytes}
        self._found: dict[Where, int] = {}
        self._taken: list[Taken] = []
        self._alone = threading.Lock()

    def take(self, who: str, need: Need, free: Callable[[], int] | None = None) -> Taken:
        """`who`: the version, in messages. `free`: tells how many bytes are free there; None: nobody knows.

        Raises LoadError when so much is not left, with who has it and what to change.
        """
        with self._alone:
            limit = self._limit(need.where, free)
            taken = self._by(need.where)
            left = None if limit is None else limit - sum(one.need.n_bytes for one in taken)
            if limit is not None and left is not None and need.n_bytes > left:
                raise LoadError(self._refusal(who, need, limit, left, taken))
            mine = Taken(who, need)
            self._taken.append(mine)
            return mine

    def give_back(self, taken: Taken) -> None:
        """It is not loaded any more, or could not be."""
        with self._alone:
            self._taken.remove(taken)

    def n_bytes(self, where: Where) -> int:
        """Taken by all."""
        with self._alone:
            return sum(one.need.n_bytes for one in self._by(where))

    def _by(self, where: Where) -> list[Taken]:
        return [one for one in self._taken if one.need.where is where]

    def _limit(self, where: Where, free: Callable[[], int] | None) -> int | None:
        """None: there is none. What others take on a card may change while it has no model of ours, so it is asked anew then."""
        if self._told[where]:
            return self._told[where]
        if free is not None and (where not in self._found or not self._by(where)):
            self._found[where] = free()
        return self._found.get(where)

    def _refusal(self, who: str, need: Need, limit: int, left: int, taken: Sequence[Taken]) -> str:
        told = self._told[need.where]
        setting = "model_memory_bytes" if need.where is Where.PROCESSOR else "card_memory_bytes"
        of = f"setting {setting}" if told else "what was free when the first model was loaded there"
        has = f" ({', '.join(f'{one.who} has {_shown(one.need.n_bytes)}' for one in taken)})" if taken else ""
        change = f"unload {'one of these' if len(taken) > 1 else taken[0].who}, " if taken else ""
        rise = f", or raise {setting}" if told else f", or say what the models may take: {setting}"
        return (
            f"{who}: needs {_shown(need.n_bytes)} ({need.basis.value}), but of the {_shown(limit)} of {need.where.value} ({of}) "
            f"{_shown(max(0, left))} are left{has}: {change}lower {need.lever} in its model.toml{rise}"
        )


def need_of(files: VersionFiles, wants: Wants, device: Device, model_file: str) -> Need:
    """Of a version whose `model_file` is served on `device`: by what was measured on such a machine, of batches of as many rows as its
    owner wants; else reckoned."""
    where = Where.PROCESSOR if device.accelerator is None else Where.CARD
    max_rows = min(wants.max_rows or files.manifest.max_rows, files.manifest.max_rows)
    n_file = next((one.bytes for one in files.manifest.files if one.path == model_file), 0)
    measured = _measured(files, device, max_rows)
    if measured is not None and where is Where.PROCESSOR:
        return Need(n_file + measured, where, Basis.MEASURED)
    if measured:
        return Need(measured, where, Basis.MEASURED)
    copies = IN_FLIGHT if where is Where.CARD else 1
    return Need(copies * (n_file + _batch_bytes(files, max_rows)), where, Basis.RECKONED)


def need_of_decoder(files: VersionFiles, generation: Generation, instances: int, slots: int) -> Need:
    """Of a version that generates: its files, and room for all slots at their longest, for each instance."""
    n_files = sum(one.bytes for one in files.manifest.files)
    kept = slots * generation.longest * token_bytes(generation)
    return Need(instances * (n_files + kept), Where.PROCESSOR, Basis.RECKONED, "slots")


def token_bytes(generation: Generation) -> int:
    """What is kept of one token, keys and values."""
    kept = generation.kept
    return 2 * kept.layers * kept.heads * kept.head_size * (4 if kept.datatype is DataType.FP32 else 2)


def _measured(files: VersionFiles, device: Device, max_rows: int) -> int | None:
    """The most of all placements; None where nothing was measured on such a machine."""
    profiles = files.profiles
    if profiles is None or profiles.device.difference(device) is not None:
        return None
    return max(max(cell.memory_bytes for cell in _up_to(one.cells, max_rows)) for one in profiles.profiles)


def _up_to(cells: Sequence[Cell], max_rows: int) -> Sequence[Cell]:
    """Those of no more rows, and the next larger ones where none are just as large."""
    enough = [cell.rows for cell in cells if cell.rows >= max_rows]
    largest = min(enough) if enough else max_rows
    return [cell for cell in cells if cell.rows <= largest]


def _batch_bytes(files: VersionFiles, max_rows: int) -> int:
    manifest = files.manifest
    longest = manifest.ragged.longest if manifest.ragged else 1
    return sum(_tensor_bytes(spec, max_rows, longest) for spec in (*manifest.inputs, *manifest.outputs))


def _tensor_bytes(spec: TensorSpec, rows: int, longest: int) -> int:
    """Texts count nothing: how long they are is not known."""
    first, *others = spec.shape
    n = first if isinstance(first, int) else rows
    for dim in others:
        n *= dim if isinstance(dim, int) else longest
    return n * (spec.datatype.itemsize or 0)


def _shown(n_bytes: int) -> str:
    size, unit = next(((size, unit) for size, unit in ((1e9, "GB"), (1e6, "MB")) if n_bytes >= size), (1e3, "kB"))
    return f"{n_bytes / size:.2f} {unit}"
