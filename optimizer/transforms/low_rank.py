"""A layer's matrix as the product of two thin ones, where its rank, as the layer's real inputs see it, is low enough to gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.errors import StageFailed
from optimizer.transforms.agreement import MOST_REQUESTS, Agreement, Reference, spread
from optimizer.transforms.base import Made, Material
from optimizer.transforms.calibrate import watch
from optimizer.transforms.graph import (
    copy_of,
    float_weights,
    free_name,
    load_model,
    save_model,
    value_names,
    weighted_layers,
)
from optimizer.transforms.options import Between, settle
from optimizer.transforms.prepare import gemm_as_matmul, prepare
from optimizer.transforms.sensitivity import MIN_COSINE, choose
from server.backends.base import Array

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

NAME = "low-rank"
OPTIONS = (
    Between(
        "energy",
        0.999,
        0.5,
        1.0,
        "share of the energy of a layer's output, over real requests, that its two thin matrices keep",
    ),
    MIN_COSINE,
)

_MOST_SHARE = 0.8  # of the layer's multiplications; two thin products cost more than one of as many
_DAMPING = 0.01  # of the mean energy: directions that these requests did not use count a little


@dataclass(frozen=True, slots=True)
class _Thin:
    """float32 [n_in, rank] and [rank, n_out], whose product stands for a matrix."""

    first: Array
    second: Array

    @property
    def rank(self) -> int:
        return int(self.first.shape[1])


def low_rank(source: Path, out: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Singular values of the whitened matrix (as SVD-LLM, Wang and others 2024): the least change of the layer's answers to real
    inputs for a rank. MatMul, Gemm and 1x1 Conv. Satisfies Transform."""
    settings = settle(NAME, OPTIONS, options)
    original, prepared = load_model(source), prepare(source)
    gemm_as_matmul(prepared)
    # A matrix that was fitted to some requests is judged by others: on its own ones it would look better than it is.
    known, others = material.calibration[::2], material.calibration[1::2] or material.calibration
    thin = _factorize(prepared, spread(known, MOST_REQUESTS), settings["energy"])
    reference = Reference(original, others)

    def measure(layers: Sequence[str], n_most: int) -> Agreement:
        return reference.compare(_replace(prepared, {name: thin[name] for name in layers}), n_most)

    choice = choose(tuple(thin), measure, settings["min_cosine"])
    made = _replace(prepared, {name: thin[name] for name in choice.changed})
    n_bytes = save_model(made, original, out)
    ranks = {name: thin[name].rank for name in choice.changed}
    data = {**choice.data(), "ranks": ranks, "bytes": n_bytes, "bytes_before": source.stat().st_size}
    return Made(choice.sentence("of low rank in two factors", "left whole"), data)


def _factorize(model: ModelProto, requests: Sequence[Mapping[str, Array]], energy: float) -> dict[str, _Thin]:
    """By layer, for those where it saves work. Raises StageFailed when there is none."""
    layers = _layers(model)
    moments = _moments(model, layers, requests)
    found = {}
    for name, node in layers.items():
        matrix = _matrix(model, node)
        rank, thin = _svd(matrix, moments[node.input[0]], energy)
        if rank * sum(matrix.shape) <= _MOST_SHARE * matrix.size:
            found[name] = thin
    if not found:
        raise StageFailed(
            f"no layer is of low rank: keeping {energy:g} of the energy of its answers, none of {len(layers)} would save "
            f"{1 - _MOST_SHARE:.0%} of its work; fine-tuning, or a lower option energy, is needed"
        )
    return found


def _layers(model: ModelProto) -> dict[str, NodeProto]:
    weights = float_weights(model)
    found = {}
    for name in weighted_layers(model, ("MatMul", "Conv")):
        node = next(one for one in model.graph.node if one.name == name)
        dims = list(weights[node.input[1]].dims)
        flat = len(dims) == 2 if node.op_type == "MatMul" else len(dims) == 4 and dims[2:] == [1, 1] and not _is_grouped(node)
        if flat:
            found[name] = node
    return found


def _is_grouped(node: NodeProto) -> bool:
    return any(one.name == "group" and one.i != 1 for one in node.attribute)


def _matrix(model: ModelProto, node: NodeProto) -> Array:
    """float64 [n_in, n_out]."""
    from onnx import numpy_helper

    array = numpy_helper.to_array(float_weights(model)[node.input[1]]).astype(np.float64)
    return array if node.op_type == "MatMul" else array[:, :, 0, 0].T


def _moments(
    model: ModelProto, layers: Mapping[str, NodeProto], requests: Sequence[Mapping[str, Array]]
) -> dict[str, Array]:  # fmt: skip
    """Second moments, float64 [n_in, n_in], of what goes into the layers, by its name."""
    wanted = {node.input[0]: 1 if node.op_type == "Conv" else -1 for node in layers.values()}
    sums: dict[str, Array] = {}
    for name, array in watch(model, list(wanted), requests):
        rows = np.moveaxis(array, wanted[name], -1)
        flat = rows.reshape(-1, rows.shape[-1]).astype(np.float64)
        sums[name] = sums.get(name, 0) + flat.T @ flat
    return sums


def _svd(matrix: Array, moment: Array, energy: float) -> tuple[int, _Thin]:
    """The least rank that keeps so much of the energy of x·matrix, for x of this second moment, and the factors."""
    damped = moment + np.eye(len(moment)) * (_DAMPING * np.trace(moment) / len(moment) + np.finfo(np.float64).tiny)
    whiten = np.linalg.cholesky(damped).T  # whitenᵀ·whiten = damped, so |whiten·(matrix - product)| is the error that is seen
    left, values, right = np.linalg.svd(whiten @ matrix, full_matrices=False)
    kept = np.cumsum(values**2) / max(np.sum(values**2), np.finfo(np.float64).tiny)
    rank = min(int(np.searchsorted(kept, energy)) + 1, len(values))
    first = np.linalg.solve(whiten, left[:, :rank] * values[:rank])
    scale = np.sqrt(np.abs(first).max(axis=0) + np.finfo(np.float32).tiny)  # both factors of like size
    thin = _Thin((first / scale).astype(np.float32), (right[:rank] * scale[:, None]).astype(np.float32))
    return rank, thin


def _replace(model: ModelProto, thin: Mapping[str, _Thin]) -> ModelProto:
    made = copy_of(model)
    for name, factors in thin.items():
        _replace_one(made, name, factors)
    used = {name for node in made.graph.node for name in node.input}
    kept = [one for one in made.graph.initializer if one.name in used]
    made.graph.ClearField("initializer")
    made.graph.initializer.extend(kept)
    return made


def _replace_one(model: ModelProto, name: str, thin: _Thin) -> None:
    from onnx import helper, numpy_helper

    graph = model.graph
    place, node = next((place, one) for place, one in enumerate(graph.node) if one.name == name)
    taken = value_names(model)
    between, first, second = (free_name(f"{name}_{part}", taken) for part in ("thin", "first", "second"))
    pair = [thin.first, thin.second]
    attributes: dict[str, Any] = {}
    if node.op_type == "Conv":
        pair = [part.T[:, :, None, None] for part in pair]
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(part), what) for part, what in zip(pair, (first, second), strict=True)
    )
    made = [
        helper.make_node(node.op_type, [node.input[0], first], [between], f"{name}_first", **attributes),
        helper.make_node(node.op_type, [between, second, *node.input[2:]], list(node.output), f"{name}_second"),
    ]
    graph.node.remove(node)
    for offset, one in enumerate(made):
        graph.node.insert(place + offset, one)
