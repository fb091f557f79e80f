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
    built = inputs.get("build")
    request = intake_of(name, built, model, options)
    files = {backend.model_file: model / backend.model_file}
    return take_in(files, built, model, out, progress, backend, request)


def take_in(
    files: Mapping[str, Path], built: Path | None, taken: Path, out: Path, progress: Progress, backend: Backend, request: Intake
) -> Result:
    """The same for any model. `files`: what the backend loads, by its name there; `built`: the build stage's folder; `taken`: that of a
    finished file, where there is no such."""
    for name, file in files.items():
        os.link(file, out / name)
    tokenizer = (built or taken) / TOKENIZER
    if tokenizer.exists():
        os.link(tokenizer, out / TOKENIZER)
    try:
        manifest, profiles = build_version(out, backend, request, progress)
    except IntakeError as error:
        raise StageFailed(str(error)) from None
    for name in files:
        (out / name).unlink()
    (out / TOKENIZER).unlink(missing_ok=True)
    length = manifest.ragged.shortest if manifest.ragged else 0
    rates = [f"{one.placement} up to {one.peak_rate(length):,.0f} rows/s" for one in profiles.profiles]
    note = f"placement {', '.join(rates)}"
    if profiles.text is not None:
        note += f", text {profiles.text.token_s * 1e6:.2g} µs per token"
    return Result(note, None, {"made_up_samples": built is None})


def intake_of(name: str, built: Path | None, taken: Path, options: Options) -> Intake:
    """What is known about the model besides its file."""
    takes_text = ((built or taken) / TOKENIZER).exists()
    return _without_samples(name, options, takes_text) if built is None else _with_samples(name, built, options)


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
