"""What the original answers, to compare candidates with: PyTorch's recorded answers, and the plain export's where there are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from optimizer.ladder.answers import Case
from optimizer.ladder.subject import N_SAMPLES, Known
from optimizer.stages.base import Result
from optimizer.stages.files import read_arrays
from server.backends.base import Array, BatchError, Session

Single = Mapping[str, Array]


def cases(built: Path | None, known: Known, plain: Session) -> Iterator[Case]:
    """First what PyTorch answered, then all samples one by one, then the edges. The plain export speaks for the original where that
    was not asked: it is known to agree with it to the last digits."""
    if built is not None:
        yield from _recorded(built)
    else:
        yield from _batches(known, plain)
    for number, single in enumerate(known.samples.singles[:N_SAMPLES]):
        yield Case(f"sample {number}", single, _ask(plain, single))
    yield from _edges(known, plain)


def _recorded(built: Path) -> Iterator[Case]:
    for number, case in enumerate(Result.read(built).data["cases"]):
        arrays = read_arrays(built / f"case_{number}.npz")
        yield Case(_place(case["rows"], case["length"], case["kind"]), arrays["in"], arrays["out"])


def _batches(known: Known, plain: Session) -> Iterator[Case]:
    for length in known.lengths:
        for rows in sorted({1, min(2, known.max_rows), known.max_rows}):
            inputs = known.samples.batch(rows, length)
            yield Case(_place(rows, length, "full"), inputs, _ask(plain, inputs))


def _edges(known: Known, plain: Session) -> Iterator[Case]:
    """Zeros and the samples' own extremes, in one row, shortest and longest, and in the largest batch. Values that the plain export
    itself refuses are left out."""
    shortest, longest = known.lengths[0], known.lengths[-1]
    fills = _fills(known)
    sizes = dict.fromkeys([(1, shortest), (1, longest)])
    places = [(rows, length, *fill) for rows, length in sizes for fill in fills]
    places += [(known.max_rows, longest, *fill) for fill in fills[-1:]]
    for rows, length, kind, value in places:
        inputs = {name: np.full_like(array, value(name)) for name, array in known.samples.batch(rows, length).items()}
        try:
            wanted = _ask(plain, inputs)
        except BatchError:  # no request can be like that
            continue
        yield Case(f"a batch of {_place(rows, length, 'full')} of {kind}", inputs, wanted, is_edge=True)


def _fills(known: Known) -> list[tuple[str, Callable[[str], object]]]:
    singles = known.samples.singles[:N_SAMPLES]
    numbers = [spec.name for spec in known.signature.inputs if singles[0][spec.name].dtype.kind in "fiu"]
    lows = {name: min(np.min(one[name]) for one in singles) for name in numbers}
    highs = {name: max(np.max(one[name]) for one in singles) for name in numbers}
    if len(numbers) < len(known.signature.inputs):  # texts and flags have no extremes
        return []
    return [
        ("zeros", lambda _: 0),
        ("the samples' smallest values", lambda name: lows[name]),
        ("the samples' largest values", lambda name: highs[name]),
    ]


def _ask(session: Session, inputs: Single) -> dict[str, Array]:
    return {spec.name: array for spec, array in zip(session.outputs, session.run(inputs), strict=True)}


def _place(rows: int, length: int, kind: str) -> str:
    size = f"{rows} row{'s' * (rows > 1)}" + (f" of length {length}" if length else "")
    return size + {"padded": ", padded", "sample": ", a sample request"}.get(kind, "")
