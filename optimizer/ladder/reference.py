"""What the original answers, to compare candidates with: what PyTorch did while it was there; of a finished file, its own answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from optimizer.checks.agreement import Kind
from optimizer.checks.edges import size_edge, value_edges
from optimizer.checks.score import session_predict
from optimizer.errors import StageFailed
from optimizer.ladder.answers import Case
from optimizer.ladder.subject import N_SAMPLES, Known
from optimizer.stages.base import Result
from optimizer.stages.files import RECORDED, SAMPLES, read_arrays
from server.backends.base import Array, BatchError, Session

_PADDED = "padded"


def cases(built: Path | None, known: Known, plain: Session) -> Iterator[Case]:
    """All samples one by one, batches of several sizes, then the edges that are of no such size. `built`: the build stage's folder;
    None: `plain`, a session of the file that the user gave, is the original."""
    return _recorded(built, known) if built is not None else _asked(known, plain)


def _recorded(built: Path, known: Known) -> Iterator[Case]:
    data = Result.read(built).data
    samples = read_arrays(built / SAMPLES)
    for name, answers in read_arrays(built / RECORDED).items():
        yield Case(f"sample {name}", samples[name], answers, known.length_of(samples[name]))
    edges = {edge["file"]: edge for edge in data["edges"]}
    for number, case in enumerate(data["cases"]):
        file = f"case_{number}.npz"
        arrays = read_arrays(built / file)
        place, edge = _place(case["rows"], case["length"], case["kind"]), edges.pop(file, {"name": ""})["name"]
        length = 0 if case["kind"] == _PADDED else case["length"]
        yield Case(_at(edge, place), arrays["in"], arrays["out"], length, Kind.BATCH, edge)
    for file, one in edges.items():
        arrays, place = read_arrays(built / file), _place(one["rows"], one["length"])
        yield Case(_at(one["name"], place), arrays["in"], arrays["out"], one["length"], Kind.EDGE, one["name"])


def _asked(known: Known, plain: Session) -> Iterator[Case]:
    ask = session_predict(plain)
    singles = known.samples.singles[:N_SAMPLES]
    for number, single in enumerate(singles):
        answers = ask(single)
        _check_numbers(answers)
        yield Case(f"sample {number}", single, answers, known.length_of(single))
    for length in known.lengths:
        for rows in sorted({1, min(2, known.max_rows), known.max_rows}):
            inputs, edge = known.samples.batch(rows, length), size_edge(rows, length, known.max_rows, known.lengths)
            yield Case(_at(edge, _place(rows, length)), inputs, ask(inputs), length, Kind.BATCH, edge)
    for rows, length in dict.fromkeys([(1, known.lengths[0]), (1, known.lengths[-1]), (known.max_rows, known.lengths[-1])]):
        for name, inputs in value_edges(singles, known.samples.batch(rows, length)).items():
            try:
                wanted = ask(inputs)
            except BatchError:  # no request can be like that
                continue
            yield Case(_at(name, _place(rows, length)), inputs, wanted, length, Kind.EDGE, name)


def _check_numbers(answers: Mapping[str, Array]) -> None:
    """Raises StageFailed when nothing could be compared with: then every candidate would look right."""
    for name, values in answers.items():
        if values.dtype.kind == "f" and values.size and not np.isfinite(values).any():
            raise StageFailed(
                f"the original's output {name!r} has no number for made-up inputs (their logarithm or root, perhaps), so nothing can be compared: "
                "give a Python file with build() and samples() instead"
            )


def _at(edge: str, place: str) -> str:
    return f"{edge}, {place}" if edge else place


def _place(rows: int, length: int, kind: str = "full") -> str:
    size = f"{rows} row{'s' * (rows > 1)}" + (f" of length {length}" if length else "")
    return size + {_PADDED: ", padded", "sample": ", a sample request"}.get(kind, "")
