"""The original model speaks: builds the PyTorch module and records its own answers, for the gates to compare with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.checks.edges import size_edge, value_edges
from optimizer.checks.score import predict_in_batches, run_score
from optimizer.errors import SourceError, StageFailed
from optimizer.stages.base import Result
from optimizer.stages.files import RECORDED, SAMPLES, TEXTS, write_arrays
from server.backends.base import Array
from server.contract.layout import TOKENIZER, write_json
from server.intake.checks import pad_inputs
from server.intake.measure import Progress

if TYPE_CHECKING:
    from optimizer.sources.opened import Opened

_N_OWN = 8

MOST_RECORDED = 256
"""Samples whose answers are kept for candidates to be compared with: enough to see a share of 1 % change."""


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded batch: its size, its padded length (0 without a ragged axis), and what it is made of."""

    rows: int
    length: int
    kind: str
    inputs: Mapping[str, Array]


def build(opened: Opened, inputs: Mapping[str, Path], out: Path, progress: Progress) -> Result:
    """Writes samples.npz, recorded.npz with PyTorch's answers to them, one case_<n>.npz of inputs and PyTorch's outputs per case,
    likewise edge_<n>.npz, the settings, and of a model that takes text its tokenizer and texts.

    Raises SourceError for a wrong file, StageFailed when the module answers NaN.
    """
    progress("building the module", 0, 1)
    rows, lengths = opened.settings.max_rows, opened.lengths
    write_arrays(out / SAMPLES, {f"{n}": single for n, single in enumerate(opened.singles)})
    if opened.tokenizer is not None:
        shutil.copyfile(opened.tokenizer, out / TOKENIZER)
        write_json(out / TEXTS, opened.texts)
    cases = list(_cases(opened, rows))
    for number, case in enumerate(cases):
        progress("asking PyTorch", number, len(cases))
        answers = opened.predict(case.inputs)
        _check_answers(answers, case)
        write_arrays(out / f"case_{number}.npz", {"in": case.inputs, "out": answers})
    write_arrays(out / RECORDED, _record(opened, progress))
    edges, unanswered = _record_edges(opened, cases, out, progress)
    score = run_score(opened.source, predict_in_batches(opened.predict, rows), progress)
    n_parameters = sum(parameter.numel() for parameter in opened.module.parameters())
    data: dict[str, Any] = {
        "inputs": [spec.name for spec in opened.signature.inputs],
        "outputs": list(opened.output_names),
        "ragged_axis": opened.signature.ragged_axis,
        "settings": {**asdict(opened.settings), "lengths": lengths},
        "cases": [{"rows": c.rows, "length": c.length, "kind": c.kind} for c in cases],
        "edges": edges,
        "unanswered_edges": unanswered,
        "score": score,
        "n_parameters": n_parameters,
    }
    scored = "" if score is None else f", score {score:.4f}"
    return Result(f"{n_parameters:,} parameters, {len(opened.singles)} samples{scored}", None, data)


def evenly(n_samples: int, most: int) -> list[int]:
    """At most `most` of the numbers below `n_samples`, the first and the last among them, the same at each call."""
    return sorted({round(place) for place in np.linspace(0, n_samples - 1, min(n_samples, most))})


def _record(opened: Opened, progress: Progress) -> dict[str, dict[str, Array]]:
    """PyTorch's answers to the samples, each alone and at its own length, by the sample's number."""
    chosen = evenly(len(opened.singles), MOST_RECORDED)
    recorded = {}
    for place, number in enumerate(chosen):
        progress("asking PyTorch for samples", place, len(chosen))
        single = opened.singles[number]
        answers = opened.predict(single)
        _check_answers(answers, Case(1, _own_length(opened, single), "sample", single))
        recorded[f"{number}"] = answers
    return recorded


def _record_edges(
    opened: Opened, cases: list[Case], out: Path, progress: Progress
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The edges, with the files that hold them, and those that PyTorch itself does not answer, with its reason.

    The edges of size are cases already: the shortest and the longest input, with one row and with as many as are possible.
    """
    lengths, most = opened.lengths, max(case.rows for case in cases)
    edges: list[dict[str, Any]] = []
    for number, case in enumerate(cases):
        name = size_edge(case.rows, case.length, most, lengths or (0,)) if case.kind == "full" else ""
        if name:
            edges.append({"name": name, "rows": case.rows, "length": case.length, "file": f"case_{number}.npz"})
    length = sum(lengths) // 2 if lengths else 0
    unanswered: list[dict[str, str]] = []
    found = value_edges(opened.singles, opened.samples.batch(1, length))
    for number, (name, given) in enumerate(found.items()):
        progress("asking PyTorch at the edges", number, len(found))
        try:
            answers = opened.predict(given)
        except SourceError as error:  # a candidate need not answer what the original does not
            unanswered.append({"name": name, "why": str(error)})
            continue
        _check_rows(answers, 1)
        write_arrays(out / f"edge_{number}.npz", {"in": given, "out": answers})
        edges.append({"name": name, "rows": 1, "length": length, "file": f"edge_{number}.npz"})
    return edges, unanswered


def _cases(opened: Opened, max_rows: int) -> Iterator[Case]:
    """Several batch sizes by shortest, middle and longest; then samples at their own length; then padded batches."""
    samples, lengths = opened.samples, opened.lengths
    sizes = sorted({min(rows, max_rows) for rows in (1, 2, 3, max_rows)})
    marks = sorted({lengths[0], sum(lengths) // 2, lengths[1]}) if lengths else [0]
    for length in marks:
        for rows in sizes:
            yield Case(rows, length, "full", samples.batch(rows, length))
    for single in opened.singles[:_N_OWN]:
        yield Case(1, _own_length(opened, single), "sample", single)
    if lengths and max_rows > 1:
        for rows in sizes[1:]:
            yield Case(rows, lengths[1], "padded", _padded(opened, rows, lengths))


def _own_length(opened: Opened, single: Mapping[str, Array]) -> int:
    return next((single[name].shape[axis] for name, axes in opened.settings.axes.items() for axis in axes), 0)


def _padded(opened: Opened, rows: int, lengths: tuple[int, int]) -> dict[str, Array]:
    """A batch whose rows have lengths spread from the shortest to the longest, filled up with the pad values."""
    ragged = opened.settings.as_ragged(lengths)
    specs = opened.signature.inputs
    sizes = np.linspace(*lengths, rows).astype(int)
    singles = [
        pad_inputs(opened.samples.batch(1, int(size), first=n), specs, ragged, lengths[1]) for n, size in enumerate(sizes)
    ]
    return {spec.name: np.concatenate([single[spec.name] for single in singles]) for spec in specs}


def _check_rows(answers: Mapping[str, Array], rows: int) -> None:
    for name, array in answers.items():
        if array.ndim == 0 or array.shape[0] != rows:
            raise StageFailed(
                f"the module's output {name!r} has shape {list(array.shape)} for a batch of {rows}: one row in must be one row out"
            )


def _check_answers(answers: Mapping[str, Array], case: Case) -> None:
    _check_rows(answers, case.rows)
    for name, array in answers.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            at = f", length {case.length}" if case.length else ""
            raise StageFailed(
                f"the module itself answers NaN in output {name!r} (batch of {case.rows}{at}): "
                "nothing could be compared with that; repair the module or the samples"
            )
