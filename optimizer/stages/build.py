"""The original model speaks: builds the PyTorch module and records its own answers, for the gates to compare with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.checks.score import predict_in_batches, run_score
from optimizer.errors import StageFailed
from optimizer.stages.base import Result
from optimizer.stages.files import TEXTS, write_arrays
from server.backends.base import Array
from server.contract.layout import TOKENIZER, write_json
from server.intake.checks import pad_inputs
from server.intake.measure import Progress

if TYPE_CHECKING:
    from optimizer.sources.opened import Opened

_N_OWN = 8


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded batch: its size, its padded length (0 without a ragged axis), and what it is made of."""

    rows: int
    length: int
    kind: str
    inputs: Mapping[str, Array]


def build(opened: Opened, inputs: Mapping[str, Path], out: Path, progress: Progress) -> Result:
    """Writes samples.npz, one case_<n>.npz of inputs and PyTorch's outputs per case, the settings, and of a model that takes
    text its tokenizer and texts.

    Raises SourceError for a wrong file, StageFailed when the module answers NaN.
    """
    progress("building the module", 0, 1)
    rows, lengths = opened.settings.max_rows, opened.lengths
    write_arrays(out / "samples.npz", {f"{n}": single for n, single in enumerate(opened.singles)})
    if opened.tokenizer is not None:
        shutil.copyfile(opened.tokenizer, out / TOKENIZER)
        write_json(out / TEXTS, opened.texts)
    cases = list(_cases(opened, rows))
    for number, case in enumerate(cases):
        progress("asking PyTorch", number, len(cases))
        answers = opened.predict(case.inputs)
        _check_answers(answers, case)
        write_arrays(out / f"case_{number}.npz", {"in": case.inputs, "out": answers})
    score = run_score(opened.source, predict_in_batches(opened.predict, rows), progress)
    n_parameters = sum(parameter.numel() for parameter in opened.module.parameters())
    data: dict[str, Any] = {
        "inputs": [spec.name for spec in opened.signature.inputs],
        "outputs": list(opened.output_names),
        "ragged_axis": opened.signature.ragged_axis,
        "settings": {**asdict(opened.settings), "lengths": lengths},
        "cases": [{"rows": c.rows, "length": c.length, "kind": c.kind} for c in cases],
        "score": score,
        "n_parameters": n_parameters,
    }
    scored = "" if score is None else f", score {score:.4f}"
    return Result(f"{n_parameters:,} parameters, {len(opened.singles)} samples{scored}", None, data)


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


def _check_answers(answers: Mapping[str, Array], case: Case) -> None:
    for name, array in answers.items():
        if array.ndim == 0 or array.shape[0] != case.rows:
            raise StageFailed(
                f"the module's output {name!r} has shape {list(array.shape)} for a batch of {case.rows}: "
                "one row in must be one row out"
            )
        if array.dtype.kind == "f" and np.isnan(array).any():
            at = f", length {case.length}" if case.length else ""
            raise StageFailed(
                f"the module itself answers NaN in output {name!r} (batch of {case.rows}{at}): "
                "nothing could be compared with that; repair the module or the samples"
            )
