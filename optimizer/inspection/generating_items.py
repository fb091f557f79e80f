"""The items of the deployment checklist for a version that generates: what is asked of its steps, its slots and its shortest and longest prompts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import numpy as np

from optimizer.decoder.decide import margin_of, rate_at
from optimizer.inspection.readiness import Item, Mark
from optimizer.inspection.versions import Place
from server.backends.base import BatchError, LoadError
from server.backends.decoding import Decoder, DecoderBackend, Row, find_decoder
from server.backends.hf_tokenizers import HfTokenizers
from server.contract.device import this_device
from server.contract.durations import format_duration
from server.contract.errors import ContractError
from server.contract.generation import Generation
from server.contract.layout import VersionFiles
from server.contract.step_profile import StepProfile
from server.contract.wants import USUAL_GAP_S, Wants

_CHUNK = 64
_ROWS = 3


def check_generating(
    place: Place, files: VersionFiles, generation: Generation, backends: Mapping[str, DecoderBackend]
) -> list[Item]:
    """What depends on who serves it here."""
    try:
        backend = find_decoder(backends, files)
    except ContractError as error:
        return [Item("backend", Mark.FAILED, str(error))]
    items = [Item("backend", Mark.PASSED, backend.runtime), *_measured(files.steps, backend), _objective(place, files.steps)]
    try:
        HfTokenizers().codec(files.folder, generation)
        with closing(backend.load(files.folder, generation, _ROWS, threads=1)) as decoder:
            return [*items, Item("text", Mark.PASSED, "tokenizer and chat template load"), *_asked(decoder, generation)]
    except LoadError as error:
        return [*items, Item("loading", Mark.FAILED, str(error))]


def _measured(steps: StepProfile | None, backend: DecoderBackend) -> list[Item]:
    if steps is None:
        return [Item("baseline", Mark.FAILED, "no steps.json: its steps were never measured; publish it with ferry optimize")]
    rows, contexts = steps.measured_rows, steps.measured_contexts
    sizes = f"steps of 1 to {rows[-1]} rows with {contexts[0]} to {contexts[-1]} tokens at placement {steps.placement}"
    difference = steps.device.difference(this_device(backend.runtime))
    there = f"measured on {steps.device.processor}, {steps.device.cores} cores, {steps.device.runtime}"
    return [
        Item("baseline", Mark.PASSED, sizes),
        Item("hardware", Mark.PASSED, f"{there}: this machine")
        if difference is None
        else Item("hardware", Mark.WARNING, f"{there}: {difference}; a server on this machine measures again before it serves"),
    ]


def _objective(place: Place, steps: StepProfile | None) -> Item:
    """Whether the first token and the gap are promised, and kept by one request alone at least."""
    try:
        wants = place.wants()
    except ContractError as error:
        return Item("SLO", Mark.FAILED, str(error))
    if wants is None:
        return Item("SLO", Mark.FAILED, 'no model.toml beside the version; write one with a line like: slo = "500ms"')
    gap_s = USUAL_GAP_S if wants.gap_s is None else wants.gap_s
    said = f"first token within {format_duration(wants.slo_s)}, {format_duration(gap_s)} between tokens"
    if steps is None:
        return Item("SLO", Mark.FAILED, f"{said}, but nobody knows whether they can be kept")
    return _kept(said, wants, steps, gap_s)


def _kept(said: str, wants: Wants, steps: StepProfile, gap_s: float) -> Item:
    rate = rate_at(steps, gap_s, margin_of([steps]))
    alone_s = min(cell.p50_s for cell in steps.prefill)
    if not rate.rows:
        return Item(
            "SLO", Mark.FAILED, f"{said}; not even one row keeps the gap: raise gap in model.toml, or make the model smaller"
        )
    if alone_s > wants.slo_s:
        return Item(
            "SLO", Mark.FAILED, f"{said}; a short prompt alone takes {format_duration(alone_s)}: raise slo in model.toml"
        )
    return Item("SLO", Mark.PASSED, f"{said}; {rate.rows} rows keep the gap, {rate.tokens_per_s:,.0f} tokens/s")


def _asked(decoder: Decoder, generation: Generation) -> list[Item]:
    """The longest prompt that leaves room for a token, one of a single token, and one row alone and in company."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, generation.vocabulary, n).astype(np.int64) for n in (generation.longest - 1, 1, _CHUNK)]
    try:
        whole = [decoder.prefill([slot], [prompt], 0)[0].copy() for slot, prompt in enumerate(prompts)]
        rows = [Row(slot, 0, len(prompt)) for slot, prompt in enumerate(prompts)]
        alone = [decoder.decode([row])[0].copy() for row in rows]
        together = decoder.decode(rows).copy()
    except BatchError as error:
        return [Item("edges", Mark.FAILED, f"a prompt of 1, {_CHUNK} or {generation.longest - 1} tokens fails: {error}")]
    finite = all(np.isfinite(logits).all() for logits in (*whole, *alone))
    same = all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
    lengths = f"prompts of 1, {_CHUNK} and {generation.longest - 1} tokens"
    return [
        Item("edges", Mark.PASSED, f"{lengths}: all finite") if finite
        else Item("edges", Mark.FAILED, f"{lengths}: not all finite; publish a less coarse version"),
        Item("rows", Mark.PASSED, "alone and in company: not a bit differs") if same
        else Item("rows", Mark.FAILED, "a row's logits depend on which others are calculated with it; publish it again"),
    ]  # fmt: skip
