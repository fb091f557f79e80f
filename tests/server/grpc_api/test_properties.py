"""Whatever message arrives, the decoder returns a call or raises a FerryError: nothing else, ever."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.contract.classes import usual_classes
from server.contract.manifest import FileEntry, Manifest, Ragged
from server.contract.tensors import DataType, TensorSpec
from server.core.types import ModelKey
from server.errors import BadRequest, TurnedOff, Unsupported
from server.grpc_api import messages as pb
from server.grpc_api.decode import RequestDecoder, wants_final_flag
from server.grpc_api.statuses import MOST_DETAIL_BYTES, parse, text_of

FAST = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def decoder() -> RequestDecoder:
    """One fixed INT8, one ragged INT64, one BYTES input."""
    manifest = Manifest(
        name="m", backend="onnxruntime", files=(FileEntry("f", "0" * 64, 1),),
        inputs=(
            TensorSpec("x", DataType.INT8, ("batch", 2)), TensorSpec("n", DataType.INT64, ("batch", "length")),
            TensorSpec("s", DataType.BYTES, ("batch", 1)),
        ),
        outputs=(TensorSpec("y", DataType.FP32, ("batch", 2)),),
        ragged=Ragged("length", 1, 4, {"n": 0}, True), max_rows=4, checks=(), lineage_sha256=None,
    )  # fmt: skip
    model: Any = SimpleNamespace(key=ModelKey("m", 1), max_rows=4, manifest=manifest, classes=usual_classes(1.0))
    return RequestDecoder(model)


DECODER = decoder()
INT32, INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
NAME = st.sampled_from(["x", "n", "s", "y", ""]) | st.text(max_size=4)
PARAMETER = st.one_of(
    st.builds(dict, bool_param=st.booleans()), st.builds(dict, int64_param=INT64), st.builds(dict, string_param=st.text(max_size=4)),
    st.builds(dict, double_param=st.floats()), st.builds(dict, uint64_param=st.integers(0, 2**64 - 1)), st.just({}),
)  # fmt: skip
KEYS = ["timeout", "priority", "sequence_id", "sequence_start", "triton_enable_empty_final_response", "triton_x", "classification",
        "shared_memory_region", "mine"]  # fmt: skip
PARAMETERS = st.dictionaries(st.sampled_from(KEYS), PARAMETER, max_size=2)
CONTENTS = st.fixed_dictionaries(
    {},
    optional={
        "bool_contents": st.lists(st.booleans(), max_size=3),
        "int_contents": st.lists(INT32 | st.integers(-128, 127), max_size=4),
        "int64_contents": st.lists(INT64, max_size=4),
        "fp32_contents": st.lists(st.floats(width=32), max_size=3),
        "bytes_contents": st.lists(st.binary(max_size=3), max_size=3),
    },
)
INPUT = st.fixed_dictionaries(
    {"name": NAME, "datatype": st.sampled_from(["INT8", "INT64", "BYTES", "FP16", ""])},
    optional={
        "shape": st.lists(st.integers(-1, 4) | INT64, max_size=3),
        "parameters": PARAMETERS,
        "contents": CONTENTS,
    },
)
GOOD = st.sampled_from([
    [
        {"name": "x", "datatype": "INT8", "shape": [1, 2], "contents": {"int_contents": [1, -128]}},
        {"name": "n", "datatype": "INT64", "shape": [1, 1], "contents": {"int64_contents": [-1]}},
        {"name": "s", "datatype": "BYTES", "shape": [1, 1], "contents": {"bytes_contents": [b"a"]}},
    ]
])  # fmt: skip
REQUEST = st.fixed_dictionaries(
    {"inputs": st.lists(INPUT, max_size=4) | GOOD},
    optional={
        "id": st.text(max_size=3),
        "parameters": PARAMETERS,
        "outputs": st.lists(st.fixed_dictionaries({"name": NAME, "parameters": PARAMETERS}), max_size=2),
        "raw_input_contents": st.lists(st.binary(max_size=9), max_size=4),
    },
)


@FAST
@given(REQUEST)
def test_random_requests(fields: Any) -> None:
    request = pb.ModelInferRequest(**fields)
    try:
        call = DECODER.decode(request)
    except (BadRequest, Unsupported, TurnedOff):
        return
    assert set(call.inputs) == {"x", "n", "s"}
    assert all(len(array) == call.rows for array in call.inputs.values())
    assert wants_final_flag(request) in (True, False)


@FAST
@given(st.binary(max_size=60))
def test_random_bytes(data: bytes) -> None:
    try:
        DECODER.decode(parse(pb.ModelInferRequest.FromString, data, "ModelInferRequest"))
    except (BadRequest, Unsupported, TurnedOff):
        return


@FAST
@given(st.text(alphabet="a\ude00é€😀", max_size=20), st.integers(1, 400))
def test_texts_are_cut_to_what_a_client_takes(text: str, times: int) -> None:
    cut = text_of(BadRequest(text * times))
    assert len(cut.encode()) <= MOST_DETAIL_BYTES + len(" …".encode())
