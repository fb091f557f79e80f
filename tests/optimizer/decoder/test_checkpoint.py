"""Checkpoint folders: what is read of them, and what is said of those that cannot be served."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from optimizer.decoder.checkpoint import MOST_TOKENS, read_checkpoint
from optimizer.errors import SourceError
from server.contract.errors import ContractError
from server.contract.generation import KeptShape
from server.contract.tensors import DataType

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "vocab_size": 8, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 3, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def weights(n_bytes: int = 8) -> bytes:
    header = json.dumps({"__metadata__": {}, "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * n_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "config.json", CONFIG)
    write(tmp_path, "tokenizer.json", {"model": {"vocab": {"a": 0, "b": 7}}, "added_tokens": [{"id": 2, "content": "</s>"}]})
    (tmp_path / "model.safetensors").write_bytes(weights())
    return tmp_path


def write(folder: Path, name: str, data: object) -> None:
    (folder / name).write_text(json.dumps(data), encoding="utf-8")


def reconfigure(folder: Path, changes: Mapping[str, Any]) -> None:
    write(folder, "config.json", {key: value for key, value in {**CONFIG, **changes}.items() if value is not ...})


def test_reads_what_the_server_must_know(folder: Path) -> None:
    found = read_checkpoint(folder)
    generation = found.generation
    assert generation.kept == KeptShape(3, 2, 8, DataType.FP32)
    assert (generation.vocabulary, generation.longest, generation.ends, found.begins) == (8, 64, (2,), 1)
    assert (generation.template, generation.specials, found.template) == (None, {}, None)
    assert [path.name for path in found.files] == ["config.json", "model.safetensors", "tokenizer.json"]


def test_heads_and_their_size_may_be_left_to_others(folder: Path) -> None:
    reconfigure(folder, {"num_key_value_heads": ..., "head_dim": 16, "max_position_embeddings": 1 << 17})
    generation = read_checkpoint(folder).generation
    assert (generation.kept.heads, generation.kept.head_size, generation.longest) == (4, 16, MOST_TOKENS)
    assert read_checkpoint(folder, 100_000).generation.longest == 100_000


def test_ends_come_from_the_generation_config_first(folder: Path) -> None:
    write(folder, "generation_config.json", {"eos_token_id": [2, 5]})
    assert read_checkpoint(folder).generation.ends == (2, 5)
    write(folder, "generation_config.json", {})
    assert read_checkpoint(folder).generation.ends == (2,)
    reconfigure(folder, {"eos_token_id": None, "bos_token_id": None})
    assert read_checkpoint(folder).generation.ends == ()
    assert read_checkpoint(folder).begins is None


@pytest.mark.parametrize("settings", ["plain", [{"name": "tools", "template": "x"}, {"name": "default", "template": "plain"}]])
def test_the_chat_template_is_in_one_of_three_places(settings: object, folder: Path) -> None:
    special = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "pad_token": None}
    write(folder, "tokenizer_config.json", {"chat_template": settings, **special})
    found = read_checkpoint(folder)
    assert (found.template, found.generation.template) == ("plain", "chat_template.jinja")
    assert found.generation.specials == {"bos_token": "<s>", "eos_token": "</s>"}
    (folder / "chat_template.jinja").write_text("a file", encoding="utf-8")
    assert read_checkpoint(folder).template == "a file"


def test_the_digest_follows_every_file(folder: Path) -> None:
    digests = {read_checkpoint(folder).digest}
    write(folder, "README.md", "no part of it")
    assert {read_checkpoint(folder).digest} == digests
    (folder / "model.safetensors").write_bytes(weights()[:-1] + b"1")
    digests.add(read_checkpoint(folder).digest)
    write(folder, "generation_config.json", {"eos_token_id": 2})
    digests.add(read_checkpoint(folder).digest)
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["BertModel"]}, "field 'architectures' must be one of LlamaForCausalLM, MistralForCausalLM, "),
        ({"architectures": ...}, "config.json: field 'architectures' is missing"),
        ({"quantization_config": {"bits": 4}}, "says that the weights are quantized already; give the original ones"),
        ({"vocab_size": "8"}, "config.json: field 'vocab_size' must be an integer, found a string"),
        ({"num_hidden_layers": ...}, "config.json: field 'num_hidden_layers' is missing"),
        ({"max_position_embeddings": 4}, "field 'max_position_embeddings' must be at least 32"),
        ({"sliding_window": 40}, "is 40: such attention is served up to the window only; say --lengths 1:40 or less"),
        ({"eos_token_id": 8}, "field 'eos_token_id' must be ids from 0 to 7, found [8]"),
        ({"eos_token_id": [2, True]}, "field 'eos_token_id' must be ids from 0 to 7"),
        ({"eos_token_id": "</s>"}, "field 'eos_token_id' must be a list, found a string"),
        ({"bos_token_id": 9}, "field 'bos_token_id' must be below vocab_size 8, found 9"),
        ({"vocab_size": 7}, "tokenizer.json: has ids up to 7, but config.json says vocab_size 7; they are not of the same"),
    ],
)
def test_names_file_and_field_of_what_is_wrong(changes: Mapping[str, Any], message: str, folder: Path) -> None:
    reconfigure(folder, changes)
    with pytest.raises((SourceError, ContractError)) as caught:
        read_checkpoint(folder)
    assert str(folder) in str(caught.value)
    assert message in str(caught.value)


def test_attention_that_forgets_is_served_within_its_window(folder: Path) -> None:
    reconfigure(folder, {"sliding_window": 40})
    assert read_checkpoint(folder, 40).generation.longest == 40
    reconfigure(folder, {"sliding_window": 40, "use_sliding_window": False})
    assert read_checkpoint(folder).generation.longest == 64
    with pytest.raises(ContractError, match="allows requests of 32 to 64 tokens, asked for are 65"):
        read_checkpoint(folder, 65)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_names_a_missing_file(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(SourceError, match=f"{name}: missing; "):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (weights(7), "damaged: "),
        (b"\xff" * 20, "not a safetensors file, or cut off"),
        (struct.pack("<Q", 4) + b"abcd", "its header cannot be read"),
        (struct.pack("<Q", 8) + b'{"w": 1}', "its header cannot be read"),
    ],
)
def test_weights_that_are_not_whole_are_refused(content: bytes, message: str, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(SourceError, match=f"model.safetensors: .*{message}"):
        read_checkpoint(folder)


def test_weights_in_several_files(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    write(folder, "model.safetensors.index.json", {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    with pytest.raises(SourceError, match=r"model-2.safetensors: missing"):
        read_checkpoint(folder)
    (folder / "model-2.safetensors").write_bytes(weights())
    assert "model-2.safetensors" in {path.name for path in read_checkpoint(folder).files}


def test_damaged_json_is_named(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(SourceError, match=r"tokenizer.json: not valid JSON"):
        read_checkpoint(folder)
    write(folder, "tokenizer_config.json", {"chat_template": [{"name": "tools", "template": "x"}]})
    write(folder, "tokenizer.json", {"model": {"vocab": [["a", 0.0]]}})
    with pytest.raises(ContractError, match=r"'chat_template' must have one named 'default', found \['tools'\]"):
        read_checkpoint(folder)
