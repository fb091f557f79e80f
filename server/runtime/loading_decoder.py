"""From a version on disk that generates to decoders ready to serve. Blocking: runs off the event loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from server.backends.base import LoadError
from server.backends.decoding import Decoder, DecoderBackend, Row
from server.contract.device import Device, this_device
from server.contract.errors import ContractError
from server.contract.generation import Generation
from server.contract.layout import VersionFiles
from server.contract.wants import Wants
from server.generation.texts import TextCodec, TextCodecs
from server.runtime.generating_terms import GeneratingTerms, generating_terms, hopeless

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedDecoder:
    """A version that generates with a decoder for each instance, warmed up."""

    files: VersionFiles
    generation: Generation
    wants: Wants
    terms: GeneratingTerms
    decoders: Sequence[Decoder]
    codec: TextCodec


def load_decoder(
    files: VersionFiles, generation: Generation, wants: Wants, backends: Mapping[str, DecoderBackend], codecs: TextCodecs | None
) -> LoadedDecoder:  # fmt: skip
    """Load and warm up one version.

    Raises ContractError when it cannot be used here, LoadError when a library refuses the model or its tokenizer.
    """
    name = f"{files.manifest.name}/{files.version}"
    backend = backends.get(files.manifest.backend)
    if backend is None:
        known = ", ".join(backends) or "none"
        raise ContractError(
            f"{name}: needs backend {files.manifest.backend!r}; this ferry's for models that generate: {known}; upgrade ferry, or "
            "publish the model again"
        )
    if codecs is None:
        raise LoadError(f"needs a tokenizer library for {generation.tokenizer}, which this server was started without")
    terms = _terms(files, generation, wants, this_device(backend.runtime))
    codec = codecs.codec(files.folder, generation)
    made: list[Decoder] = []
    for _ in range(terms.placement.instances):
        made.append(backend.load(files.folder, generation, terms.limits.slots, terms.placement.threads))
        _warm_up(made[-1])
    reason = hopeless(generation, terms)
    if reason is not None:
        log.warning("%s: %s", name, reason)
    return LoadedDecoder(files, generation, wants, terms, made, codec)


def _terms(files: VersionFiles, generation: Generation, wants: Wants, device: Device) -> GeneratingTerms:
    name = f"{files.manifest.name}/{files.version}"
    if files.steps is None:
        raise ContractError(f"{name}: has no steps.json, so it is not known what its steps take; measure it: ferry optimize")
    difference = files.steps.device.difference(device)
    if difference is not None:
        raise ContractError(
            f"{name}: its steps were measured on another machine ({difference}); measure it on this one: ferry optimize"
        )
    return generating_terms(generation, wants, files.steps)


def _warm_up(decoder: Decoder) -> None:
    """First calls allocate and plan; no client should pay for that."""
    try:
        decoder.prefill([0], [np.zeros(1, np.int64)], 0)
        decoder.decode([Row(slot, 0, min(slot, 1)) for slot in range(decoder.slots)])
    except Exception as error:  # BatchError, or a bug of the backend: the model is not fit to serve either way
        raise LoadError(f"the model fails on a warm-up step: {error}") from error
