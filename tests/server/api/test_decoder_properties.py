"""Whatever bytes arrive, the decoder returns a call or raises a FerryError: nothing else, ever."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.api.binary_tensors import from_bytes, to_bytes
from server.api.json_tensors import from_json, to_json
from server.api.v2_request import RequestDecoder
from server.backends.base import NUMPY_TYPES
from server.contract.classes import usual_classes
from server.contract.manifest import FileEntry, Manifest, Ragged
from server.contract.tensors import DataType, TensorSpec
from server.core.types import ModelKey
from server.errors import FerryError

FAST = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def decoder() -> RequestDecoder:
    """One fixed FP32, one ragged INT64, one BYTES input."""
    manifest = Manifest(
        name="m", backend="b", files=(FileEntry("f", "0" * 64, 1),),
        inputs=(
            TensorSpec("x", DataType.FP32, ("batch", 2)), TensorSpec("n", DataType.INT64, ("batch", "length")),
            TensorSpec("s", DataType.BYTES, ("batch", 1)),
        ),
        outputs=(TensorSpec("y", DataType.FP32, ("batch", 2)),),
        ragged=Ragged("length", 1, 4, {"n": 0}, True), max_rows=4, checks=(), lineage_sha256=None,
    )  # fmt: skip
    model: Any = SimpleNamespace(key=ModelKey("m", 1), max_rows=4, manifest=manifest, classes=usual_classes(1.0))
    return RequestDecoder(model)


DECODER = decoder()
LEAF = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
ANY = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4))
SIZES = st.lists(st.integers(-1, 5) | LEAF, max_size=3) | ANY
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "n", "s"]) | ANY,
        "datatype": st.sampled_from(["FP32", "INT64", "BYTES"]) | ANY,
        "shape": SIZES,
        "data": ANY,
        "parameters": st.dictionaries(st.just("binary_data_size"), st.integers(-2, 40) | ANY) | ANY,
    },
)
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=3) | ANY,
        "inputs": st.lists(ITEM, max_size=4) | ANY,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.just("y") | ANY, "parameters": ANY}), max_size=2) | ANY,
        "parameters": st.dictionaries(st.sampled_from(["timeout", "binary_data_output"]), ANY) | ANY,
    },
)


def decode(body: bytes, length: int | None) -> None:
    try:
        call = DECODER.decode(body, length)
    except FerryError:
        return
    assert set(call.inputs) == {"x", "n", "s"}
    assert all(len(array) == call.rows for array in call.inputs.values())


@FAST
@given(REQUEST, st.binary(max_size=64), st.booleans())
def test_random_requests(request: Any, blobs: bytes, has_blobs: bool) -> None:
    header = json.dumps(request).encode()
    decode(header + blobs, len(header) if has_blobs else None)


@FAST
@given(ANY)
def test_random_json(value: Any) -> None:
    decode(json.dumps(value).encode(), None)


@FAST
@given(st.binary(max_size=200), st.none() | st.integers(0, 50))
def test_random_bytes(body: bytes, length: int | None) -> None:
    decode(body, None if length is None else min(length, len(body)))


@FAST
@given(ANY, st.sampled_from(sorted(NUMPY_TYPES)), st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_random_data_of_any_type(data: Any, datatype: str, shape: list[int]) -> None:
    try:
        array = from_json("x", orjson.loads(json.dumps(data)), shape, NUMPY_TYPES[datatype], datatype)
    except (FerryError, orjson.JSONDecodeError):
        return
    assert list(array.shape) == shape
    assert array.dtype == NUMPY_TYPES[datatype]


@FAST
@given(st.binary(max_size=40), st.sampled_from(sorted(NUMPY_TYPES)), st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_random_blobs_of_any_type(raw: bytes, datatype: str, shape: list[int]) -> None:
    try:
        array = from_bytes("x", memoryview(raw), shape, NUMPY_TYPES[datatype])
    except FerryError:
        return
    assert list(array.shape) == shape
    wanted = bytes(map(bool, raw)) if datatype == "BOOL" else raw  # any byte but 0 is true, and 1 is how that is told
    assert to_bytes(array, datatype) == wanted


@FAST
@given(st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_unsigned_integers_are_exact(numbers: list[int]) -> None:
    array = from_json("x", numbers, [len(numbers)], NUMPY_TYPES["UINT64"], "UINT64")
    assert array.tolist() == numbers


@FAST
@given(st.lists(st.binary(max_size=5), max_size=6))
def test_bytes_tensors_go_there_and_back(items: list[bytes]) -> None:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    raw = to_bytes(array, "BYTES")
    assert from_bytes("x", memoryview(raw), [len(items)], NUMPY_TYPES["BYTES"]).tolist() == items
    assert to_json("x", np.zeros((2, 2)), "FP64").tolist() == [0.0] * 4  # type: ignore[union-attr]
