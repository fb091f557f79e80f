"""Lists of numbers read without Python objects: the general decoder's arrays, or None."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.api.json_tensors import from_json
from server.api.number_list import MOST_KEPT_BYTES, NumberLists
from server.errors import BadRequest

DATATYPES = {"FP32": "f4", "FP64": "f8", "INT8": "i1", "INT32": "i4", "INT64": "i8", "UINT8": "u1", "UINT64": "u8"}

numbers = st.one_of(
    st.integers(-(2**70), 2**70), st.integers(-300, 300), st.floats(allow_nan=False, allow_infinity=False),
    st.floats(width=32, allow_nan=False, allow_infinity=False), st.booleans(), st.none(), st.just("1"),
)  # fmt: skip
lists = st.one_of(
    st.lists(numbers, max_size=6),
    st.lists(st.lists(numbers, max_size=3), max_size=3),
    st.recursive(st.lists(st.integers(0, 9), max_size=2), lambda inner: st.lists(inner, max_size=3), max_leaves=8),
    st.recursive(st.integers(0, 9), lambda inner: st.lists(inner, max_size=2), max_leaves=8).map(lambda one: [one]),
)


def written(value: Any) -> bytes:
    """orjson refuses integers beyond 64 bits, which clients can write."""
    if isinstance(value, list):
        return b"[" + b",".join(map(written, value)) + b"]"
    return str(value).encode() if type(value) is int else orjson.dumps(value)


@given(data=lists, datatype=st.sampled_from(list(DATATYPES)))
@example(data=[2**53 + 1], datatype="INT64")
@example(data=[2**64 - 1, 0], datatype="UINT64")
@example(data=[1e39], datatype="FP32")
@example(data=[128], datatype="INT8")
@example(data=[-0.0, 5e-324], datatype="FP64")
@example(data=[[1.0, 3.0], [2.0, 4.0]], datatype="FP32")
@example(data=[[[1], [2]], [[3], [4]]], datatype="UINT8")
@example(data=[[5, [[1]]]], datatype="INT32")
@example(data=[[], [1]], datatype="INT32")
def test_what_it_reads_is_what_the_decoder_reads(data: list[Any], datatype: str) -> None:
    dtype, text = np.dtype(DATATYPES[datatype]), written(data)
    found = NumberLists().read(text, dtype)
    if found is None:
        return
    expected = from_json("x", orjson.loads(text), [found.size], dtype, datatype)
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("datatype", "data"), [("FP32", [1, 2.5, -3e-7]), ("INT64", [-(2**63), 2**63 - 1]), ("UINT8", [0, 255]), ("FP64", [])]
)
def test_plain_lists_are_read(datatype: str, data: list[Any]) -> None:
    for text in (orjson.dumps(data), memoryview(orjson.dumps(data)), b" " + json.dumps(data).encode()):
        found = NumberLists().read(text, np.dtype(DATATYPES[datatype]))
        assert found is not None
        assert found.tolist() == np.array(data, DATATYPES[datatype]).tolist()


@pytest.mark.parametrize(
    "text",
    [
        b"[1,",
        b"[1]]",
        b"[1] 2",
        b"[NaN]",
        b"[01]",
        b"[1e999]",
        b"[true]",
        b"[null]",
        b'["1"]',
        b"1",
        b"{}",
        b"",
        b"[[1],[2,3]]",
        b"[1,[2]]",
        b"[[1,[2]],[3,[4]]]",
    ],
)
def test_all_else_is_left_to_the_decoder(text: bytes) -> None:
    lists = NumberLists()
    assert lists.read(text, np.dtype("f4")) is None
    assert lists.read(b"[1]", np.dtype("f4")) is not None, "what was wrong is forgotten"


def test_lists_within_lists_are_read_in_row_major_order() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    found = NumberLists().read(json.dumps(array.tolist()).encode(), array.dtype)
    assert found is not None
    assert found.tolist() == list(range(24))


def test_long_lists_are_read_beside_each_other() -> None:
    lists, many = NumberLists(), list(range(MOST_KEPT_BYTES))
    first = lists.read(orjson.dumps(many), np.dtype("i4"))
    second = lists.read(orjson.dumps(many[::-1]), np.dtype("i4"))
    assert first is not None
    assert second is not None
    assert first.tolist() == second.tolist()[::-1] == many


def test_the_decoder_has_words_for_what_is_not_read() -> None:
    with pytest.raises(BadRequest, match="too large for FP32"):
        from_json("x", [1e39], [1], np.dtype("f4"), "FP32")


@pytest.mark.parametrize("datatype", ["FP32", "INT64", "BOOL"])
def test_texts_among_numbers_cost_no_memory(datatype: str) -> None:
    """numpy would give each of them the room of the longest."""
    data = ["A" * 20_000] + [""] * 5_000
    tracemalloc.start()
    try:
        with pytest.raises(BadRequest, match=f"datatype {datatype} wants"):
            from_json("x", data, [len(data)], np.dtype({"BOOL": "?", **DATATYPES}[datatype]), datatype)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
