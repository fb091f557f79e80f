"""A repository as the server would serve it, made ready for a simulation: versions by the very terms that the engine is given, and their traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from server.contract.durations import format_duration
from server.contract.errors import ContractError
from server.contract.layout import VersionFiles, check_repository, model_names, read_version, versions
from server.contract.wants import FILE, Wants, read_wants
from server.core.costs import CostTable
from server.core.lifecycle import version_to_serve
from server.core.types import ModelKey
from server.runtime.reply_time import kept_s, within_s
from server.runtime.terms import terms_of
from server.simulation.arrivals import Trace
from server.simulation.errors import BadWorkload
from server.simulation.lengths import Lengths
from server.simulation.play import Version
from server.simulation.traffic import Traffic
from server.simulation.wire import Form, wire_of
from server.workload import Asked


@dataclass(frozen=True, slots=True)
class Overrides:
    """What is different from what the repository says. None: nothing."""

    version: int | None = None
    instances: int | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """Who plays: `asked` are the versions with traffic, `versions` all that share their devices. `notices`: what the user must know."""

    versions: Sequence[Version]
    traffic: Sequence[Traffic]
    notices: Sequence[str]

    @property
    def asked(self) -> list[Version]:
        keys = {one.model for one in self.traffic}
        return [one for one in self.versions if one.key in keys]


def stage(repository: Path, asked: Sequence[Asked], tells_slo: bool, overrides: Overrides) -> Stage:
    """Every model of the repository, loaded beside the others as the server loads it. Raises BadWorkload, ContractError."""
    names = model_names(check_repository(repository))
    missing = sorted({one.model for one in asked} - set(names))
    if missing:
        raise BadWorkload(f"no model {missing[0]!r} in {repository}; there are {', '.join(names) or 'none'}")
    found: list[Version] = []
    traffic: list[Traffic] = []
    notices: list[str] = []
    for name in names:
        wanted = [one for one in asked if one.model == name]
        if wanted:
            version, files, wants = _wanted_version(repository / name, wanted, overrides)
            found.append(version)
            traffic += [_traffic(one, version, files, wants, tells_slo) for one in wanted]
            notices += _notices(version)
        else:
            found += _neighbour(repository / name, notices)
    order = {one.name: at for at, one in enumerate(asked)}
    return Stage(found, sorted(traffic, key=lambda one: order[one.name]), notices)


def _wanted_version(folder: Path, asked: Sequence[Asked], overrides: Overrides) -> tuple[Version, VersionFiles, Wants]:
    wants = read_wants(folder / FILE)
    slos_s = [one.slo_s for one in asked if one.slo_s is not None]
    wants = replace(wants, instances=overrides.instances or wants.instances)
    if slos_s:
        wants = replace(wants, slo_s=max(slos_s), declared=None)
    files = _read(folder, overrides.version)
    form = Form.BINARY if any(one.is_binary for one in asked) else Form.JSON
    return _version(files, wants, form), files, wants


def _neighbour(folder: Path, notices: list[str]) -> list[Version]:
    """A model without traffic: it shares the device all the same. One that the server could not serve is left out."""
    try:
        return [_version(_read(folder, None), read_wants(folder / FILE), Form.JSON)]
    except ContractError as error:
        notices.append(f"{folder.name} is left out: {error}")
        return []


def _read(folder: Path, version: int | None) -> VersionFiles:
    number = version or version_to_serve(versions(folder))
    if number is None:
        raise ContractError(f"{folder.name}: no version folder; publish one with `ferry optimize` or the admin API")
    return read_version(folder, number)


def _version(files: VersionFiles, wants: Wants, form: Form) -> Version:
    manifest, key = files.manifest, ModelKey(files.manifest.name, files.version)
    if manifest.generation is not None:
        raise ContractError(f"{key} generates text; only models that answer in one step can be simulated from a repository")
    if files.profiles is None:
        raise ContractError(
            f"{key} has no profile yet, so nothing can be predicted; publish it with `ferry optimize` or the admin API"
        )
    terms = terms_of(manifest, wants, files.profiles)
    assert terms.profile is not None, "what was measured is known"
    assert isinstance(terms.costs, CostTable), "what was measured is known"
    return Version(
        key, terms.profile, terms.placement, terms.costs, terms.limits, terms.mixing, terms.device,
        wire_of(manifest, form),
    )  # fmt: skip


def _traffic(one: Asked, version: Version, files: VersionFiles, wants: Wants, tells_slo: bool) -> Traffic:
    if one.rows > version.limits.batch_rows:
        raise BadWorkload(f"{version.key} takes requests of up to {version.limits.batch_rows} rows; --rows asks for {one.rows}")
    lengths = _fitting(one, version, files)
    slo_s = one.slo_s or wants.slo_s
    shortest = lengths.shortest if lengths else 0
    alone_s = version.costs.batch_s(one.rows, shortest) + kept_s(slo_s)
    if alone_s > slo_s:
        what = f"{one.rows} row{'s' if one.rows > 1 else ''}" + (f" of length {shortest}" if shortest else "")
        raise BadWorkload(
            f"{version.key} takes {format_duration(alone_s)} for {what} alone, more than the SLO of {format_duration(slo_s)}: no machine "
            "of this kind can keep it; allow more time, send less at once, or use a faster model"
        )
    allowed_s = within_s(min(slo_s, wants.slo_s) if tells_slo else wants.slo_s)
    return Traffic(one.name, version.key, one.arrivals, one.rate or 1.0, slo_s, allowed_s, one.rows, lengths, one.start_s)


def _fitting(one: Asked, version: Version, files: VersionFiles) -> Lengths | None:
    ragged, lengths = files.manifest.ragged, one.lengths
    if ragged is None:
        return None
    if isinstance(one.arrivals, Trace) and one.arrivals.lengths is not None:
        known = one.arrivals.lengths
        lengths = Lengths(lambda rnd: rnd.choice(known), min(known), max(known))
        if min(known) < ragged.shortest:
            raise BadWorkload(f"{version.key} takes lengths from {ragged.shortest} on; the trace has {min(known)}")
    return lengths and lengths.within(ragged.shortest, ragged.longest, str(version.key))


def _notices(version: Version) -> list[str]:
    measured = version.profile.placement.instances
    if version.placement.instances <= measured:
        return []
    return [
        f"{version.key}: {version.placement.instances} instances, but its profile was measured with {measured}: more of them share the "
        "same cores, so this is too good to be true"
    ]
