"""Tensor specs: V2 names, wire shapes, refusals."""

import pytest

from server.contract.errors import ContractError
from server.contract.fields import Fields
from server.contract.tensors import DataType, TensorSpec


def test_every_datatype_has_a_size_except_bytes() -> None:
    assert {datatype.value: datatype.itemsize for datatype in DataType} == {
        "BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8,
        "FP16": 2, "FP32": 4, "FP64": 8, "BF16": 2, "BYTES": None,
    }  # fmt: skip


def test_round_trip_and_views() -> None:
    spec = TensorSpec("x", DataType.FP32, ("batch", 3, "length"))
    assert TensorSpec.from_json(Fields(spec.to_json(), "here")) == spec
    assert spec.wire_shape == [-1, 3, -1]
    assert spec.axis("length") == 2
    assert spec.axis("width") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datatype": "FLOAT"}, "here: field 'datatype' 'FLOAT' is unknown; known are BOOL, UINT8"),
        ({"shape": []}, "here: field 'shape' needs a first (batch) axis"),
        ({"shape": ["batch", 0]}, "must hold positive sizes and axis names, found ['batch', 0]"),
        ({"shape": ["batch", True]}, "must hold positive sizes and axis names"),
        ({"shape": ["batch", ""]}, "must hold positive sizes and axis names"),
        ({"shape": ["batch", 1.5]}, "must hold positive sizes and axis names"),
        ({"name": ""}, "here: field 'name' must not be empty"),
        ({"size": 4}, "here: unknown field 'size'; the known fields are datatype, name, shape"),
    ],
)
def test_refuses_impossible_specs(change: dict[str, object], message: str) -> None:
    data = {"name": "x", "datatype": "FP32", "shape": ["batch", 3], **change}
    with pytest.raises(ContractError) as caught:
        TensorSpec.from_json(Fields(data, "here"))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("datatype", "number", "fits"),
    [
        ("UINT8", 255, True), ("UINT8", 256, False), ("UINT8", -1, False), ("UINT8", 1.5, False), ("INT64", 2**63 - 1, True),
        ("INT64", 2**63, False), ("INT8", -128, True), ("BOOL", 1, True), ("BOOL", 2, False), ("BYTES", 0, True),
        ("BYTES", 1, False), ("FP16", 65504, True), ("FP16", 65505, False), ("FP32", 1e300, False), ("FP64", 1e300, True),
        ("BF16", 1e38, True),
    ],
)  # fmt: skip
def test_what_an_element_can_hold(datatype: str, number: float, fits: bool) -> None:
    assert DataType(datatype).holds(number) is fits
