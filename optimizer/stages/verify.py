"""Is the exported file a valid model that the serving runtime loads, with the tensors that were asked for?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from optimizer.errors import StageFailed
from optimizer.stages.base import Result, verdict
from server.backends.base import Backend, LoadError, Session
from server.contract.tensors import TensorSpec
from server.intake.errors import IntakeError
from server.intake.inspect import read_signature
from server.intake.measure import Progress


def verify(inputs: Mapping[str, Path], out: Path, progress: Progress, *, backend: Backend) -> Result:
    """Gate for an exported model. Raises StageFailed naming the first thing that is wrong."""
    import onnx

    progress("checking the file", 0, 2)
    path = inputs["export"] / backend.model_file
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise StageFailed(f"the exported file is not valid ONNX: {' '.join(str(error).split())}") from error
    progress("loading the file", 1, 2)
    session = load(backend, inputs["export"])
    try:
        built = Result.read(inputs["build"]).data
        detail = _check_tensors(session, list(built["inputs"]), list(built["outputs"]), built["ragged_axis"])
    finally:
        session.close()
    return verdict("verify", True, detail)


def load(backend: Backend, folder: Path) -> Session:
    """A session for one thread. Raises StageFailed with the runtime's reason."""
    try:
        return backend.load(folder, threads=1)
    except LoadError as error:
        raise StageFailed(f"{backend.runtime} cannot load the model: {error}") from None


def _check_tensors(session: Session, inputs: list[str], outputs: list[str], ragged_axis: str | None) -> str:
    for what, wanted, specs in (("inputs", inputs, session.inputs), ("outputs", outputs, session.outputs)):
        found = [spec.name for spec in specs]
        if found != wanted:
            unused = f"; forward does not use {sorted(set(wanted) - set(found))}" if set(found) < set(wanted) else ""
            raise StageFailed(f"the exported model has {what} {found}, wanted are {wanted}{unused}")
    try:
        signature = read_signature(session.inputs, session.outputs)
    except IntakeError as error:
        raise StageFailed(f"the exported model cannot be batched: {error}") from None
    if not signature.batches or signature.ragged_axis != ragged_axis:
        shapes = _shapes(session.inputs)
        raise StageFailed(f"the export fixed an axis that should be free ({shapes}): does forward depend on sizes?")
    return f"valid; {_shapes(signature.inputs)} → {_shapes(signature.outputs)}"


def _shapes(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{s.name} {s.datatype.value} [{', '.join(str(dim) for dim in s.shape)}]" for s in specs)
