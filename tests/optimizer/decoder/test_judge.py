"""Rows alone and in company: a decoder that does not keep them apart is found out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from optimizer.decoder.judge import JudgeTask, company_error
from optimizer.decoder.reference import IDS, LOGITS
from optimizer.errors import StageFailed
from server.backends.base import Array, BatchError
from server.backends.decoding import Decoder, Row
from server.backends.onnx_decoder import OnnxDecoderBackend
from server.contract.generation import Generation
from tests.decoders import TinyDecoder, write_decoder

TINY = TinyDecoder(longest=128)
TEXTS = [np.arange(n) % TINY.vocabulary for n in (100, 1, 64, 30)]


@dataclass
class Twisted:
    """A decoder that does one thing wrong. `how`: which."""

    right: Decoder
    how: str

    @property
    def slots(self) -> int:
        return self.right.slots

    def prefill(self, slots: Sequence[int], prompts: Sequence[Array], start: int) -> Array:
        logits = self.right.prefill(slots, prompts, start)
        return logits + start if self.how == "chunks" else logits

    def decode(self, rows: Sequence[Row]) -> Array:
        if self.how == "fails":
            raise BatchError("out of order")
        logits = self.right.decode(rows)
        if self.how == "nan":
            logits[0, 0] = np.nan
        return logits * np.float32(1 + 1e-6 * len(rows)) if self.how == "company" else logits

    def copy(self, source: int, target: int, n_kept: int) -> None:
        self.right.copy(source, target, n_kept)

    def close(self) -> None:
        self.right.close()


@dataclass(frozen=True)
class TwistedBackend:
    how: str
    name: str = "twisted"
    runtime: str = "twisted 1"
    model_file: str = "model.onnx"

    def load(self, folder: Path, generation: Generation, slots: int, threads: int) -> Decoder:
        return Twisted(OnnxDecoderBackend().load(folder, generation, slots, threads), self.how)


@pytest.mark.parametrize(("how", "differs"), [("", False), ("company", True), ("chunks", True)])
def test_company_is_found_out_to_the_last_bit(how: str, differs: bool, tmp_path: Path) -> None:
    write_decoder(tmp_path, TINY)
    with closing(TwistedBackend(how).load(tmp_path, TINY.generation, 4, 1)) as decoder:
        assert (company_error(decoder, TEXTS) > 0) is differs


@pytest.fixture
def task(tmp_path: Path) -> JudgeTask:
    """Two texts, and what the NumPy calculation of the same decoder says of them."""
    ids = np.random.default_rng(0).integers(0, TINY.vocabulary, (2, 90))
    np.save(tmp_path / IDS, ids)
    np.save(tmp_path / LOGITS, np.stack([TINY.logits(text) for text in ids]))
    return JudgeTask(write_decoder(tmp_path, TINY), tmp_path, TwistedBackend(""), TINY.generation, 1)


def nothing(what: str, done: int, total: int) -> None:
    """Nobody watches."""


def test_the_same_model_agrees(task: JudgeTask, tmp_path: Path) -> None:
    data = task(tmp_path, nothing).data
    assert data["company"] == 0
    assert data["memory_bytes"] > 0
    assert data["likeness"]["top1"] == 1.0
    assert data["likeness"]["kl"] < 1e-6
    assert data["likeness"]["n_tokens"] == 2 * 45


@pytest.mark.parametrize(
    ("how", "message"), [("fails", "fails on a text that the original takes: out of"), ("nan", "not all finite")]
)
def test_what_cannot_be_judged_is_told(how: str, message: str, task: JudgeTask, tmp_path: Path) -> None:
    twisted = JudgeTask(task.folder, task.reference, TwistedBackend(how), task.generation, 1)
    with pytest.raises(StageFailed, match=message):
        twisted(tmp_path, nothing)


def test_a_graph_that_does_not_load_is_told(task: JudgeTask, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(StageFailed, match=r"onnxruntime .+ cannot load the decoder: "):
        JudgeTask(tmp_path, task.reference, OnnxDecoderBackend(), task.generation, 1)(tmp_path, nothing)
