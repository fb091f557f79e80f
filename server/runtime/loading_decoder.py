"""From a version on disk that generates to decoders ready to serve. Blocking: runs off the event loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from server.backends.base import BatchError, LoadError
from server.backends.decoding import Decoder, DecoderBackend, Row, find_decoder
from server.contract.device import Device, this_device
from server.contract.generation import Generation
from server.contract.layout import VersionFiles
from server.contract.profile import Placement
from server.contract.step_profile import StepProfile
from server.contract.wants import Wants
from server.generation.grammars import GrammarCompiler, GrammarLibrary
from server.generation.texts import TextCodec, TextCodecs
from server.intake.measure import Effort
from server.intake.steps import ROWS, measure_steps
from server.runtime.generating_terms import GeneratingTerms, generating_terms, hopeless
from server.runtime.profile_cache import ProfileCache
from server.runtime.room import Room, Taken, need_of_decoder, token_bytes
from server.runtime.terms import Source

log = logging.getLogger(__name__)

AT_LOAD = Effort(cell_s=0.3, n_least=15, n_most=150)
"""Some seconds in all: enough to begin with, for what steps take is corrected while they run."""

MEASURED_BYTES = 1 << 30
"""Slots may take so much while they are measured."""


@dataclass(frozen=True, slots=True)
class LoadedDecoder:
    """A version that generates with a decoder for each instance, warmed up."""

    files: VersionFiles
    generation: Generation
    wants: Wants
    terms: GeneratingTerms
    decoders: Sequence[Decoder]
    codec: TextCodec
    taken: Taken
    grammars: GrammarCompiler | None


class DecoderLoader:
    """Knows what every version needs: backends, tokenizers, and what was measured on this machine before."""

    def __init__(
        self, backends: Mapping[str, DecoderBackend], codecs: TextCodecs | None, cache: ProfileCache, effort: Effort = AT_LOAD,
        grammars: GrammarLibrary | None = None,
    ) -> None:  # fmt: skip
        """`grammars`: None where answers are held to no schema. `effort`: of measuring the steps of a version whose profile is not of this machine."""
        self._backends = backends
        self._codecs = codecs
        self._cache = cache
        self._effort = effort
        self._grammars = grammars

    def load(self, files: VersionFiles, generation: Generation, wants: Wants, room: Room) -> LoadedDecoder:
        """Load and warm up one version, in memory of `room`.

        Raises ContractError when it cannot be used here, LoadError when a library refuses the model or its tokenizer.
        """
        name = f"{files.manifest.name}/{files.version}"
        backend = find_decoder(self._backends, files)
        if self._codecs is None:
            raise LoadError(f"needs a tokenizer library for {generation.tokenizer}, which this server was started without")
        codec = self._codecs.codec(files.folder, generation)
        terms = self._terms(files, generation, wants, backend, room)
        instances, slots = terms.placement.instances, terms.limits.slots
        taken = room.take(name, need_of_decoder(files, generation, instances, slots))
        try:
            made = [
                _warmed_up(backend.load(files.folder, generation, slots, terms.placement.threads)) for _ in range(instances)
            ]
            reason = hopeless(terms)
            if reason is not None:
                log.warning("%s: %s", name, reason)
            grammars = None if self._grammars is None else self._grammars.compiler(codec.serialized, generation)
            return LoadedDecoder(files, generation, wants, terms, made, codec, taken, grammars)
        except BaseException:  # whatever it was, its room is another model's again
            room.give_back(taken)
            raise

    def _terms(
        self, files: VersionFiles, generation: Generation, wants: Wants, backend: DecoderBackend, room: Room
    ) -> GeneratingTerms:
        """By the published profile if it is of such a machine and placement, else by what was measured here before, else measured now."""
        device = this_device(backend.runtime)
        reason = _why_not(files.steps, wants, device)
        if files.steps is not None and reason is None:
            return generating_terms(generation, wants, files.steps)
        cached = self._cache.get_steps(files.manifest, device)
        if cached is not None and _why_not(cached, wants, device) is None:
            return generating_terms(generation, wants, cached, Source.CACHED)
        log.warning("%s/%d: %s: its steps are measured now, before it serves", files.manifest.name, files.version, reason)
        profile = self._measure(files, generation, wants, backend, device, room)
        self._cache.put_steps(files.manifest, profile)
        return generating_terms(generation, wants, profile, Source.MEASURED)

    def _measure(
        self, files: VersionFiles, generation: Generation, wants: Wants, backend: DecoderBackend, device: Device, room: Room
    ) -> StepProfile:
        instances, slots = wants.instances or 1, wants.slots or slots_to_measure(generation)
        placement = Placement(instances, wants.threads or max(1, device.cores // instances))
        taken = room.take(f"{files.manifest.name}/{files.version}", need_of_decoder(files, generation, 1, slots))
        try:
            decoder = backend.load(files.folder, generation, slots, placement.threads)
            try:
                return measure_steps(decoder, placement, device, generation.longest, _untold, self._effort)
            except BatchError as error:
                raise LoadError(f"the model fails while its steps are measured: {error}") from error
            finally:
                decoder.close()
        finally:
            room.give_back(taken)


def slots_to_measure(generation: Generation) -> int:
    """As many as are measured at all, unless they would take too much memory: when it is measured all of them are full."""
    return max(1, min(ROWS[-1], MEASURED_BYTES // (token_bytes(generation) * generation.longest)))


def _why_not(profile: StepProfile | None, wants: Wants, device: Device) -> str | None:
    """Why a profile does not say what steps take here, as model.toml wants them; None: it does."""
    if profile is None:
        return "it has no steps.json"
    difference = profile.device.difference(device)
    if difference is not None:
        return f"its steps were measured on another machine ({difference})"
    for name in ("instances", "threads"):
        wanted, there = getattr(wants, name), getattr(profile.placement, name)
        if wanted is not None and wanted != there:
            return f"model.toml asks for {name} = {wanted}, but its steps were measured at {profile.placement}"
    return None


def _untold(what: str, done: int, total: int) -> None:
    """Nobody watches a server that loads a model."""


def _warmed_up(decoder: Decoder) -> Decoder:
    """First calls allocate and plan; no client should pay for that."""
    try:
        decoder.prefill([0], [np.zeros(1, np.int64)], 0)
        decoder.decode([Row(slot, 0, min(slot, 1)) for slot in range(decoder.slots)])
    except Exception as error:  # BatchError, or a bug of the backend: the model is not fit to serve either way
        raise LoadError(f"the model fails on a warm-up step: {error}") from error
    return decoder
