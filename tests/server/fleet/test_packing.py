"""Tensors come out of a run of bytes as they went in, and a run that is not right is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.backends.base import NUMPY_TYPES, Array
from server.contract.tensors import DataType, TensorSpec
from server.fleet.packing import Packing
from server.fleet.slots import BrokenLink

SHAPES = st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple)


@st.composite
def tensors(draw: Any) -> list[tuple[TensorSpec, Array]]:
    made = []
    for place in range(draw(st.integers(1, 4))):
        datatype, shape = draw(st.sampled_from(DataType)), draw(SHAPES)
        dtype, count = NUMPY_TYPES[datatype.value], int(np.prod(shape))
        if datatype is DataType.BYTES:
            array = np.empty(count, dtype=np.object_)
            array[:] = draw(st.lists(st.binary(max_size=20), min_size=count, max_size=count))
        elif datatype is DataType.BOOL:
            array = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype)
        else:
            size = count * dtype.itemsize
            array = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype)
        made.append((TensorSpec(f"t{place}", datatype, tuple(f"axis{n}" for n in range(len(shape)))), array.reshape(shape)))
    return made


def same(one: Array, other: Array) -> bool:
    """To the bit; also for numbers that are not equal to themselves."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return one.tolist() == other.tolist() if one.dtype.kind == "O" else one.tobytes() == other.tobytes()


@given(tensors(), st.integers(0, 3), st.integers(0, 400))
def test_whatever_goes_in_comes_out(given_tensors: list[tuple[TensorSpec, Array]], before: int, most: int) -> None:
    packing = Packing([spec for spec, _ in given_tensors])
    arrays = [array for _, array in given_tensors]
    packed = packing.pack(arrays)
    joined = packed.joined()
    assert (len(joined), len(joined) % 8) == (packed.n_bytes, 0)
    memory = memoryview(bytearray(before * 8 + packed.n_bytes))
    packed.write(memory[before * 8 :])
    assert memory[before * 8 :] == joined
    for buffer, at in ((memory, before * 8), (memoryview(joined), 0)):
        assert all(map(same, packing.unpack(buffer, at, packed.n_bytes), arrays))
    small = packing.pack_small(arrays, most)
    assert small in (joined, None)
    assert small is not None or packed.n_bytes > most


@given(tensors(), st.data())
def test_a_run_that_is_cut_or_changed_is_never_read_beyond_its_end(given_tensors: Any, data: st.DataObject) -> None:
    packing = Packing([spec for spec, _ in given_tensors])
    good = bytearray(packing.pack([array for _, array in given_tensors]).joined())
    place = data.draw(st.integers(0, len(good) - 1))
    good[place] = data.draw(st.integers(0, 255))
    n_bytes = data.draw(st.integers(0, len(good)))
    try:
        arrays = packing.unpack(memoryview(good)[:n_bytes], 0, n_bytes)
    except BrokenLink:
        return
    assert sum(array.nbytes for array in arrays if array.dtype.kind != "O") <= n_bytes


def test_arrays_that_do_not_lie_row_by_row_and_other_types_are_converted() -> None:
    packing = Packing([TensorSpec("x", DataType.FP32, ("batch", 3)), TensorSpec("y", DataType.INT64, ("batch",))])
    x = np.arange(12, dtype=np.float64).reshape(3, 4).T
    y = np.arange(8)[::2]
    packed = packing.pack([x, y])
    for run in (packed.joined(), packing.pack_small([x, y], 1 << 20)):
        assert run is not None
        found = packing.unpack(memoryview(run), 0, packed.n_bytes)
        assert found[0].dtype == np.float32
        assert (found[0].tolist(), found[1].tolist()) == (x.tolist(), y.tolist())


def test_a_run_that_is_longer_than_its_tensors_is_told() -> None:
    packing = Packing([TensorSpec("x", DataType.FP32, ("batch",))])
    run = packing.pack([np.ones(2, np.float32)]).joined()
    with pytest.raises(BrokenLink, match="in a run of"):
        packing.unpack(memoryview(run + bytes(8)), 0, len(run) + 8)
