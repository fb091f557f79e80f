"""Optimization profiles: every shape that may be served is in one, and none is in two of the same kind."""

from __future__ import annotations

import pytest

from optimizer.tensorrt.bounds import bounds_of
from server.contract.manifest import Ragged
from server.contract.tensors import DataType, TensorSpec

IDS = TensorSpec("ids", DataType.INT64, ("batch", "length"))
IMAGE = TensorSpec("image", DataType.FP32, ("batch", 3, 8, 8))


def ragged(shortest: int, longest: int) -> Ragged:
    return Ragged("length", shortest, longest, {}, True)


def test_images_have_one_profile_for_single_rows_and_one_for_batches() -> None:
    single, batches = bounds_of([IMAGE], None, 32, 12)
    assert single.least == single.best == single.most == {"image": (1, 3, 8, 8)}
    assert (batches.least, batches.best, batches.most) == (
        {"image": (2, 3, 8, 8)}, {"image": (12, 3, 8, 8)}, {"image": (32, 3, 8, 8)},
    )  # fmt: skip


@pytest.mark.parametrize(("max_rows", "knee"), [(1, 1), (2, 1), (8, 8), (8, 100)])
@pytest.mark.parametrize(("shortest", "longest"), [(1, 1), (3, 20), (8, 64), (9, 10)])
def test_every_shape_is_in_exactly_one(max_rows: int, knee: int, shortest: int, longest: int) -> None:
    found = bounds_of([IDS], ragged(shortest, longest), max_rows, knee)
    for rows in range(1, max_rows + 1):
        for length in range(shortest, longest + 1):
            shape = (rows, length)
            fits = [
                one for one in found
                if all(low <= size <= high for low, size, high in zip(one.least["ids"], shape, one.most["ids"], strict=True))
            ]  # fmt: skip
            assert len(fits) == 1, shape
    for one in found:
        assert all(
            low <= best <= high for low, best, high in zip(one.least["ids"], one.best["ids"], one.most["ids"], strict=True)
        )


def test_a_file_of_one_row_is_built_for_that_row() -> None:
    fixed = TensorSpec("x", DataType.FP32, (1, 4))
    assert [one.most for one in bounds_of([fixed], None, 1, 1)] == [{"x": (1, 4)}]
