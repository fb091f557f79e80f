"""From what a model file declares to what ferry can serve: one batch axis, at most one ragged axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from server.contract.tensors import TensorSpec
from server.intake.errors import IntakeError

BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Signature:
    """Tensors with the batch axis named "batch". `batches` is False when the file fixes it to 1 row."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ragged_axis: str | None
    batches: bool


def read_signature(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Signature:
    """Raises IntakeError when the inputs do not share one batch axis or leave several other axes free."""
    if not inputs or not outputs:
        raise IntakeError("the model needs at least one input and one output; export it with the tensors that clients send")
    first = {spec.shape[0] for spec in inputs}
    if len(first) != 1:
        shown = ", ".join(f"{spec.name}: {spec.shape[0]}" for spec in inputs)
        raise IntakeError(f"the inputs do not share one first axis ({shown}); export them with the same batch axis")
    (batch,) = first
    if isinstance(batch, int) and batch != 1:
        raise IntakeError(
            f"the file fixes the first axis to {batch}; export it with a free first axis called {BATCH!r} (or with size 1)"
        )
    named_inputs = tuple(_rename(spec, batch) for spec in inputs)
    named_outputs = tuple(_rename(spec, batch) for spec in outputs)
    return Signature(named_inputs, named_outputs, _ragged_axis(named_inputs), isinstance(batch, str))


def _rename(spec: TensorSpec, batch: str | int) -> TensorSpec:
    """The first axis is the batch axis by position; exporters give it many names, and outputs often none."""
    if isinstance(spec.shape[0], str) or spec.shape[0] == batch:
        return replace(spec, shape=(BATCH if isinstance(batch, str) else batch, *spec.shape[1:]))
    raise IntakeError(
        f"output {spec.name!r} has a fixed first axis of {spec.shape[0]}, the inputs have {batch!r}: one row in must be one row out"
    )


def _ragged_axis(inputs: Sequence[TensorSpec]) -> str | None:
    free = sorted({dim for spec in inputs for dim in spec.shape[1:] if isinstance(dim, str)})
    if BATCH in free:
        raise IntakeError(f"an axis after the first is called {BATCH!r}; export it under a name of its own")
    if len(free) > 1:
        raise IntakeError(
            f"the inputs leave {len(free)} axes free besides the batch ({', '.join(free)}); give axes that always have the "
            "same size the same name, and fix the others"
        )
    return free[0] if free else None
