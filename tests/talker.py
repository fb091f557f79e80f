"""A tiny decoder with a real tokenizer and a chat template, published: what it says is nonsense, but always the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from server.backends.onnx_decoder import OnnxDecoderBackend
from server.contract.layout import MANIFEST, STEPS, describe_file, write_json
from server.contract.manifest import Manifest
from server.contract.publish import publish, staging
from server.contract.tensors import DataType, TensorSpec
from server.contract.wants import Wants
from tests.decoders import TinyDecoder, step_profile, write_decoder
from tests.generating import TEMPLATE, byte_level, end_id, generation


def talker() -> TinyDecoder:
    """A decoder whose vocabulary is that of the byte-level tokenizer."""
    return TinyDecoder(vocabulary=300, ends=(end_id(),))


def publish_talker(repository: Path, name: str = "talker") -> int:
    """`talker` with its tokenizer and chat template, and made-up step times; its number."""
    tiny = talker()
    section = replace(generation(tiny.ends, tiny.vocabulary, tiny.longest), kept=tiny.generation.kept)
    with staging(repository) as folder:
        version = folder / "version"
        version.mkdir()
        write_decoder(version, tiny)
        (version / "tokenizer.json").write_text(byte_level(), encoding="utf-8")
        (version / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
        files = tuple(describe_file(version / file) for file in ("model.onnx", "tokenizer.json", "chat_template.jinja"))
        texts = [TensorSpec(one, DataType.BYTES, ("batch", 1)) for one in ("text_input", "text_output")]
        manifest = Manifest(
            name, OnnxDecoderBackend.name, files, (texts[0],), (texts[1],), None, 1, (), None, generation=section
        )
        write_json(version / MANIFEST, manifest.to_json())
        write_json(version / STEPS, step_profile(tiny).to_json())
        return publish(version, repository, name, Wants(30.0, gap_s=30.0))
