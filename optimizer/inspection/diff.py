"""What differs between two versions, part by part. Pure: reads no file and runs no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from server.contract.durations import format_duration
from server.contract.layout import LINEAGE, VersionFiles
from server.contract.manifest import Manifest
from server.contract.profile import Profile
from server.contract.profiles import in_time_rate
from server.contract.wants import Wants

_NOT_COMPARED = ("config", "tools", "key", "seconds", "output")
"""Fields of a lineage line that are compared one by one, or that follow from others, or that no two runs have alike: what came out
holds measurements, and the files that matter are compared themselves."""


class Standing(Enum):
    """What a part says about the two."""

    SAME = "same"
    DIFFERS = "differs"
    MEASURED = "measured"
    UNKNOWN = "not compared"


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that was compared, with a line for each difference. MEASURED never makes two versions different: no two
    measurements are alike."""

    name: str
    standing: Standing
    lines: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "standing": self.standing.value, "lines": list(self.lines), "data": dict(self.data)}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two. `operators` None: the file was not opened. `lineage`: the lines of its lineage.jsonl, as JSON."""

    label: str
    files: VersionFiles
    wants: Wants | None
    operators: Counter[str] | None
    lineage: Sequence[Mapping[str, Any]]


def compare_versions(a: Side, b: Side) -> list[Part]:
    """Everything but the answers."""
    one, other = a.files.manifest, b.files.manifest
    return [
        _files(one, other),
        _operators(a.operators, b.operators),
        _part("tensors", _tensors(one, other)),
        _part("checks", _checks(one, other)),
        _part("backend", _changes({"backend": one.backend, "fallback": one.fallback}, {"backend": other.backend, "fallback": other.fallback})),
        _objective(a.wants, b.wants),
        _part("lineage", _lineage(a.lineage, b.lineage)),
        _profile(a, b),
    ]  # fmt: skip


def same(parts: Sequence[Part]) -> bool:
    """Whether nothing that was compared differs."""
    return all(part.standing is not Standing.DIFFERS for part in parts)


def _part(name: str, lines: Sequence[str]) -> Part:
    return Part(name, Standing.DIFFERS if lines else Standing.SAME, tuple(lines))


def _changes(a: Mapping[str, object], b: Mapping[str, object]) -> list[str]:
    """One line for each key whose value differs."""
    keys = dict.fromkeys([*a, *b])
    return [f"{key}: {_shown(a.get(key))} → {_shown(b.get(key))}" for key in keys if a.get(key) != b.get(key)]


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


def _files(a: Manifest, b: Manifest) -> Part:
    """By digest; the lineage has a part of its own."""
    one, other = ({entry.path: entry for entry in manifest.files if entry.path != LINEAGE} for manifest in (a, b))
    lines = []
    for path in dict.fromkeys([*one, *other]):
        mine, theirs = one.get(path), other.get(path)
        if mine is None or theirs is None:
            lines.append(f"{path}: only in {'the second' if mine is None else 'the first'}")
        elif mine.sha256 != theirs.sha256:
            ratio = f" ({theirs.bytes / mine.bytes:.2f}x)" if mine.bytes else ""
            lines.append(f"{path}: {_megabytes(mine.bytes)} → {_megabytes(theirs.bytes)}{ratio}")
    sizes = {name: sum(entry.bytes for entry in side.values()) for name, side in (("a", one), ("b", other))}
    return Part("files", Standing.DIFFERS if lines else Standing.SAME, tuple(lines), {"bytes": sizes})


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.2f} MB" if n_bytes >= 10_000 else f"{n_bytes} bytes"


def _operators(a: Counter[str] | None, b: Counter[str] | None) -> Part:
    if a is None or b is None:
        return Part("operators", Standing.UNKNOWN, ("reading them needs onnx: pip install onnx",))
    names = sorted({*a, *b}, key=lambda name: (-abs(a[name] - b[name]), name))
    lines = [f"{name}: {a[name]} → {b[name]}" for name in names if a[name] != b[name]]
    if lines:
        lines.insert(0, f"{a.total()} → {b.total()} in all")
    return Part("operators", Standing.DIFFERS if lines else Standing.SAME, tuple(lines), {"a": dict(a), "b": dict(b)})


def _tensors(a: Manifest, b: Manifest) -> list[str]:
    """Inputs, outputs, and what sizes of them are possible."""
    one, other = ({**_specs(manifest), **_sizes(manifest)} for manifest in (a, b))
    return _changes(one, other)


def _specs(manifest: Manifest) -> dict[str, object]:
    both = [*(("input", spec) for spec in manifest.inputs), *(("output", spec) for spec in manifest.outputs)]
    return {
        f"{what} {spec.name}": f"{spec.datatype.value} [{', '.join(str(dim) for dim in spec.shape)}]" for what, spec in both
    }


def _sizes(manifest: Manifest) -> dict[str, object]:
    ragged, text = manifest.ragged, manifest.text
    sizes: dict[str, object] = {"largest batch": manifest.max_rows}
    if ragged is not None:
        sizes |= {"lengths": f"{ragged.shortest} to {ragged.longest}", "pads": dict(ragged.pads)}
        sizes |= {"lengths share a batch": "yes" if ragged.mixes else "no"}
    return sizes | {"takes text": None if text is None else asdict(text)}


def _checks(a: Manifest, b: Manifest) -> list[str]:
    """Which there are and whether they passed; their figures are shown beside that, but make no difference alone."""
    one, other = ({check.name: check for check in manifest.checks} for manifest in (a, b))
    lines = []
    for name in dict.fromkeys([*one, *other]):
        mine, theirs = one.get(name), other.get(name)
        if mine is None or theirs is None:
            found = mine or theirs
            assert found is not None
            lines.append(f"{name}: only in {'the second' if mine is None else 'the first'}: {found.detail}")
        elif mine.passed != theirs.passed:
            lines.append(f"{name}: {_verdict(mine.passed)} ({mine.detail}) → {_verdict(theirs.passed)} ({theirs.detail})")
    return lines


def _verdict(passed: bool) -> str:
    return "passed" if passed else "failed"


def _objective(a: Wants | None, b: Wants | None) -> Part:
    if a is None or b is None:
        return Part("SLO", Standing.UNKNOWN, ("one of the two is not in a model's folder, whose model.toml would say it",))
    names = ("max_rows", "instances", "threads")
    one, other = ({"SLO": format_duration(wants.slo_s), **{name: getattr(wants, name) for name in names}} for wants in (a, b))
    return _part("SLO", _changes(one, other))


def _lineage(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> list[str]:
    """Steps by name; of those that both have, what was asked of them and which tools did it."""
    one, other = ({str(line["stage"]): line for line in lines} for lines in (a, b))
    lines = []
    for stage in dict.fromkeys([*one, *other]):
        if stage not in one or stage not in other:
            lines.append(f"{stage}: only in {'the second' if stage not in one else 'the first'}")
            continue
        mine, theirs = one[stage], other[stage]
        for part in ("config", "tools"):
            lines += [f"{stage}: {part}: {change}" for change in _changes(mine[part], theirs[part])]
        rest = {key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key)} - set(_NOT_COMPARED)
        if rest and (mine["config"], mine["tools"]) == (theirs["config"], theirs["tools"]):
            lines.append(f"{stage}: other {' and '.join(sorted(rest))}")
    return lines


def _profile(a: Side, b: Side) -> Part:
    """One row's p50 and p99, and the rate within the SLO, by length, as ratios."""
    one, other = a.files.profiles, b.files.profiles
    if one is None or other is None:
        return Part("profile", Standing.UNKNOWN, ("one of the two was never measured",))
    if (one.device.processor, one.device.cores) != (other.device.processor, other.device.cores):
        machines = " and ".join(f"{device.processor} with {device.cores} cores" for device in (one.device, other.device))
        return Part(
            "profile", Standing.UNKNOWN, (f"measured on different machines, {machines}: their ratio would say nothing",)
        )
    wants = a.wants or b.wants
    profiles = [_chosen(side, wants) for side in (a, b)]
    lengths = [n for n in profiles[0].measured_lengths if n in profiles[1].measured_lengths]
    slo_s = wants.slo_s if wants else None
    rows = [_ratios(a, b, profiles, length, slo_s) for length in lengths]
    lines = [f"placement: {profiles[0].placement} → {profiles[1].placement}"]
    lines += [_line(row, slo_s) for row in rows]
    if one.device.runtime != other.device.runtime:
        lines.insert(0, f"runtime: {one.device.runtime} → {other.device.runtime}")
    if a.wants and b.wants and a.wants.slo_s != b.wants.slo_s:
        lines.append(f"both by the SLO of {a.label}")
    return Part("profile", Standing.MEASURED, tuple(lines), {"slo_s": slo_s, "lengths": rows})


def _chosen(side: Side, wants: Wants | None) -> Profile:
    profiles = side.files.profiles
    assert profiles is not None, "asked before"
    return (
        profiles.choose(wants, side.files.manifest.max_rows, profiles.device.cores).profile if wants else profiles.profiles[0]
    )


def _ratios(a: Side, b: Side, profiles: Sequence[Profile], length: int, slo_s: float | None) -> dict[str, Any]:
    p50, p99 = ([profile.predict(1, length) for profile in profiles], [profile.predict_p99(1, length) for profile in profiles])
    found: dict[str, Any] = {
        "length": length,
        "p50_s": p50,
        "p99_s": p99,
        "p50_ratio": p50[1] / p50[0],
        "p99_ratio": p99[1] / p99[0],
    }
    if slo_s is not None:
        sizes = [side.files.manifest.max_rows for side in (a, b)]
        rates = [in_time_rate(profile, slo_s, rows, length) for profile, rows in zip(profiles, sizes, strict=True)]
        found |= {"rates": rates, "rate_ratio": rates[1] / rates[0] if rates[0] else None}
    return found


def _line(row: Mapping[str, Any], slo_s: float | None) -> str:
    at = f"length {row['length']}: " if row["length"] else ""
    times = ", ".join(
        f"{name} {format_duration(row[f'{name}_s'][0])} → {format_duration(row[f'{name}_s'][1])} ({row[f'{name}_ratio']:.2f}x)"
        for name in ("p50", "p99")
    )
    if slo_s is None:
        return f"{at}one row {times}"
    first, second = row["rates"]
    ratio = f" ({row['rate_ratio']:.2f}x)" if row["rate_ratio"] is not None else ""
    return f"{at}one row {times}; {first:,.0f} → {second:,.0f} rows/s within {format_duration(slo_s)}{ratio}"
