"""A decoder that remembers forms says, of whatever body, exactly what one without a memory says."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.api.infer_call import InferCall
from server.api.known_forms import LONGEST_FORM, MOST_FORMS, FormDecoder
from server.api.v2_request import RequestDecoder
from server.contract.classes import usual_classes
from server.contract.manifest import FileEntry, Manifest
from server.contract.tensors import DataType, TensorSpec
from server.core.types import ModelKey
from server.errors import FerryError

FAST = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
TWO_FLOATS = TensorSpec("x", DataType.FP32, ("batch", 2))
ONE_INTEGER = TensorSpec("n", DataType.INT8, ("batch", 1))
TEXT = TensorSpec("s", DataType.BYTES, ("batch", 1))


def plain(*inputs: TensorSpec) -> RequestDecoder:
    manifest = Manifest(
        name="m", backend="onnxruntime", files=(FileEntry("f", "0" * 64, 1),), inputs=inputs,
        outputs=(TensorSpec("y", DataType.FP32, ("batch", 2)),), ragged=None, max_rows=4, checks=(), lineage_sha256=None,
    )  # fmt: skip
    model: Any = SimpleNamespace(key=ModelKey("m", 1), max_rows=4, manifest=manifest, classes=usual_classes(1.0))
    return RequestDecoder(model)


def said(decoder: RequestDecoder | FormDecoder, body: bytes, header_length: int | None = None) -> object:
    """What it says, in a form that can be compared."""
    try:
        call: InferCall = decoder.decode(body, header_length)
    except FerryError as error:
        return type(error), str(error)
    inputs = {name: (array.dtype, array.shape, array.tobytes()) for name, array in call.inputs.items()}
    return call.id, inputs, call.rows, call.length, call.terms, call.outputs


def tensor(data: object, **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": data, **more}


def body(*inputs: dict[str, Any], **more: Any) -> bytes:
    return orjson.dumps({**more, "inputs": list(inputs)})


def binary(*arrays: np.ndarray[Any, Any], **more: Any) -> tuple[bytes, int]:
    """FP32 [rows, 2] first, INT8 [rows, 1] second."""
    names = [("x", "FP32"), ("n", "INT8")]
    inputs = [
        {"name": name, "shape": list(array.shape), "datatype": datatype, "parameters": {"binary_data_size": array.nbytes}}
        for (name, datatype), array in zip(names, arrays, strict=False)
    ]
    head = orjson.dumps({"inputs": inputs, **more})
    return b"".join((head, *(array.tobytes() for array in arrays))), len(head)


def test_a_form_is_learnt_once_and_the_numbers_are_each_requests_own() -> None:
    forms = FormDecoder(plain(TWO_FLOATS))
    for numbers in ([1.0, 2.0], [3.5, -4.0], [5, 6], [0.0, 1e-9]):
        assert said(forms, body(tensor(numbers))) == said(plain(TWO_FLOATS), body(tensor(numbers)))
        assert forms.n_known == 1


@pytest.mark.parametrize(
    "dumps", [orjson.dumps, lambda value: json.dumps(value, indent=1).encode(), lambda value: json.dumps(value).encode()]
)
def test_however_a_client_sets_its_spaces_and_nests_its_lists(dumps: Callable[[object], bytes]) -> None:
    forms = FormDecoder(plain(TWO_FLOATS))
    for numbers in ([[1.0, 2.0]], [[3.5, -4.0]], [5, 6], [[[7.0], [8.0]]], [[9.0], [1.0, 2.0]]):
        sent = dumps({"inputs": [tensor(numbers)], "outputs": [{"name": "y"}]})
        assert said(forms, sent) == said(plain(TWO_FLOATS), sent)
        assert forms.n_known == 1


def test_the_same_for_tensors_after_the_json() -> None:
    forms = FormDecoder(plain(TWO_FLOATS, ONE_INTEGER))
    for number in range(4):
        sent = binary(np.full((3, 2), number, np.float32), np.full((3, 1), -number, np.int8), id="a")
        assert said(forms, *sent) == said(plain(TWO_FLOATS, ONE_INTEGER), *sent)
        assert forms.n_known == 1


WRONG = [b"[1.0]", b"[1.0,2.0,3.0]", b"[1.0,true]", b'[1.0,"a"]', b"[1.0,]", b"[1.0,2.0", b"1.0,2.0]", b"{}", b"7", b"null", b"",
         b"[[1.0,2.0]]", b"[1e39,0.0]", b"[NaN,0.0]", b"[1.0,2.0]}],\"x\":[{\"y\":[3.0]"]  # fmt: skip


@pytest.mark.parametrize("numbers", WRONG)
def test_what_is_wrong_with_the_numbers_is_told_as_ever(numbers: bytes) -> None:
    known = body(tensor([1.5, 2.5]))
    forms = FormDecoder(plain(TWO_FLOATS))
    forms.decode(known, None)
    wrong = known.replace(b"[1.5,2.5]", numbers)
    assert said(forms, wrong) == said(plain(TWO_FLOATS), wrong)


UNUSUAL = [
    body({"parameters": {"data": [7.0, 8.0]}, **tensor([1.0, 2.0])}),
    orjson.dumps({"parameters": {"data": 1}, "inputs": [tensor([1.0, 2.0])]}),
    body(tensor([1.0, 2.0])).replace(b'"data":[1.0,2.0]', b'"data":[7.0,8.0],"data":[1.0,2.0]'),
    body(tensor([1.0, 2.0])).replace(b'"data"', b'"d\\u0061ta"'),
    body(tensor([1.0, 2.0]), id='"data":[9.0]'),
    body(tensor([1.0, 2.0]), id="x" * LONGEST_FORM),
    body(tensor([1.0, 2.0]), note="shared_memory"),
]


@pytest.mark.parametrize("unusual", UNUSUAL)
def test_what_is_unusual_is_not_learnt(unusual: bytes) -> None:
    forms = FormDecoder(plain(TWO_FLOATS))
    for numbers in (b"[1.0,2.0]", b"[3.0,4.0]"):
        other = unusual.replace(b"[1.0,2.0]", numbers)
        assert said(forms, other) == said(plain(TWO_FLOATS), other)
    assert forms.n_known == 0


def test_neither_are_tensors_both_in_the_json_and_after_it_nor_text() -> None:
    inline = {"name": "n", "shape": [1, 1], "datatype": "INT8", "data": [3]}
    sent, head = binary(np.zeros((1, 2), np.float32))
    mixed = orjson.dumps({"inputs": [*orjson.loads(sent[:head])["inputs"], inline]})
    text = body({"name": "s", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]})
    for decoder, data, length in (
        (plain(TWO_FLOATS, ONE_INTEGER), mixed + sent[head:], len(mixed)),
        (plain(TEXT), text, None),
        (plain(ONE_INTEGER), b"\x07", 0),
    ):
        forms = FormDecoder(decoder)
        assert said(forms, data, length) == said(decoder, data, length)
        assert isinstance(said(forms, data, length), tuple)
        assert forms.n_known == 0


def test_memory_is_bounded_and_forms_that_never_come_back_end_the_learning() -> None:
    forms = FormDecoder(plain(TWO_FLOATS))
    for number in range(3 * MOST_FORMS):
        forms.decode(body(tensor([1.0, 2.0]), id=str(number)), None)
        assert forms.n_known <= MOST_FORMS
    assert forms.n_known == 0


def test_where_they_do_come_back_it_goes_on() -> None:
    forms = FormDecoder(plain(TWO_FLOATS))
    for number in range(3 * MOST_FORMS):
        for _ in range(2):
            forms.decode(body(tensor([1.0, 2.0]), id=str(number)), None)
    assert 0 < forms.n_known <= MOST_FORMS


@FAST
@given(st.data())
def test_whatever_happens_to_known_bodies_it_says_what_it_would_have_said(data: st.DataObject) -> None:
    decoder = plain(TWO_FLOATS, ONE_INTEGER) if data.draw(st.booleans()) else plain(TWO_FLOATS)
    forms = FormDecoder(decoder)
    known: list[tuple[bytes, int | None]] = [
        (body(tensor([1.5, 2.5])), None),
        (body(tensor([1.5, 2.5]), id="a", parameters={"timeout": 5}), None),
        binary(np.ones((2, 2), np.float32)),
        binary(np.ones((2, 2), np.float32), np.ones((2, 1), np.int8), outputs=[{"name": "y"}]),
    ]
    for sent in known:
        said(forms, *sent)
    changed, length = data.draw(st.sampled_from(known))
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(changed)))
        stop = data.draw(st.integers(start, min(len(changed), start + 8)))
        changed = (
            changed[:start]
            + data.draw(st.sampled_from([b"", b"]", b"7", b'"', b",", b"\x00", b"data", b"}]"]))
            + changed[stop:]
        )
    length = length if length is None else data.draw(st.sampled_from([length, 0, length - 1, min(length + 1, len(changed))]))
    length = length if length is None else min(length, len(changed))
    assert said(forms, changed, length) == said(decoder, changed, length)
