"""Gates on a loaded model: right rows, rows that do not influence each other, padding that changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from server.backends.base import Array, BatchError, Session, pad_element
from server.contract.manifest import Check, Manifest, Ragged
from server.contract.tensors import TensorSpec
from server.intake.errors import IntakeError
from server.intake.inspect import Signature
from server.intake.samples import Samples

ATOL = 1e-4
RTOL = 1e-3

COARSE_COSINE = 0.99
"""How closely a row must agree with itself in another batch where a version calculates coarsely by design and nobody says more."""

Differs = Callable[[Array, Array], float]
"""(found, wanted) → how far apart they are, in units of what is allowed: above 1 they differ."""


def excess(found: Array, wanted: Array) -> float:
    """Largest |found − wanted| ÷ (ATOL + RTOL·|wanted|): above 1 the two differ. NaN equals NaN; other types must be equal."""
    if found.shape != wanted.shape:
        return float("inf")
    if found.dtype.kind != "f":
        return 0.0 if np.array_equal(found, wanted) else float("inf")
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    with np.errstate(invalid="ignore"):
        ratio = np.abs(found.astype(np.float64) - wanted) / (ATOL + RTOL * np.abs(wanted.astype(np.float64)))
    return float(np.max(np.where(same, 0.0, np.nan_to_num(ratio, nan=np.inf)), initial=0.0))


def by_cosine(least: float) -> Differs:
    """For models that calculate coarsely by design (int8, bf16), whose rounding depends on what else is in a batch: rows differ when
    the cosine between them is below `least`, and are not alike by `excess` either. Integers must be equal."""

    def differs(found: Array, wanted: Array) -> float:
        exactly = excess(found, wanted)
        if exactly <= 1 or found.shape != wanted.shape or found.dtype.kind != "f":
            return exactly
        return min(exactly, (1 - min(cosines(found, wanted), default=1.0)) / (1 - least))

    return differs


def closeness(manifest: Manifest) -> Differs:
    """How closely the rows of a published version must agree with those that stand alone."""
    return by_cosine(COARSE_COSINE) if manifest.is_coarse else excess


def cosines(found: Array, wanted: Array) -> list[float]:
    """Of each row, as one long vector; arrays [rows, …] of one shape. 1 for equal rows, zeros too; values that are not finite in
    either must be the same in both and do not count, else it is -1."""
    return [_cosine(mine, theirs) for mine, theirs in zip(found.astype(np.float64), wanted.astype(np.float64), strict=True)]


def _cosine(found: Array, wanted: Array) -> float:
    finite = np.isfinite(found) & np.isfinite(wanted)
    if not np.array_equal(found[~finite], wanted[~finite], equal_nan=True):
        return -1.0
    mine, theirs = found[finite], wanted[finite]
    if np.array_equal(mine, theirs):
        return 1.0
    size = float(np.linalg.norm(mine) * np.linalg.norm(theirs))
    return float(np.vdot(mine, theirs)) / size if size else 0.0


def run_checked(session: Session, signature: Signature, inputs: dict[str, Array]) -> list[Array]:
    """Run one batch. Raises IntakeError when it fails or an output does not have the batch's rows."""
    rows = len(next(iter(inputs.values())))
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
    try:
        outputs = list(session.run(inputs))
    except BatchError as error:
        raise IntakeError(f"the model fails on {shapes}: {error}") from None
    for spec, array in zip(signature.outputs, outputs, strict=True):
        if array.ndim == 0 or array.shape[0] != rows:
            raise IntakeError(
                f"output {spec.name!r} has shape {list(array.shape)} for {shapes}: one row in must be one row out"
            )
    return outputs


def check_rows(
    session: Session, signature: Signature, samples: Samples, max_rows: int, lengths: Sequence[int], differs: Differs = excess
) -> Check:
    """Batches of 2, 3 and `max_rows` rows give each row the answer it gets alone, at every length, as far as `differs` sees.

    Raises IntakeError naming the output and the difference otherwise.
    """
    worst = 0.0
    for length in lengths:
        alone = [run_checked(session, signature, samples.batch(1, length, first=n)) for n in range(min(3, max_rows))]
        for rows in sorted({1, min(2, max_rows), min(3, max_rows), max_rows}):
            together = run_checked(session, signature, samples.batch(rows, length))
            for number, single in enumerate(alone[:rows]):
                mine = [out[number : number + 1] for out in together]
                worst = max(worst, _compare(signature.outputs, single, mine, rows, differs))
    return Check("rows", True, f"up to {max_rows} rows; worst deviation {worst:.2g} of the tolerance")


def _compare(
    outputs: Sequence[TensorSpec], alone: Sequence[Array], together: Sequence[Array], rows: int, differs: Differs
) -> float:
    worst = 0.0
    for spec, single, row in zip(outputs, alone, together, strict=True):
        worst = max(worst, differs(row, single))
        if worst > 1:
            raise IntakeError(
                f"output {spec.name!r} of a row changes when it shares a batch of {rows} ({worst:.3g} times the tolerance): "
                "rows must not influence each other (is the module in eval mode?); set max_rows to 1 to serve it unbatched"
            )
    return worst


def check_padding(session: Session, signature: Signature, samples: Samples, ragged: Ragged, differs: Differs = excess) -> Check:
    """Whether a row padded to a longer length keeps its answer, as far as `differs` sees; `passed` decides if lengths may share a
    batch."""
    short, long = ragged.shortest, ragged.longest
    pairs = sorted({(short, min(short + 1, long)), (short, long), ((short + long) // 2, long)})
    worst = 0.0
    for number, (length, padded_to) in enumerate(pairs):
        inputs = samples.batch(1, length, first=number)
        alone = run_checked(session, signature, inputs)
        padded = run_checked(session, signature, pad_inputs(inputs, signature.inputs, ragged, padded_to))
        for spec, wanted, found in zip(signature.outputs, alone, padded, strict=True):
            axis = spec.axis(ragged.axis)
            cut = found if axis is None else np.take(found, np.arange(length), axis=axis)
            worst = max(worst, differs(cut, wanted))
    if worst <= 1:
        return Check("padding", True, f"padding keeps every answer; worst deviation {worst:.2g} of the tolerance")
    return Check(
        "padding", False, f"padding changes answers ({worst:.3g} times the tolerance): only equal lengths will share a batch"
    )


def pad_inputs(inputs: dict[str, Array], specs: Sequence[TensorSpec], ragged: Ragged, length: int) -> dict[str, Array]:
    """Every input that has the ragged axis, filled up to `length` with its pad value."""
    padded = {}
    for spec in specs:
        array = inputs[spec.name]
        axis = spec.axis(ragged.axis)
        if axis is not None:
            widths = [(0, length - array.shape[axis] if n == axis else 0) for n in range(array.ndim)]
            array = np.pad(array, widths, constant_values=pad_element(spec.datatype, ragged.pads.get(spec.name, 0)))
        padded[spec.name] = array
    return padded
