"""The text sections of manifest and profile: round trip, schema, and a refusal for everything that could not be served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.contract.errors import ContractError
from server.contract.fields import Fields
from server.contract.layout import MANIFEST, PROFILE, read_folder, write_json
from server.contract.manifest import Manifest
from server.contract.profiles import Profiles
from server.contract.text import TextCost, TextInput
from tests.server.contract.examples import MANIFEST_JSON, PROFILE_JSON, changed, write_version

WHERE = "demo/1/manifest.json"
IDS = {"name": "ids", "datatype": "INT64", "shape": ["batch", "length"]}
MASK = {"name": "mask", "datatype": "FP32", "shape": ["batch", "length"]}
SECTION = {
    "input": "text", "tokenizer": "tokenizer.json", "ids": "ids", "mask": "mask", "types": None, "max_bytes": 1024,
    "embedding": "y",
}  # fmt: skip
TEXT_JSON: dict[str, Any] = {
    **MANIFEST_JSON,
    "schema": 2,
    "files": [*MANIFEST_JSON["files"], {"path": "tokenizer.json", "sha256": "ef" * 32, "bytes": 9}],
    "inputs": [IDS, MASK],
    "text": SECTION,
}
COST = {"text_s": 2e-5, "byte_s": 2e-7, "token_s": 1e-6, "samples": 5}


@pytest.mark.parametrize("embedding", ["y", None])
def test_a_manifest_with_text_comes_back_and_has_the_newer_schema(embedding: str | None) -> None:
    data = changed(TEXT_JSON, "text.embedding", embedding)
    manifest = Manifest.from_json(data, WHERE)
    assert manifest.text == TextInput("text", "tokenizer.json", "ids", "mask", None, 1024, embedding)
    assert manifest.text.filled == ("ids", "mask")
    assert manifest.to_json() == data


def test_without_text_a_manifest_keeps_the_schema_that_older_servers_read() -> None:
    assert Manifest.from_json(MANIFEST_JSON, WHERE).to_json()["schema"] == 1
    assert Profiles.from_json(PROFILE_JSON, WHERE).to_json()["schema"] == 1
    assert Manifest.from_json({**MANIFEST_JSON, "schema": 2}, WHERE).text is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 1, "unknown field 'text'; the known fields are"),
        ("text.tokenizer", "other.json", "text: the tokenizer 'other.json' is not among the files; publish the version again"),
        ("text.input", "ids", "text: 'ids' is the name of a tensor input already"),
        ("text.mask", None, "text: tokens fill ids, the model's inputs are ids, mask: name all, each once"),
        ("text.types", "ids", "text: tokens fill ids, mask, ids, the model's inputs are ids, mask: name all, each once"),
        ("text.max_bytes", 0, "text: field 'max_bytes' must be at least 1"),
        ("text.language", "en", "text: unknown field 'language'"),
        ("text.embedding", "z", "text: the embedding 'z' is no output; there are y"),
        ("outputs.0.datatype", "FP64", "text: an embedding is FP32 [batch, size], output 'y' is FP64 [-1, 3]"),
        ("outputs.0.shape", ["batch", "width"], "text: an embedding is FP32 [batch, size], output 'y' is FP32 [-1, -1]"),
        ("outputs.0.shape", ["batch", 2, 3], "text: an embedding is FP32 [batch, size], output 'y' is FP32 [-1, 2, 3]"),
        ("inputs.0.datatype", "FP32", "text: tokens cannot fill input 'ids', which is FP32"),
        ("inputs.1.datatype", "BYTES", "text: tokens cannot fill input 'mask', which is BYTES"),
        ("inputs.1.shape", ["batch", 4], "text: input 'mask' has shape [-1, 4], tokens fill [batch, length]"),
        ("inputs.1.shape", ["batch", 2, "length"], "text: input 'mask' has shape [-1, 2, -1], tokens fill [batch, length]"),
    ],
)
def test_refuses_text_that_could_not_be_served(path: str, value: object, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        Manifest.from_json(changed(TEXT_JSON, path, value), WHERE)
    assert message in str(caught.value)


def test_refuses_text_for_a_model_without_a_free_axis() -> None:
    inputs = [{**IDS, "shape": ["batch", 8]}, {**MASK, "shape": ["batch", 8]}]
    with pytest.raises(ContractError, match="text: the model has no free axis for the tokens; export it with a free"):
        Manifest.from_json({**TEXT_JSON, "inputs": inputs, "ragged": None}, WHERE)


def test_a_profile_has_the_tokenizers_cost_as_a_stage_of_its_own() -> None:
    data = {**PROFILE_JSON, "schema": 2, "text": COST}
    profile = Profiles.from_json(data, WHERE)
    assert profile.text == TextCost(2e-5, 2e-7, 1e-6, 5)
    assert profile.text.predict(100) == pytest.approx(4e-5)
    assert profile.to_json() == data


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("text_s", 0, "field 'text_s' must be positive, found 0"),
        ("byte_s", -1.0, "field 'byte_s' must be a finite number of at least 0"),
        ("samples", 0, "field 'samples' must be at least 1"),
        ("p99_s", 1.0, "unknown field 'p99_s'"),
    ],
)
def test_refuses_an_impossible_cost(field: str, value: object, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        TextCost.from_json(Fields({**COST, field: value}, WHERE))
    assert message in str(caught.value)


def test_an_older_profile_with_text_is_refused() -> None:
    with pytest.raises(ContractError, match="unknown field 'text'"):
        Profiles.from_json({**PROFILE_JSON, "text": COST}, WHERE)


def test_manifest_and_profile_must_agree(tmp_path: Path) -> None:
    folder = write_version(tmp_path / "1")
    write_json(folder / PROFILE, {**PROFILE_JSON, "schema": 2, "text": COST})
    with pytest.raises(ContractError, match=r"here: manifest and profile\.json do not agree on whether it takes text"):
        read_folder(folder, "here", 1)
    write_json(folder / PROFILE, PROFILE_JSON)
    assert read_folder(folder, "here", 1).manifest.text is None
    assert (folder / MANIFEST).exists()
