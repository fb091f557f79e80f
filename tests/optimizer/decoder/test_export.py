"""From a checkpoint to a graph that generates the same tokens as transformers."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest

from optimizer.decoder import export
from optimizer.decoder.checkpoint import read_checkpoint
from optimizer.decoder.export import ExportTask
from optimizer.errors import StageFailed
from server.backends.base import Array
from server.backends.decoding import Decoder, Row
from server.backends.onnx_decoder import OnnxDecoderBackend
from tests.optimizer.decoder.tiny import generated, prompts

N_NEW = 24
LENGTHS = (5, 17, 33, 64, 1, 9, 100, 150)


def prefill(decoder: Decoder, slot: int, prompt: Array, chunk: int) -> Array:
    logits = np.zeros((1, 0))
    for start in range(0, len(prompt), chunk):
        logits = decoder.prefill([slot], [prompt[start : start + chunk]], start)
    return logits


def test_greedy_tokens_are_those_of_transformers(tiny_checkpoint: Path, exported: Path) -> None:
    """Prompts of many lengths, read whole and in chunks, each of which joins when the one before it has two tokens."""
    texts = prompts(LENGTHS)
    wanted = [generated(tiny_checkpoint, prompt, N_NEW) for prompt in texts]
    generation = read_checkpoint(tiny_checkpoint).generation
    for chunk in (4096, 64):
        with closing(OnnxDecoderBackend().load(exported, generation, len(texts), 2)) as decoder:
            found: list[list[int]] = [[] for _ in texts]
            for step in range(2 * len(texts) + N_NEW):
                if step % 2 == 0 and step < 2 * len(texts):
                    found[step // 2].append(int(prefill(decoder, step // 2, texts[step // 2], chunk)[0].argmax()))
                rows = [
                    Row(slot, got[-1], len(texts[slot]) + len(got) - 1)
                    for slot, got in enumerate(found)
                    if 0 < len(got) < N_NEW
                ]
                for row, logits in zip(rows, decoder.decode(rows) if rows else [], strict=True):
                    found[row.slot].append(int(logits.argmax()))
            assert found == wanted


def test_the_graph_asks_for_what_the_server_has(exported: Path) -> None:
    graph = onnx.load(exported / "model.onnx", load_external_data=False).graph
    shapes = {
        one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in (*graph.input, *graph.output)
    }
    kept = ["batch", 2, "longest", 16]
    cache = {
        f"{place}.{layer}.{half}": kept
        for place in ("past_key_values", "present")
        for layer in (0, 1)
        for half in ("key", "value")
    }
    assert shapes == {
        "input_ids": ["batch", "tokens"], "seqlens_k": ["batch"], "total_sequence_length": [], "logits_indices": ["rows"],
        "logits": ["rows", 320], **cache,
    }  # fmt: skip


def test_what_the_exporter_says_is_told(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_BUILDER", "nobodys.builder")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(
        StageFailed, match=r"onnxruntime-genai cannot export the checkpoint: .+No module named 'nobodys'"
    ) as caught:
        ExportTask(tiny_checkpoint, read_checkpoint(tiny_checkpoint).generation.kept)(out, lambda what, done, total: None)
    assert "nobodys" in caught.value.log
    assert list(out.iterdir()) == []
