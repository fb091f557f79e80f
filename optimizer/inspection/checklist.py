"""The deployment checklist: each item asks one question of a published version, and answers with what to change where it fails.

What the files alone say is in readiness, what is asked at the edges in edge_questions, what is looked for among alerts in alerts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from optimizer.errors import OptimizeError
from optimizer.inspection.alerts import look_for_alerts
from optimizer.inspection.ask import load
from optimizer.inspection.edge_questions import ask_edges
from optimizer.inspection.generating_items import check_generating
from optimizer.inspection.readiness import (
    Item,
    Mark,
    check_baseline,
    check_hardware,
    check_objective,
    check_quality,
    judge_alerts,
)
from optimizer.inspection.versions import Place, manifest_signature
from server.backends.base import Backends, LoadError, Picked, Session
from server.backends.catalog import plain_backend
from server.backends.hf_tokenizers import HfTokenizers
from server.contract.errors import ContractError
from server.contract.layout import VersionFiles
from server.contract.manifest import Manifest
from server.contract.profiles import Profiles
from server.intake.checks import check_padding, check_rows, closeness
from server.intake.errors import IntakeError
from server.intake.samples import Samples, made_up_samples
from server.intake.texts import TextReader, check_vocabulary


def checklist(place: Place, backends: Backends, deploy: Path) -> list[Item]:
    """All items, in order. Where the files are damaged, or cannot be loaded, what depends on them is left out."""
    try:
        files = place.read()
    except ContractError as error:
        return [Item("digests", Mark.FAILED, str(error))]
    name, generation = files.manifest.name, files.manifest.generation
    if generation is not None:
        served = check_generating(place, files, generation, backends.decoders)
    else:
        served = [*_check_served(place, files, backends), check_fallback(files, backends)]
    return [
        Item("digests", Mark.PASSED, f"{len(files.manifest.files)} files are what the manifest says"),
        check_quality(files.manifest),
        *served,
        judge_alerts(look_for_alerts(deploy, name), deploy),
    ]


def check_fallback(files: VersionFiles, backends: Backends) -> Item:
    """Whether the version can be served where its own backend is missing."""
    manifest, plain = files.manifest, plain_backend()
    if manifest.backend == plain.name:
        return Item("fallback", Mark.PASSED, f"not needed: {plain.name} is everywhere")
    if manifest.fallback is None:
        return Item(
            "fallback", Mark.FAILED,
            f"none: where {manifest.backend} cannot be used, the version cannot be served; publish it again with this ferry",
        )  # fmt: skip
    backend = backends.usable.get(manifest.fallback)
    if backend is None:
        reason = backends.missing.get(manifest.fallback, "this ferry does not know it")
        return Item("fallback", Mark.FAILED, f"{manifest.fallback} cannot be used here: {reason}")
    try:
        with closing(load(Picked(files.by_fallback, backend))) as session:
            check_rows(session, manifest_signature(manifest), _samples(manifest), 1, (_lengths(manifest)[0],))
    except (OptimizeError, IntakeError) as error:
        return Item("fallback", Mark.FAILED, f"{manifest.fallback}: {error}")
    if files.fallback_profiles is None:
        return Item(
            "fallback",
            Mark.WARNING,
            f"{manifest.fallback} answers, but it was never measured: its times are learnt while it serves",
        )
    return Item("fallback", Mark.PASSED, f"{manifest.fallback} loads and answers, and was measured")


def _check_served(place: Place, files: VersionFiles, backends: Backends) -> list[Item]:
    """What depends on who serves it here, which may be the fallback."""
    try:
        picked = backends.pick(files)
    except ContractError as error:
        return [Item("backend", Mark.FAILED, str(error))]
    profiles, manifest = picked.files.profiles, picked.files.manifest
    said = (
        picked.backend.runtime
        if picked.instead is None
        else f"its own, {files.manifest.backend}, cannot be used here: {picked.instead}"
    )
    items = [
        Item("backend", Mark.PASSED if picked.instead is None else Mark.WARNING, said),
        check_baseline(profiles, manifest),
        check_hardware(profiles, picked.backend.runtime, picked.backend.accelerator),
        _objective(place, profiles, manifest),
    ]
    try:
        with closing(load(picked)) as session:
            return [*items, *_ask(session, picked)]
    except OptimizeError as error:
        return [*items, Item("loading", Mark.FAILED, str(error))]


def _objective(place: Place, profiles: Profiles | None, manifest: Manifest) -> Item:
    try:
        return check_objective(place.wants(), profiles, manifest)
    except ContractError as error:
        return Item("SLO", Mark.FAILED, str(error))


def _ask(session: Session, picked: Picked) -> list[Item]:
    manifest = picked.files.manifest
    items = [_check_rows(session, manifest), _check_padding(session, manifest)]
    faults = ask_edges(session, manifest)
    detail = "; ".join(f"{edge.place}: {edge.fault}" for edge in faults if edge.fault)
    asked = f"{', '.join(dict.fromkeys(edge.name for edge in faults))}: all finite"
    items.append(Item("edges", Mark.FAILED if detail else Mark.PASSED, detail or asked))
    return [*items, *_check_text(session, picked)]


def _check_rows(session: Session, manifest: Manifest) -> Item:
    try:
        found = check_rows(
            session,
            manifest_signature(manifest),
            _samples(manifest),
            manifest.max_rows,
            _lengths(manifest),
            closeness(manifest),
        )
    except IntakeError as error:
        return Item("rows", Mark.FAILED, str(error))
    return Item("rows", Mark.PASSED, found.detail)


def _check_padding(session: Session, manifest: Manifest) -> Item:
    if manifest.ragged is None:
        return Item("padding", Mark.PASSED, "all rows have one size")
    if not manifest.ragged.mixes:
        return Item("padding", Mark.PASSED, "only requests of equal length share a batch")
    try:
        found = check_padding(session, manifest_signature(manifest), _samples(manifest), manifest.ragged, closeness(manifest))
    except IntakeError as error:
        return Item("padding", Mark.FAILED, str(error))
    return Item("padding", Mark.PASSED if found.passed else Mark.FAILED, found.detail)


def _check_text(session: Session, picked: Picked) -> Sequence[Item]:
    """Nothing, of a version that takes tensors only."""
    manifest = picked.files.manifest
    text, ragged = manifest.text, manifest.ragged
    if text is None or ragged is None:
        return ()
    try:
        tokenizer = HfTokenizers().load(picked.files.folder / text.tokenizer, ragged.longest)
        found = check_vocabulary(session, TextReader(tokenizer, text, manifest.inputs, ragged), ragged)
    except (LoadError, IntakeError) as error:
        return (Item("text", Mark.FAILED, str(error)),)
    return (Item("text", Mark.PASSED, found.detail),)


def _lengths(manifest: Manifest) -> tuple[int, ...]:
    return (manifest.ragged.shortest, manifest.ragged.longest) if manifest.ragged else (0,)


def _samples(manifest: Manifest) -> Samples:
    return made_up_samples(manifest_signature(manifest), _lengths(manifest)[-1])
