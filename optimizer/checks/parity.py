"""Does the exported model answer what PyTorch answered? Compares every recorded batch through the serving session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from optimizer.errors import StageFailed
from optimizer.stages.base import Result, verdict
from optimizer.stages.files import read_arrays
from server.backends.base import Array, Backend, BatchError, Session
from server.intake.checks import ATOL, RTOL, excess
from server.intake.measure import Progress


@dataclass(frozen=True, slots=True)
class Difference:
    """How one output of one batch compares: `worst` is |exported - PyTorch| at most (None: shapes or types differ),
    `excess` that in units of the tolerance; above 1 the answers differ."""

    output: str
    rows: int
    length: int
    kind: str
    worst: float | None
    excess: float

    def place(self) -> str:
        """Where, in words."""
        length = f", length {self.length}" if self.length else ""
        kind = {"padded": ", padded rows", "sample": ", a sample request"}.get(self.kind, "")
        return f"output {self.output!r}, batch of {self.rows}{length}{kind}"


def parity(inputs: Mapping[str, Path], out: Path, progress: Progress, *, backend: Backend) -> Result:
    """Gate: all outputs within ATOL + RTOL·|PyTorch's| on all cases. Raises StageFailed when the model fails on one."""
    cases = Result.read(inputs["build"]).data["cases"]
    session = backend.load(inputs["export"], threads=1)
    try:
        found = []
        for number, case in enumerate(cases):
            progress("comparing", number, len(cases))
            found += _compare_case(session, inputs["build"] / f"case_{number}.npz", case)
    finally:
        session.close()
    worst = max(found, key=lambda difference: difference.excess)
    data = {"differences": [asdict(difference) for difference in found], "atol": ATOL, "rtol": RTOL}
    return verdict("parity", worst.excess <= 1, _sentence(worst, found), data)


def compare(found: Array, wanted: Array) -> tuple[float | None, float]:
    """(largest absolute difference, or None where it cannot be said; the excess over the tolerance)."""
    over = excess(found, wanted)
    if found.shape != wanted.shape or found.dtype != wanted.dtype or found.dtype.kind not in "fiu":
        return None, over if found.dtype == wanted.dtype else float("inf")
    same = (found == wanted) | (_nan(found) & _nan(wanted))  # NaN equals NaN; it is refused earlier
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(found.astype(np.float64) - wanted.astype(np.float64)))
    return (None if np.isnan(gap).any() else float(np.max(gap, initial=0.0))), over


def _nan(array: Array) -> Array:
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, dtype=np.bool_)


def _compare_case(session: Session, path: Path, case: Mapping[str, object]) -> list[Difference]:
    arrays = read_arrays(path)
    rows, length, kind = int(str(case["rows"])), int(str(case["length"])), str(case["kind"])
    try:
        answers = session.run(arrays["in"])
    except BatchError as error:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays["in"].items())
        raise StageFailed(f"the exported model fails on {shapes}, where PyTorch does not: {error}") from None
    by_name = {spec.name: array for spec, array in zip(session.outputs, answers, strict=True)}
    return [Difference(name, rows, length, kind, *compare(by_name[name], wanted)) for name, wanted in arrays["out"].items()]


def _sentence(worst: Difference, found: list[Difference]) -> str:
    if worst.excess <= 1:
        largest = max(found, key=lambda difference: difference.worst or 0.0)
        return f"worst difference from PyTorch {largest.worst or 0.0:.2g} ({largest.place()}), {len(found)} comparisons"
    n_bad = sum(difference.excess > 1 for difference in found)
    size = "by NaN, in shape or in type" if worst.worst is None else f"by {worst.worst:.4g}"
    times = "" if worst.excess == float("inf") else f", {worst.excess:.3g} times the tolerance"
    return f"differs from PyTorch {size}{times}: {worst.place()}; {n_bad} of {len(found)} comparisons fail"
