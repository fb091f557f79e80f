"""Manifests: round trip, and a refusal that names file, field and remedy for everything that can be wrong."""

import json
from typing import Any

import pytest

from server.contract.errors import ContractError
from server.contract.manifest import Manifest
from tests.server.contract.examples import MANIFEST_JSON, changed

WHERE = "demo/1/manifest.json"


def without_ragged() -> dict[str, Any]:
    plain = changed(MANIFEST_JSON, "inputs.0.shape", ["batch", 8])
    return {**plain, "ragged": None, "lineage_sha256": None}


def with_fallback() -> dict[str, Any]:
    return {**MANIFEST_JSON, "schema": 3, "backend": "openvino-bf16", "fallback": "onnxruntime"}


def for_a_card() -> dict[str, Any]:
    card = {"name": "A card", "compute_capability": "9.0", "driver": "570.1", "cuda": "12.8"}
    built_for = {"accelerator": card, "runtime": "tensorrt 1"}
    return {**MANIFEST_JSON, "schema": 5, "backend": "tensorrt", "fallback": "onnxruntime", "built_for": built_for}


@pytest.mark.parametrize(
    "data", [MANIFEST_JSON, without_ragged(), with_fallback(), for_a_card()], ids=["ragged", "plain", "fallback", "card"]
)
def test_round_trip(data: dict[str, Any]) -> None:
    manifest = Manifest.from_json(data, WHERE)
    assert json.loads(json.dumps(manifest.to_json())) == data
    assert Manifest.from_json(manifest.to_json(), WHERE) == manifest


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 6, "schema 6 is from a newer ferry (this one reads up to 5); upgrade ferry or publish the model again"),
        ("fallback", "onnxruntime", "unknown field 'fallback'"),
        ("schema", 0, "field 'schema' must be at least 1, found 0"),
        ("schema", ..., "field 'schema' is missing"),
        ("colour", "red", "unknown field 'colour'; the known fields are backend,"),
        ("name", ..., "field 'name' is missing"),
        ("max_rows", 0, "field 'max_rows' must be at least 1, found 0"),
        ("files", [], "files must be a non-empty list of distinct names, found []; publish the version again"),
        ("files.0.path", "../model.onnx", "files[0]: field 'path' must be a bare file name inside the version folder"),
        ("files.0.path", "a\\b", "must be a bare file name inside the version folder, found 'a\\\\b'"),
        ("files.0.path", "..", "must be a bare file name inside the version folder, found '..'"),
        ("files.0.sha256", "ab", "files[0]: field 'sha256' must be 64 hexadecimal digits"),
        ("files.0.sha256", "XY" * 32, "files[0]: field 'sha256' must be 64 hexadecimal digits"),
        ("files.0.bytes", -1, "files[0]: field 'bytes' must be at least 0, found -1"),
        ("files.0.mode", 1, "files[0]: unknown field 'mode'"),
        ("inputs", [], "inputs must be a non-empty list of distinct names, found []"),
        ("inputs.1.name", "ids", "inputs must be a non-empty list of distinct names, found ['ids', 'ids']"),
        ("outputs", [], "outputs must be a non-empty list of distinct names"),
        ("inputs.1.shape", ["batch", "width"], "the inputs leave axis 'width' free; one ragged axis besides the batch is"),
        ("ragged", None, "the inputs leave axis 'length' free"),
        ("ragged.axis", "width", "the inputs leave axis 'length' free"),
        ("inputs.0.shape", ["batch", 3], "ragged: no input has the axis 'length'; publish the version again"),
        ("ragged.pads", {"idz": 0}, "ragged: pads names 'idz', which is no input; publish the version again"),
        ("ragged.pads", {"ids": "0"}, "ragged: field 'pads' must map input names to numbers, found '0' for 'ids'"),
        ("ragged.pads", {"ids": True}, "ragged: field 'pads' must map input names to numbers, found True for 'ids'"),
        ("ragged.shortest", 33, "ragged: field 'shortest' must not be above longest, found 33 > 32"),
        ("ragged.mixes", 1, "ragged: field 'mixes' must be true or false, found an integer"),
        ("ragged.step", 1, "ragged: unknown field 'step'"),
        ("checks.0.passed", "yes", "checks[0]: field 'passed' must be true or false, found a string"),
        ("checks.0.why", "", "checks[0]: unknown field 'why'"),
        ("lineage_sha256", 7, "field 'lineage_sha256' must be a string in quotes, found an integer"),
    ],
)
def test_refuses_what_cannot_be_served(path: str, value: object, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        Manifest.from_json(changed(MANIFEST_JSON, path, value), WHERE)
    assert str(caught.value).startswith(WHERE)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("built_for.accelerator", ..., "built_for: field 'accelerator' is missing"),
        ("built_for.accelerator.cuda", "", "built_for: accelerator: field 'cuda' must not be empty"),
        ("built_for.tactics", 1, "built_for: unknown field 'tactics'"),
        ("schema", 4, "unknown field 'built_for'"),
    ],
)
def test_refuses_a_card_that_is_not_described(path: str, value: object, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        Manifest.from_json(changed(for_a_card(), path, value), WHERE)
    assert message in str(caught.value)


@pytest.mark.parametrize("data", [None, [], "text", 3, True])
def test_refuses_json_that_is_no_object(data: object) -> None:
    with pytest.raises(ContractError, match=f"{WHERE}: expected an object, found"):
        Manifest.from_json(data, WHERE)


@pytest.mark.parametrize(
    ("fallback", "message"),
    [
        ("openvino-bf16", "fallback: 'openvino-bf16' is the backend itself; publish the version again"),
        (7, "field 'fallback' must be a string in quotes, found an integer"),
        ("", "field 'fallback' must not be empty"),
    ],
)
def test_a_fallback_is_another_backend(fallback: object, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        Manifest.from_json({**with_fallback(), "fallback": fallback}, WHERE)
    assert str(caught.value) == f"{WHERE}: {message}"
