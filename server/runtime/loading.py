"""From a version on disk to a session ready to serve. Blocking: runs off the event loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from server.backends.base import Backend, LoadError, Session, Tokenizer, TokenizerLibrary
from server.contract.device import this_device
from server.contract.errors import ContractError
from server.contract.layout import VersionFiles, read_version
from server.contract.layout import versions as versions_on_disk
from server.contract.manifest import Manifest
from server.contract.profile import Profile
from server.contract.wants import FILE as WANTS_FILE
from server.contract.wants import Wants, read_wants
from server.core.lifecycle import version_to_serve
from server.intake.build import measure_again
from server.intake.inspect import Signature
from server.intake.measure import Effort
from server.intake.samples import made_up_samples
from server.intake.texts import TextReader
from server.runtime.terms import placement

log = logging.getLogger(__name__)

QUICK = Effort(cell_s=0.03, n_least=1, n_most=50)
"""For a profile from another machine: enough to serve by, in seconds rather than minutes."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version with its session, warmed up. `reader`: what makes its inputs from text, where it takes text."""

    files: VersionFiles
    wants: Wants
    profile: Profile
    session: Session
    reader: TextReader | None


def newest_version(model_folder: Path) -> int:
    """Raises ContractError when the model has no version."""
    version = version_to_serve(versions_on_disk(model_folder))
    if version is None:
        raise ContractError(f"{model_folder.name}: no version folder; publish one with `ferry optimize` or the admin API")
    return version


def load_version(
    model_folder: Path, version: int, backends: Mapping[str, Backend], tokenizers: TokenizerLibrary | None = None
) -> Loaded:
    """Read, verify, load and warm up one version.

    Raises ContractError for files that break the contract, LoadError when a library refuses the model or its tokenizer.
    """
    wants = read_wants(model_folder / WANTS_FILE)
    files = read_version(model_folder, version)
    backend = backends.get(files.manifest.backend)
    if backend is None:
        raise ContractError(
            f"{model_folder.name}/{version}: needs backend {files.manifest.backend!r}; this server has {', '.join(backends)}"
        )
    tokenizer = _load_tokenizer(files, tokenizers)
    profile = _trusted_profile(files, backend, tokenizer)
    session = backend.load(files.folder, placement(wants, profile).threads)
    _warm_up(session, files.manifest)
    _warn_if_hopeless(files, profile, wants)
    return Loaded(files, wants, profile, session, _reader(files.manifest, tokenizer))


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


def _trusted_profile(files: VersionFiles, backend: Backend, tokenizer: Tokenizer | None) -> Profile:
    difference = files.profile.device.difference(this_device(backend.runtime))
    if difference is None:
        return files.profile
    name = f"{files.manifest.name}/{files.version}"
    log.warning("%s: the profile is from another machine (%s): measuring again, which takes a while", name, difference)
    return measure_again(files.folder, backend, files.manifest, lambda *_: None, QUICK, tokenizer)


def _warm_up(session: Session, manifest: Manifest) -> None:
    """First calls allocate and plan; no client should pay for that."""
    ragged = manifest.ragged
    signature = Signature(manifest.inputs, manifest.outputs, ragged.axis if ragged else None, True)
    for length in sorted({ragged.shortest, ragged.longest}) if ragged else (0,):
        try:
            session.run(made_up_samples(signature, length, n_singles=1).batch(1, length))
        except Exception as error:  # BatchError, or a bug of the backend: the model is not fit to serve either way
            raise LoadError(f"the model fails on a warm-up input: {error}") from error


def _warn_if_hopeless(files: VersionFiles, profile: Profile, wants: Wants) -> None:
    longest = profile.measured_lengths[-1]
    alone_s = profile.predict(1, longest)
    for slo_s in sorted({one.slo_s for one in wants.classes.all if alone_s > one.slo_s}):
        log.warning(
            "%s/%d: one row%s takes %.4g ms alone, more than the SLO of %.4g ms: such requests will be refused; "
            "raise slo in model.toml or use a faster model",
            files.manifest.name, files.version, f" of length {longest}" if longest else "", alone_s * 1e3, slo_s * 1e3,
        )  # fmt: skip
