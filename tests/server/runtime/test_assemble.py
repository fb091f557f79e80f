"""Joining and splitting: padding goes in by the manifest's values and never comes out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.backends.base import BatchError
from server.contract.manifest import FileEntry, Manifest, Ragged
from server.contract.tensors import DataType, TensorSpec
from server.runtime.assemble import Assembler, Part

SPECS = (TensorSpec("ids", DataType.INT64, ("batch", "n")), TensorSpec("bias", DataType.FP32, ("batch", 1)))
OUTPUTS = (TensorSpec("each", DataType.INT64, ("batch", "n")), TensorSpec("one", DataType.FP32, ("batch", 1)))
MANIFEST = Manifest("m", "b", (FileEntry("f", "0" * 64, 1),), SPECS, OUTPUTS, Ragged("n", 1, 8, {"ids": 7}, True), 16, (), None)


def part(rows: int, length: int, value: int) -> Part:
    return Part({"ids": np.full((rows, length), value), "bias": np.full((rows, 1), value, np.float32)}, rows, length)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 8)), min_size=1, max_size=5))
def test_what_is_joined_is_split_into_the_same(sizes: list[tuple[int, int]]) -> None:
    parts = [part(rows, length, 100 + n) for n, (rows, length) in enumerate(sizes)]
    assembler = Assembler(MANIFEST)
    joined = assembler.join(parts)
    assert joined["ids"].shape == (sum(rows for rows, _ in sizes), max(length for _, length in sizes))
    assert set(np.unique(joined["ids"])) <= {7, *(100 + n for n in range(len(sizes)))}
    answers = assembler.split([joined["ids"], joined["bias"]], parts)
    for given_part, (each, one) in zip(parts, answers, strict=True):
        assert np.array_equal(each, given_part.inputs["ids"])
        assert np.array_equal(one, given_part.inputs["bias"])


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ([np.zeros((3, 2)), np.zeros((2, 1))], "'each' came back as"),
        ([np.zeros((2, 2)), np.zeros(())], "'one' came back as"),
        ([np.zeros((2, 2)), np.zeros(2)], "declares"),
        ([np.zeros((2, 2))], "1 outputs"),
    ],
)
def test_outputs_that_are_not_the_batch_s_answer_are_refused(outputs: list[np.ndarray], says: str) -> None:
    with pytest.raises(BatchError, match=says):
        Assembler(MANIFEST).split(outputs, [part(1, 2, 1), part(1, 2, 2)])
