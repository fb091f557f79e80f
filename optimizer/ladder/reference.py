"""What the original answers, to compare candidates with: what PyTorch did while it was there; of a finished file, its own answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from optimizer.checks.edges import value_edges
from optimizer.checks.score import session_predict
from optimizer.ladder.answers import Case
from optimizer.ladder.subject import N_SAMPLES, Known
from optimizer.stages.base import Result
from optimizer.stages.files import RECORDED, SAMPLES, read_arrays
from server.backends.base import BatchError, Session


def cases(built: Path | None, known: Known, plain: Session) -> Iterator[Case]:
    """Batches of several sizes, all samples one by one, then the edges. `built`: the build stage's folder; None: `plain`, a session
    of the file that the user gave, is the original."""
    return _recorded(built) if built is not None else _asked(known, plain)


def _recorded(built: Path) -> Iterator[Case]:
    data = Result.read(built).data
    for number, case in enumerate(data["cases"]):
        arrays = read_arrays(built / f"case_{number}.npz")
        yield Case(_place(case["rows"], case["length"], case["kind"]), arrays["in"], arrays["out"])
    samples = read_arrays(built / SAMPLES)
    for name, answers in read_arrays(built / RECORDED).items():
        yield Case(f"sample {name}", samples[name], answers)
    for edge in data["edges"]:
        arrays = read_arrays(built / edge["file"])
        yield Case(_edge(edge["rows"], edge["length"], edge["name"]), arrays["in"], arrays["out"], is_edge=True)


def _asked(known: Known, plain: Session) -> Iterator[Case]:
    ask = session_predict(plain)
    for length in known.lengths:
        for rows in sorted({1, min(2, known.max_rows), known.max_rows}):
            inputs = known.samples.batch(rows, length)
            yield Case(_place(rows, length, "full"), inputs, ask(inputs))
    singles = known.samples.singles[:N_SAMPLES]
    for number, single in enumerate(singles):
        yield Case(f"sample {number}", single, ask(single))
    for rows, length in dict.fromkeys([(1, known.lengths[0]), (1, known.lengths[-1]), (known.max_rows, known.lengths[-1])]):
        for name, inputs in value_edges(singles, known.samples.batch(rows, length)).items():
            try:
                wanted = ask(inputs)
            except BatchError:  # no request can be like that
                continue
            yield Case(_edge(rows, length, name), inputs, wanted, is_edge=True)


def _edge(rows: int, length: int, name: str) -> str:
    return f"{name} in {_place(rows, length, 'full')}"


def _place(rows: int, length: int, kind: str) -> str:
    size = f"{rows} row{'s' * (rows > 1)}" + (f" of length {length}" if length else "")
    return size + {"padded": ", padded", "sample": ", a sample request"}.get(kind, "")
