"""The upper-case settings of a user's Python file, checked one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optimizer.errors import SourceError
from server.contract.manifest import Ragged
from server.intake.build import MAX_ROWS
from server.intake.texts import KNOWN_NAMES

KNOWN = ("AXES", "EMBEDDING", "LENGTHS", "MAX_ROWS", "NAME", "OUTPUTS", "PADS", "TEXT_INPUTS")


@dataclass(frozen=True, slots=True)
class Settings:
    """`axes`: input → {axis number: name}, at most one name in all. `outputs` None: named by the module itself.

    `text_inputs`: "ids", "mask" and "types" → the inputs that a tokenizer fills (empty: by their usual names); `embedding`: the
    output that is a text's embedding.
    """

    axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    lengths: tuple[int, int] | None = None
    pads: Mapping[str, int | float] = field(default_factory=dict)
    outputs: tuple[str, ...] | None = None
    max_rows: int = MAX_ROWS
    text_inputs: Mapping[str, str] = field(default_factory=dict)
    embedding: str | None = None

    @property
    def ragged_axis(self) -> str | None:
        """The name of the free axis besides the batch, if there is one."""
        return next((name for axes in self.axes.values() for name in axes.values()), None)

    def as_ragged(self, lengths: tuple[int, int]) -> Ragged:
        """The free axis in the words of the manifest; only for settings that have one."""
        assert self.ragged_axis is not None
        pads = {name: self.pads.get(name, 0) for name in self.axes}
        return Ragged(self.ragged_axis, *lengths, pads, mixes=False)


def read_settings(values: Mapping[str, Any], where: str) -> Settings:
    """From the namespace of an executed file. Raises SourceError naming the setting and what it should look like."""
    settings = Settings(
        axes=_axes(values.get("AXES", {}), where),
        lengths=check_lengths(values["LENGTHS"], f"{where}: LENGTHS") if "LENGTHS" in values else None,
        pads=_pads(values.get("PADS", {}), where),
        outputs=_outputs(values["OUTPUTS"], where) if "OUTPUTS" in values else None,
        max_rows=_max_rows(values.get("MAX_ROWS", MAX_ROWS), where),
        text_inputs=_text_inputs(values["TEXT_INPUTS"], where) if "TEXT_INPUTS" in values else {},
        embedding=_embedding(values["EMBEDDING"], where) if "EMBEDDING" in values else None,
    )
    check_ragged(settings, where)
    return settings


def check_known(names: frozenset[str], where: str) -> None:
    """Raises SourceError for an upper-case name that is no setting: a typing error must not be ignored silently."""
    unknown = sorted(names - set(KNOWN))
    if unknown:
        raise SourceError(
            f"{where}: unknown setting {unknown[0]}; the settings are {', '.join(KNOWN)} "
            f"(start a constant of your own with an underscore: _{unknown[0]})"
        )


def check_lengths(value: object, where: str) -> tuple[int, int]:
    """Two sizes, the second larger. Raises SourceError."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(pair) != 2 or not all(_is_int(size) for size in pair) or not 1 <= pair[0] < pair[1]:
        raise SourceError(f"{where} must be two sizes, the shortest and the longest, like (3, 256); found {value!r}")
    return pair[0], pair[1]


def check_ragged(settings: Settings, where: str) -> None:
    """Raises SourceError when LENGTHS or PADS speak of an axis that AXES does not free."""
    if settings.ragged_axis is None and settings.lengths is not None:
        raise SourceError(f'{where}: LENGTHS without AXES; say which axis is free, like AXES = {{"x": {{1: "sequence"}}}}')
    stray = sorted(set(settings.pads) - set(settings.axes))
    if stray:
        raise SourceError(f"{where}: PADS names {stray[0]!r}, which has no free axis in AXES")


def _axes(value: object, where: str) -> dict[str, dict[int, str]]:
    example = 'like AXES = {"input_ids": {1: "sequence"}}'
    if not isinstance(value, Mapping):
        raise SourceError(f"{where}: AXES must map inputs to their free axes, {example}; found {value!r}")
    names: set[str] = set()
    for name, axes in value.items():
        if not isinstance(axes, Mapping) or not all(_is_int(n) and isinstance(a, str) for n, a in axes.items()):
            raise SourceError(f"{where}: AXES[{name!r}] must map axis numbers to names, {example}; found {axes!r}")
        if min(axes, default=1) < 1:
            raise SourceError(f"{where}: AXES[{name!r}] names axis {min(axes)}; axis 0 is always the batch, count from 1")
        names |= set(axes.values())
    if len(names) > 1 or "batch" in names:
        raise SourceError(f"{where}: AXES frees {sorted(names)}; one axis besides 'batch' is supported, fix the others")
    return {name: dict(axes) for name, axes in value.items() if axes}


def _pads(value: object, where: str) -> dict[str, int | float]:
    if not isinstance(value, Mapping) or not all(_is_int(p) or isinstance(p, float) for p in value.values()):
        raise SourceError(f'{where}: PADS must map inputs to numbers, like PADS = {{"input_ids": 0}}; found {value!r}')
    return dict(value)


def _outputs(value: object, where: str) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, (tuple, list)) else ()
    if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) != len(names):
        raise SourceError(f'{where}: OUTPUTS must list distinct names, like OUTPUTS = ["logits"]; found {value!r}')
    return names


def _max_rows(value: object, where: str) -> int:
    if not _is_int(value) or not isinstance(value, int) or value < 1:
        raise SourceError(f"{where}: MAX_ROWS must be a positive number of rows, like 64; found {value!r}")
    return value


def _text_inputs(value: object, where: str) -> dict[str, str]:
    names = dict(value) if isinstance(value, Mapping) else {}
    if "ids" not in names or set(names) - set(KNOWN_NAMES) or not all(isinstance(name, str) for name in names.values()):
        raise SourceError(
            f"{where}: TEXT_INPUTS must name the inputs of a tokenizer's ids and, where there are such, mask and types, like "
            f'TEXT_INPUTS = {{"ids": "tokens", "mask": "mask"}}; found {value!r}'
        )
    return names


def _embedding(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise SourceError(
            f'{where}: EMBEDDING must be the name of an output, like EMBEDDING = "sentence_embedding"; found {value!r}'
        )
    return value


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
