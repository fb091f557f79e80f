"""ONNX files and graphs as transforms need them: read, looked at, written back with the same inputs and outputs. Needs onnx."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from optimizer.errors import OptimizeError, StageFailed
from server.backends.base import LoadError, Session
from server.backends.onnx_runtime import OnnxRuntimeBackend

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

OLDEST_OPSET = 13
"""Per-channel quantization cannot be written down in older ones."""

_DEFAULT_DOMAINS = ("", "ai.onnx")


def load_model(path: Path) -> ModelProto:
    """The file with its weights. Raises StageFailed when it is not an ONNX model, OptimizeError when onnx is not installed."""
    try:
        import onnx
    except ModuleNotFoundError:
        raise OptimizeError(
            "onnx is not installed; changing a model needs it: pip install 'ferry-serving[optimizer]'"
        ) from None
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf and the operating system raise unrelated types
        raise StageFailed(f"{path.name} cannot be read as an ONNX model: {' '.join(str(error).split())[:300]}") from error


def copy_of(model: ModelProto) -> ModelProto:
    """For tools that change what they are given."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def save_model(model: ModelProto, like: ModelProto, out: Path) -> int:
    """Write `model`, changed in place, to `out`: with the inputs, outputs and notes of `like`, and only once it loads. Its bytes.

    Raises StageFailed when it has other inputs or outputs, is too large for one file, or is not taken by the serving runtime.
    """
    data = _packed(model, like)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".transform-") as folder:
        open_session(data, Path(folder), "what was made").close()
        os.replace(Path(folder) / OnnxRuntimeBackend.model_file, out)
    return len(data)


def open_session(data: bytes, folder: Path, what: str) -> Session:
    """A model, `what` for people, written to the empty `folder` and loaded for one thread.

    Raises StageFailed with the runtime's reason.
    """
    backend = OnnxRuntimeBackend()
    (folder / backend.model_file).write_bytes(data)
    try:
        return backend.load(folder, threads=1)
    except LoadError as error:
        raise StageFailed(f"{backend.runtime} does not load {what}: {error}") from None


def _packed(model: ModelProto, like: ModelProto) -> bytes:
    from optimizer.stages.onnx_names import drop_notes

    for what, made, wanted in (
        ("inputs", model.graph.input, like.graph.input), ("outputs", model.graph.output, like.graph.output),
    ):  # fmt: skip
        names = [value.name for value in made], [value.name for value in wanted]
        if names[0] != names[1]:
            raise StageFailed(f"the {what} became {names[0]}, they were {names[1]}")
    for field in ("input", "output"):
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(getattr(like.graph, field))
    model.ClearField("metadata_props")
    model.metadata_props.extend(like.metadata_props)
    drop_notes(model)
    _drop_unused_domains(model)
    return to_bytes(model)


def to_bytes(model: ModelProto) -> bytes:
    """The file's contents, the same for the same model. Raises StageFailed when it is too large for one file."""
    from google.protobuf.message import EncodeError

    try:
        data: bytes = model.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:  # protobuf's limit is 2 GiB
        raise StageFailed(f"the model does not fit into one file of 2 GiB: {error}") from None
    return data


def nodes_of(model: ModelProto) -> Iterator[NodeProto]:
    """All nodes, those of subgraphs too."""
    yield from _nodes(model.graph)


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def count_operators(model: ModelProto) -> Counter[str]:
    """How often each operator occurs, by its type."""
    return Counter(node.op_type for node in nodes_of(model))


def float_weights(model: ModelProto) -> dict[str, TensorProto]:
    """The float32 constants of the main graph, by name."""
    from onnx import TensorProto

    return {one.name: one for one in model.graph.initializer if one.data_type == TensorProto.FLOAT}


def float_values(model: ModelProto) -> set[str]:
    """Tensors of the main graph that are known to be float32, constants left out."""
    from onnx import TensorProto

    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {one.name for one in values if one.type.tensor_type.elem_type == TensorProto.FLOAT}


def weighted_layers(model: ModelProto, operators: Collection[str]) -> list[str]:
    """Names of the main graph's nodes of these types whose second input is a float32 constant, in order."""
    weights = float_weights(model)
    return [node.name for node in model.graph.node if node.op_type in operators and node.input[1] in weights]


def name_nodes(model: ModelProto) -> None:
    """Give every node of the main graph a name of its own, in place: tools know nodes by name only."""
    taken: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = free_name(f"{node.op_type}_{number}", taken)
        taken.add(node.name)


def free_name(wanted: str, taken: Iterable[str]) -> str:
    """`wanted`, or that with a number that nobody has."""
    known, name, number = set(taken), wanted, 1
    while name in known:
        name, number = f"{wanted}_{number}", number + 1
    return name


def value_names(model: ModelProto) -> set[str]:
    """Every name that a value of the main graph has."""
    graph = model.graph
    return {
        *(name for node in graph.node for name in (*node.input, *node.output)), *(one.name for one in graph.initializer),
        *(one.name for one in graph.input), *(one.name for one in graph.output),
    }  # fmt: skip


def opset_of(model: ModelProto) -> int:
    """The version of the standard operators."""
    return max((one.version for one in model.opset_import if one.domain in _DEFAULT_DOMAINS), default=0)


def _drop_unused_domains(model: ModelProto) -> None:
    """ONNX Runtime lists all domains that it knows in what it writes, which other readers stumble over."""
    used = {node.domain for node in nodes_of(model)} | {node.domain for made in model.functions for node in made.node}
    kept = [one for one in model.opset_import if one.domain in used or one.domain in _DEFAULT_DOMAINS]
    model.ClearField("opset_import")
    model.opset_import.extend(sorted(kept, key=lambda one: one.domain))
