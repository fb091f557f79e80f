from __future__ import annotations

import numpy as np
import pytest

from loadtests.errors import MalformedReply
from loadtests.tensors import (
    BF16,
    Array,
    count,
    datatype_of,
    dtype_of,
    from_bytes,
    from_json,
    to_bf16,
    to_bytes,
    to_json,
)


def test_datatypes_are_told_from_dtypes_of_any_byte_order() -> None:
    assert datatype_of(np.zeros(1, ">i4")) == "INT32"
    assert datatype_of(np.zeros(1, BF16)) == "BF16"
    assert datatype_of(np.array([b"a"])) == "BYTES"
    assert datatype_of(np.array(["a"], dtype=object)) == "BYTES"
    with pytest.raises(ValueError, match="complex64"):
        datatype_of(np.zeros(1, np.complex64))


def test_dtypes_are_told_from_datatypes() -> None:
    assert dtype_of("FP32") == np.float32
    assert dtype_of("BYTES") == np.dtype(object)
    with pytest.raises(ValueError, match="FP31"):
        dtype_of("FP31")


def test_bytes_are_little_endian_and_row_major() -> None:
    assert to_bytes(np.array([[1, 2], [3, 4]], ">u2")) == b"\x01\0\x02\0\x03\0\x04\0"
    assert to_bytes(np.array([[1, 2], [3, 4]], "<u2").T) == b"\x01\0\x03\0\x02\0\x04\0"
    assert to_bytes(np.array([b"ab", "é", b""], dtype=object)) == b"\x02\0\0\0ab\x02\0\0\0\xc3\xa9\0\0\0\0"


def test_bfloat16_rounds_to_nearest_even() -> None:
    values = np.array([[1.0, -2.5], [1.00390625, 2.0**127]], np.float32)
    assert from_bytes("BF16", (2, 2), to_bytes(to_bf16(values))).tolist() == [[1.0, -2.5], [1.0, 2.0**127]]
    assert to_bf16(np.array([1.01171875], np.float32))["bf16"].tolist() == [0x3F82]


@pytest.mark.parametrize("array", [np.zeros(2, np.float16), np.zeros(2, BF16)])
def test_half_precision_has_no_json_form(array: Array) -> None:
    with pytest.raises(ValueError, match="binary"):
        to_json(array)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_json_has_no_nan_and_no_infinity(value: float) -> None:
    with pytest.raises(ValueError, match="NaN"):
        to_json(np.array([value]))


def test_nested_data_is_flattened_and_large_integers_stay_exact() -> None:
    assert from_json("UINT64", [2, 1], [[2**64 - 1], [2**53 + 1]]).tolist() == [[2**64 - 1], [2**53 + 1]]
    assert from_json("INT64", [1], [-(2**63)]).tolist() == [-(2**63)]


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "match"),
    [
        ("FP32", [3], [1, 2], "3 elements, found 2"),
        ("FP32", [1], 1, "must be a list"),
        ("FP32", [1], ["x"], "not FP32"),
        ("INT8", [1], [300], "not INT8"),
        ("BF16", [1], [1], "BF16"),
        ("BYTES", [2], ["x"], "2 elements, found 1"),
        ("FP32", [-1], [1], "not a shape"),
        ("FP31", [1], [1], "FP31"),
    ],
)
def test_wrong_json_data_is_refused(datatype: str, shape: list[int], data: object, match: str) -> None:
    with pytest.raises(MalformedReply, match=match):
        from_json(datatype, shape, data)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "match"),
    [
        ("FP32", [2], b"1234", "needs 8 bytes, found 4"),
        ("BYTES", [1], b"\x05\0\0\0abc", "runs over"),
        ("BYTES", [1], b"\x05\0", "inside a length"),
        ("BYTES", [2], b"\x01\0\0\0a", "2 elements, found 1"),
        ("FP31", [1], b"", "FP31"),
    ],
)
def test_wrong_bytes_are_refused(datatype: str, shape: list[int], data: bytes, match: str) -> None:
    with pytest.raises(MalformedReply, match=match):
        from_bytes(datatype, shape, data)


def test_count_multiplies_sizes() -> None:
    assert count([]) == 1
    assert count([3, 0, 2]) == 0
    with pytest.raises(MalformedReply):
        count([1.5])  # type: ignore[list-item]
