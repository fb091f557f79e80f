"""From declared tensors to a signature, or to a refusal that says what to export instead."""

import pytest

from server.contract.tensors import DataType, Dim, TensorSpec
from server.intake.errors import IntakeError
from server.intake.inspect import read_signature


def spec(name: str, *shape: Dim) -> TensorSpec:
    return TensorSpec(name, DataType.FP32, shape)


def test_the_first_axis_is_the_batch_whatever_its_name() -> None:
    signature = read_signature([spec("x", "N", 3), spec("z", "N")], [spec("y", "unk__7", 2), spec("w", "N", "N_1")])
    assert [one.shape for one in (*signature.inputs, *signature.outputs)] == [
        ("batch", 3),
        ("batch",),
        ("batch", 2),
        ("batch", "N_1"),
    ]
    assert (signature.batches, signature.ragged_axis) == (True, None)


def test_one_other_free_axis_is_the_ragged_one() -> None:
    signature = read_signature([spec("ids", "b", "length"), spec("mask", "b", "length")], [spec("y", "b", "length", 8)])
    assert signature.ragged_axis == "length"


def test_a_file_for_one_row_is_served_row_by_row() -> None:
    signature = read_signature([spec("x", 1, 3)], [spec("y", "out", 3)])
    assert not signature.batches
    assert (signature.inputs[0].shape, signature.outputs[0].shape) == ((1, 3), (1, 3))


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([], [spec("y", "b")], "the model needs at least one input and one output; export it with the tensors"),
        ([spec("x", "b")], [], "the model needs at least one input and one output"),
        ([spec("x", "a", 2), spec("z", "b")], [spec("y", "a")],
         "the inputs do not share one first axis (x: a, z: b); export them with the same batch axis"),
        ([spec("x", 8, 2)], [spec("y", 8)], "the file fixes the first axis to 8; export it with a free first axis called 'batch'"),
        ([spec("x", "b")], [spec("y", 3)], "output 'y' has a fixed first axis of 3, the inputs have 'b': one row in must be"),
        ([spec("x", "b", "h", "w")], [spec("y", "b")], "the inputs leave 2 axes free besides the batch (h, w); give axes that"),
        ([spec("x", "b", "batch")], [spec("y", "b")], "an axis after the first is called 'batch'; export it under a name of"),
    ],
)  # fmt: skip
def test_refusals(inputs: list[TensorSpec], outputs: list[TensorSpec], message: str) -> None:
    with pytest.raises(IntakeError) as caught:
        read_signature(inputs, outputs)
    assert message in str(caught.value)
