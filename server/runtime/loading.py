"""From a version on disk to a session ready to serve. Blocking: runs off the event loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from server.backends.base import Array, Backend, Backends, LoadError, OnCard, Session, Tokenizer, TokenizerLibrary
from server.contract.device import Device, this_device
from server.contract.errors import ContractError
from server.contract.layout import VersionFiles, read_version
from server.contract.layout import versions as versions_on_disk
from server.contract.manifest import Manifest
from server.contract.text import TextCost
from server.contract.wants import FILE as WANTS_FILE
from server.contract.wants import Wants, read_wants
from server.core.lifecycle import version_to_serve
from server.intake.inspect import Signature
from server.intake.samples import made_up_samples
from server.intake.texts import TextReader, measure_text
from server.intake.timer import now
from server.runtime.loading_decoder import DecoderLoader, LoadedDecoder
from server.runtime.profile_cache import ProfileCache
from server.runtime.room import Room, Taken, need_of
from server.runtime.terms import Source, Terms, terms_of, terms_to_learn

log = logging.getLogger(__name__)

N_CHECKS = 3
OUTRUN, OUTRUN_S = 3.0, 0.001
"""A profile that was kept is checked by timing one row so often; it is not used if it says so many times as much, and by so many
seconds more, than the quickest took."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version with its session, warmed up, on a machine that is `device` to its backend. `reader`: what makes its inputs from
    text, at the cost `text`, where it takes text. `taken`: its memory, to be given back when it is not loaded any more."""

    files: VersionFiles
    wants: Wants
    device: Device
    terms: Terms
    session: Session
    reader: TextReader | None
    text: TextCost | None
    taken: Taken


def newest_version(model_folder: Path) -> int:
    """Raises ContractError when the model has no version."""
    version = version_to_serve(versions_on_disk(model_folder))
    if version is None:
        raise ContractError(f"{model_folder.name}: no version folder; publish one with `ferry optimize` or the admin API")
    return version


def load_version(
    model_folder: Path, version: int, backends: Backends, tokenizers: TokenizerLibrary | None, cache: ProfileCache,
    decoders: DecoderLoader, room: Room,
) -> Loaded | LoadedDecoder:  # fmt: skip
    """Read, verify, load and warm up one version, of either kind.

    Raises ContractError for files that break the contract, LoadError when a library refuses the model or its tokenizer, or `room` has
    no memory left for it.
    """
    wants = read_wants(model_folder / WANTS_FILE)
    found = read_version(model_folder, version)
    if found.manifest.generation is not None:
        return decoders.load(found, found.manifest.generation, wants, room)
    picked = backends.pick(found)
    files, backend = picked.files, picked.backend
    if picked.instead is not None:
        name = f"{model_folder.name}/{version}"
        log.warning(
            "%s: served by its slower fallback %s, for its own backend cannot serve it here: %s",
            name,
            backend.name,
            picked.instead,
        )
    device = this_device(backend.runtime, backend.accelerator)
    free = partial(_free_bytes, backend) if isinstance(backend, OnCard) else None
    taken = room.take(f"{model_folder.name}/{version}", need_of(files, wants, device, backend.model_file), free)
    try:
        return _load(files, backend, wants, device, _load_tokenizer(files, tokenizers), cache, taken)
    except BaseException:  # whatever it was, its room is another model's again
        room.give_back(taken)
        raise


def _free_bytes(backend: OnCard) -> int:
    return backend.card_memory().free_bytes


def _load(
    files: VersionFiles, backend: Backend, wants: Wants, device: Device, tokenizer: Tokenizer | None, cache: ProfileCache,
    taken: Taken,
) -> Loaded:  # fmt: skip
    terms = _terms(files, wants, device, cache)
    session = backend.load(files.folder, terms.placement.threads)
    try:
        _warm_up(session, files.manifest)
    except LoadError:
        session.close()
        raise
    if terms.source is Source.CACHED and _is_outrun(terms, files.manifest, session):
        log.warning(
            "%s/%d: is faster than when it was measured: it is measured again while it serves",
            files.manifest.name,
            files.version,
        )
        terms = replace(terms_to_learn(files.manifest, wants, device, files.profiles), placement=terms.placement, why=terms.why)
    _warn_if_hopeless(files, terms, wants)
    text = _text_cost(files, tokenizer, terms)
    return Loaded(files, wants, device, terms, session, _reader(files.manifest, tokenizer), text, taken)


def _load_tokenizer(files: VersionFiles, tokenizers: TokenizerLibrary | None) -> Tokenizer | None:
    text, ragged = files.manifest.text, files.manifest.ragged
    if text is None or ragged is None:
        return None
    if tokenizers is None:
        raise LoadError(f"needs a tokenizer library for {text.tokenizer}, which this server was started without")
    return tokenizers.load(files.folder / text.tokenizer, ragged.longest)


def _reader(manifest: Manifest, tokenizer: Tokenizer | None) -> TextReader | None:
    if tokenizer is None or manifest.text is None or manifest.ragged is None:
        return None
    return TextReader(tokenizer, manifest.text, manifest.inputs, manifest.ragged)


def _terms(files: VersionFiles, wants: Wants, device: Device, cache: ProfileCache) -> Terms:
    """By the published profile if it is of such a machine, else by what was measured on this one before, else to be learnt."""
    name = f"{files.manifest.name}/{files.version}"
    difference = files.profiles.device.difference(device) if files.profiles else None
    if files.profiles is not None and difference is None:
        return terms_of(files.manifest, wants, files.profiles)
    cached = cache.get(files.manifest, device)
    if cached is not None:
        terms = terms_of(files.manifest, wants, cached, Source.CACHED)
        if terms.profile is not None and terms.placement == terms.profile.placement:
            return terms
    reason = f"its profile is from another machine ({difference})" if difference else "it has no profile"
    log.warning("%s: %s: it is measured while it serves, and what batches take is learnt from those that run", name, reason)
    return terms_to_learn(files.manifest, wants, device, files.profiles)


def _text_cost(files: VersionFiles, tokenizer: Tokenizer | None, terms: Terms) -> TextCost | None:
    """From the profile, or measured now, which takes no time to speak of."""
    if tokenizer is None or files.manifest.ragged is None:
        return None
    known = terms.profile.text if terms.profile is not None else None
    return known or measure_text(tokenizer, files.manifest.ragged.longest, ())


def _warm_up(session: Session, manifest: Manifest) -> None:
    """First calls allocate and plan; no client should pay for that."""
    ragged = manifest.ragged
    for length in sorted({ragged.shortest, ragged.longest}) if ragged else (0,):
        try:
            session.run(_one_row(manifest, length))
        except Exception as error:  # BatchError, or a bug of the backend: the model is not fit to serve either way
            raise LoadError(f"the model fails on a warm-up input: {error}") from error


def _one_row(manifest: Manifest, length: int) -> dict[str, Array]:
    signature = Signature(manifest.inputs, manifest.outputs, manifest.ragged.axis if manifest.ragged else None, True)
    return made_up_samples(signature, length, n_singles=1).batch(1, length)


def _is_outrun(terms: Terms, manifest: Manifest, session: Session) -> bool:
    """Whether what was kept was measured in a bad moment: too slow a profile would refuse requests that can be answered, and so
    would never be corrected."""
    shortest = manifest.ragged.shortest if manifest.ragged else 0
    said_s = terms.profile.predict(1, shortest) if terms.profile is not None else 0.0
    row = _one_row(manifest, shortest)
    took_s = min(_seconds(session, row) for _ in range(N_CHECKS))
    return said_s > max(OUTRUN * took_s, took_s + OUTRUN_S)


def _seconds(session: Session, batch: Mapping[str, Array]) -> float:
    began_at = now()
    session.run(batch)
    return now() - began_at


def _warn_if_hopeless(files: VersionFiles, terms: Terms, wants: Wants) -> None:
    profile = terms.profile
    if profile is None:
        return
    longest = profile.measured_lengths[-1]
    alone_s = profile.predict(1, longest)
    for slo_s in sorted({one.slo_s for one in wants.classes.all if alone_s > one.slo_s}):
        log.warning(
            "%s/%d: one row%s takes %.4g ms alone, more than the SLO of %.4g ms: such requests will be refused; "
            "raise slo in model.toml or use a faster model",
            files.manifest.name, files.version, f" of length {longest}" if longest else "", alone_s * 1e3, slo_s * 1e3,
        )  # fmt: skip
