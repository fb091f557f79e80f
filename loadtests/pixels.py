"""A model that takes one 3×224×224 image and computes next to nothing: what is left of a request's cost is the wire's."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from loadtests.errors import ChildFailed, MissingData

NAME = "pixels"
SHAPE = (3, 224, 224)
_TIMEOUT_S = 300.0


def publish(optimize: str, repository: Path, folder: Path) -> None:
    """Write the model's file into `folder` and publish it with `optimize` (the command up to the file's name).

    Raises MissingData without the package onnx, ChildFailed when the command fails.
    """
    file = folder / f"{NAME}.onnx"
    file.write_bytes(_model())
    command = [*shlex.split(optimize), str(file), "--slo", "2s", "--repository", str(repository)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        raise ChildFailed(
            f"`{shlex.join(command)}` ended with exit status {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}"
        )


def _model() -> bytes:
    """y = the first four values of each image's first line."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise MissingData(f"the model without work is made with the package onnx: pip install onnx ({error})") from error
    import numpy as np

    ends = {"starts": [0, 0, 0], "ends": [1, 1, 4], "axes": [1, 2, 3]}
    constants = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in ends.items()]
    graph = helper.make_graph(
        [helper.make_node("Slice", ["image", *ends], ["y"])],
        NAME,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *SHAPE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1, 1, 4])],
        constants,
    )
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return data
