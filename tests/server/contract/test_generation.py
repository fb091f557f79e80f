"""The manifest's section of a version that generates: written, read, and refused where it cannot be meant."""

from pathlib import Path
from typing import Any

import pytest

from server.contract.errors import ContractError
from server.contract.fields import Fields
from server.contract.generation import SCHEMA, Generation, check_generation
from server.contract.layout import MANIFEST, STEPS, read_version, write_json
from server.contract.manifest import Manifest
from server.contract.tensors import DataType
from tests.server.contract.examples import GENERATION_JSON, MANIFEST_JSON, STEPS_JSON, changed, write_version

FILES = [
    *MANIFEST_JSON["files"],
    {"path": "tokenizer.json", "sha256": "ab" * 32, "bytes": 5},
    {"path": "chat_template.jinja", "sha256": "ab" * 32, "bytes": 5},
]
GENERATING = {**MANIFEST_JSON, "schema": SCHEMA, "files": FILES, "generation": GENERATION_JSON}


def read(data: Any) -> Generation:
    return Generation.from_json(Fields(data, "m.json: generation"))


def test_round_trip() -> None:
    generation = read(GENERATION_JSON)
    assert generation.to_json() == GENERATION_JSON
    assert generation.kept.datatype is DataType.FP32
    assert generation.ends == (2, 0)


def test_a_template_is_not_needed() -> None:
    generation = read(changed(GENERATION_JSON, "template", ...))
    assert generation.template is None
    assert read(generation.to_json()) == generation


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("tokenizer", ..., "field 'tokenizer' is missing"),
        ("stops", [], "unknown field 'stops'"),
        ("specials", {"bos_token": 1}, "field 'specials' must map names to texts"),
        ("ends", 2, "field 'ends' must be a list"),
        ("ends", [True], "field 'ends' must be token ids, found [True]"),
        ("ends", [64], "generation: id 64 ends an answer, but ids go from 0 to 63; publish again"),
        ("ends", [-1], "generation: id -1 ends an answer"),
        ("vocabulary", 0, "field 'vocabulary' must be at least 1"),
        ("longest", 1, "field 'longest' must be at least 2"),
        ("kept.layers", 0, "kept: field 'layers' must be at least 1"),
        ("kept.datatype", "INT8", "kept: field 'datatype' must be one of FP32, FP16, BF16, found 'INT8'"),
        ("kept.pages", 1, "kept: unknown field 'pages'"),
    ],
)
def test_refuses_what_cannot_be_meant(path: str, value: Any, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        Manifest.from_json({**GENERATING, "generation": changed(GENERATION_JSON, path, value)}, "m.json")
    assert str(caught.value).startswith("m.json: ")
    assert str(caught.value).count("m.json") == 1
    assert message in str(caught.value)


def test_its_files_must_be_the_versions() -> None:
    check_generation(read(GENERATION_JSON), ["tokenizer.json", "chat_template.jinja"])
    check_generation(read(changed(GENERATION_JSON, "template", ...)), ["tokenizer.json"])
    for name in ("tokenizer.json", "chat_template.jinja"):
        files = [entry for entry in FILES if entry["path"] != name]
        with pytest.raises(ContractError, match=f"m.json: generation: '{name}' is not among the files; publish the version"):
            Manifest.from_json({**GENERATING, "files": files}, "m.json")


def test_the_manifest_keeps_it_under_a_schema_that_older_servers_refuse() -> None:
    manifest = Manifest.from_json(GENERATING, "m.json")
    assert manifest.generation == read(GENERATION_JSON)
    assert manifest.to_json() == GENERATING
    with pytest.raises(ContractError, match="unknown field 'generation'"):
        Manifest.from_json({**GENERATING, "schema": SCHEMA - 1}, "m.json")


def test_its_step_profile_is_read_with_the_version(tmp_path: Path) -> None:
    folder = write_version(tmp_path / "demo" / "1")
    generating = {**GENERATING, "generation": changed(GENERATION_JSON, "template", ...)}
    model = read_version(tmp_path / "demo", 1).manifest.files[0]
    files = [{"path": model.path, "sha256": model.sha256, "bytes": model.bytes}]
    (folder / "tokenizer.json").write_bytes((folder / "model.onnx").read_bytes())
    write_json(folder / MANIFEST, {**generating, "files": [*files, {**files[0], "path": "tokenizer.json"}]})
    assert read_version(tmp_path / "demo", 1).steps is None
    write_json(folder / STEPS, STEPS_JSON)
    steps = read_version(tmp_path / "demo", 1).steps
    assert steps is not None
    assert steps.to_json() == STEPS_JSON
    write_json(folder / STEPS, changed(STEPS_JSON, "prefill", []))
    with pytest.raises(ContractError, match=r"^demo/1/steps.json: prefill cells must be there"):
        read_version(tmp_path / "demo", 1)
