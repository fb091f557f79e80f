"""The server's own intake, as a stage: rows and padding checked, placement chosen, latency measured."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optimizer.errors import StageFailed
from optimizer.options import Options
from optimizer.stages.base import Result
from optimizer.stages.files import SAMPLES, TEXTS, read_arrays
from server.backends.base import Backend
from server.contract.layout import TOKENIZER, read_json
from server.intake.build import MAX_ROWS, Intake, build_version
from server.intake.errors import IntakeError
from server.intake.measure import Progress
from server.intake.texts import TextWish


def intake(
    inputs: Mapping[str, Path], out: Path, progress: Progress, *, name: str, backend: Backend, options: Options
) -> Result:
    """Writes manifest.json and profile.json for the model of the stage before. Raises StageFailed when a check fails."""
    model = inputs["export"] if "export" in inputs else inputs["take"]
    os.link(model / backend.model_file, out / backend.model_file)
    source = inputs.get("build", model)
    takes_text = (source / TOKENIZER).exists()
    if takes_text:
        os.link(source / TOKENIZER, out / TOKENIZER)
    request = (
        _with_samples(name, inputs["build"], options) if "build" in inputs else _without_samples(name, options, takes_text)
    )
    try:
        manifest, profiles = build_version(out, backend, request, progress)
    except IntakeError as error:
        raise StageFailed(str(error)) from None
    (out / backend.model_file).unlink()
    (out / TOKENIZER).unlink(missing_ok=True)
    length = manifest.ragged.shortest if manifest.ragged else 0
    rates = [f"{one.placement} up to {one.peak_rate(length):,.0f} rows/s" for one in profiles.profiles]
    note = f"placement {', '.join(rates)}"
    if profiles.text is not None:
        note += f", text {profiles.text.token_s * 1e6:.2g} µs per token"
    return Result(note, None, {"made_up_samples": "build" not in inputs})


def _with_samples(name: str, built: Path, options: Options) -> Intake:
    settings = Result.read(built).data["settings"]
    groups = read_arrays(built / SAMPLES)
    return Intake(
        name=name,
        singles=[groups[key] for key in sorted(groups, key=int)],
        lengths=tuple(settings["lengths"]) if settings["lengths"] else None,
        pads=settings["pads"],
        max_rows=settings["max_rows"],
        effort=options.effort,
        text=_wish(built, settings) if (built / TOKENIZER).exists() else None,
    )


def _wish(built: Path, settings: Mapping[str, Any]) -> TextWish:
    return TextWish(settings["text_inputs"], settings["embedding"], read_json(built / TEXTS, TEXTS))


def _without_samples(name: str, options: Options, takes_text: bool) -> Intake:
    return Intake(
        name=name,
        lengths=options.lengths,
        pads=options.pads,
        max_rows=options.max_rows or MAX_ROWS,
        effort=options.effort,
        text=TextWish(options.text_inputs, options.embedding) if takes_text else None,
    )
