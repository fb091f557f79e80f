"""Batches cut from single requests, the user's own or made up."""

import numpy as np
import pytest

from server.backends.base import NUMPY_TYPES
from server.contract.tensors import DataType, TensorSpec
from server.intake.errors import IntakeError
from server.intake.inspect import read_signature
from server.intake.samples import Samples, made_up_samples
from tests.server.intake.fakes import IDS, MASK, MEAN, X, Y

TOKENS = read_signature([IDS, MASK], [MEAN])
PLAIN = read_signature([X], [Y])


def test_rows_repeat_the_singles_and_lengths_repeat_their_values() -> None:
    singles = [{"ids": np.array([[1, 2, 3]]), "mask": np.array([[1, 1, 1]])}, {"ids": np.array([[9]]), "mask": np.array([[1]])}]
    samples = Samples(TOKENS, singles)
    assert samples.batch(3, 4)["ids"].tolist() == [[1, 2, 3, 1], [9, 9, 9, 9], [1, 2, 3, 1]]
    assert samples.batch(1, 2, first=1)["ids"].tolist() == [[9, 9]]


def test_without_a_ragged_axis_the_length_is_ignored() -> None:
    assert made_up_samples(PLAIN, 0).batch(5, 99)["x"].shape == (5, 4)


@pytest.mark.parametrize("datatype", [datatype for datatype in DataType if datatype is not DataType.BF16])
def test_made_up_values_fit_every_datatype_and_rows_differ(datatype: DataType) -> None:
    signature = read_signature([TensorSpec("x", datatype, ("n", 16))], [Y])
    array = made_up_samples(signature, 0).batch(4, 0)["x"]
    assert array.dtype == NUMPY_TYPES[datatype.value]
    assert not np.array_equal(array[0], array[1]), "equal rows would hide that rows influence each other"
    if array.dtype.kind != "f":
        assert set(array.reshape(-1).tolist()) <= {0, 1, b"0", b"1"}
        assert set(array[:, 0].tolist()) <= {1, b"1"}, "no row is empty to a mask"


def test_made_up_samples_are_the_same_each_time() -> None:
    assert np.array_equal(made_up_samples(PLAIN, 0).batch(8, 0)["x"], made_up_samples(PLAIN, 0).batch(8, 0)["x"])


@pytest.mark.parametrize(
    ("single", "message"),
    [
        ({}, "sample 0 has inputs [], the model wants ['ids', 'mask']"),
        ({"ids": np.ones((1, 2), int), "mask": np.ones((1, 2), int), "z": 1}, "sample 0 has inputs ['ids', 'mask', 'z']"),
        ({"ids": np.ones((2, 2), int), "mask": np.ones((2, 2), int)},
         "sample 0: input 'ids' is int64 [2, 2], the model wants int64 [1, -1]"),
        ({"ids": np.ones(2, int), "mask": np.ones((1, 2), int)}, "sample 0: input 'ids' is int64 [2], the model wants int64 [1, -1]"),
        ({"ids": np.ones((1, 2), int), "mask": np.ones((1, 2))}, "input 'mask' is float64 [1, 2], the model wants int64 [1, -1]"),
        ({"ids": np.ones((1, 0), int), "mask": np.ones((1, 0), int)}, "axis 'length' must have one size above 0 in all inputs, found [0]"),
        ({"ids": np.ones((1, 2), int), "mask": np.ones((1, 3), int)}, "axis 'length' must have one size above 0 in all inputs, found [2, 3]"),
    ],
)  # fmt: skip
def test_samples_that_do_not_fit_are_refused(single: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(IntakeError) as caught:
        Samples(TOKENS, [single])
    assert message in str(caught.value)


def test_fixed_sizes_are_compared_too() -> None:
    with pytest.raises(IntakeError, match=r"input 'x' is float32 \[1, 5\], the model wants float32 \[1, 4\]"):
        Samples(PLAIN, [{"x": np.ones((1, 5), np.float32)}])


def test_no_samples_at_all() -> None:
    with pytest.raises(IntakeError, match="no sample inputs: give at least one"):
        Samples(PLAIN, [])
