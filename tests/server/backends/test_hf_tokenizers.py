"""The adapter of the tokenizers library: special tokens, cutting, one outcome per text, and files that are none."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers")
pytest.importorskip("onnx")

from server.backends.base import LoadError, TextError, Tokens
from server.backends.hf_tokenizers import HfTokenizers, _HfTokenizer
from tests.models import N_WORDS, word_ids, word_tokenizer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    path.write_text(word_tokenizer(), encoding="utf-8")
    return path


def test_tokens_have_special_tokens_mask_and_segments(file: Path) -> None:
    tokenizer = HfTokenizers().load(file, 8)
    assert tokenizer.largest_id == N_WORDS + 2
    found = tokenizer.encode(["w1 w5", "", "stranger"])
    assert found == [
        Tokens(word_ids("w1 w5"), [1] * 4, [0] * 4, 0), Tokens([1, 2], [1, 1], [0, 0], 0), Tokens([1, 0, 2], [1] * 3, [0] * 3, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("n_words", [6, 7, 8, 25])
def test_a_long_text_is_cut_between_its_special_tokens_and_what_is_lost_is_counted(file: Path, n_words: int) -> None:
    (found,) = HfTokenizers().load(file, 8).encode([" ".join(f"w{n}" for n in range(n_words))])
    assert isinstance(found, Tokens)
    assert len(found.ids) + found.n_dropped == n_words + 2
    assert list(found.ids) == [1, *range(3, 9), 2]


def test_the_files_own_padding_and_truncation_do_not_count(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(word_tokenizer())
    made.enable_padding(length=30)
    made.enable_truncation(3, direction="left")
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = HfTokenizers().load(tmp_path / "tokenizer.json", 5)
    found = tokenizer.encode(["w1", "w1 w2 w3 w4"])
    assert found == [Tokens([1, 4, 2], [1] * 3, [0] * 3, 0), Tokens([1, 5, 6, 7, 2], [1] * 5, [0] * 5, 1)]


class Fragile:
    """The library, as far as the adapter uses it; panics on one text, which is no Exception there."""

    class Panic(BaseException):
        pass

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def get_vocab(self, with_added_tokens: bool) -> dict[str, int]:
        return {}

    def encode_batch_fast(self, texts: list[str]) -> Sequence[Any]:
        self.calls.append(texts)
        if "bad" in texts:
            raise self.Panic("index out of bounds")
        if "stop" in texts:
            raise KeyboardInterrupt
        return [type("Encoding", (), {"ids": [1], "attention_mask": [1], "type_ids": [0], "overflowing": []}) for _ in texts]


def test_a_panic_is_the_fault_of_one_text_only() -> None:
    fragile = Fragile()
    found = _HfTokenizer(fragile, 0).encode(["a", "bad", "b"])  # type: ignore[arg-type]
    assert [isinstance(one, Tokens) for one in found] == [True, False, True]
    assert isinstance(found[1], TextError)
    assert str(found[1]) == "index out of bounds"
    assert fragile.calls == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]
    with pytest.raises(KeyboardInterrupt):
        _HfTokenizer(fragile, 0).encode(["stop"])  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"model": 1}', b"\xff\xfe"])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(LoadError, match=r"tokenizer\.json is not a tokenizer of the tokenizers library"):
        HfTokenizers().load(tmp_path / "tokenizer.json", 8)


def test_without_the_library_the_refusal_names_the_extra(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(LoadError, match=r"pip install 'ferry-serving\[text\]'"):
        HfTokenizers().load(file, 8)
