"""Texts to arrays, lengths, truncation; the vocabulary gate; the measured cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.backends.base import Array, BatchError, TextError, Tokens
from server.contract.manifest import Ragged
from server.contract.tensors import DataType, TensorSpec
from server.contract.text import TextInput
from server.intake import texts as module
from server.intake.errors import IntakeError
from server.intake.texts import BYTES_PER_TOKEN, Read, TextReader, TextWish, check_vocabulary, describe_text, measure_text
from tests.server.intake.fakes import FakeSession

RAGGED = Ragged("length", 2, 5, {}, True)
SPECS = tuple(
    TensorSpec(name, datatype, ("batch", "length"))
    for name, datatype in (("ids", DataType.INT64), ("mask", DataType.FP32), ("types", DataType.INT32))
)
TEXT = TextInput("text", "tokenizer.json", "ids", "mask", "types", 64)


class Letters:
    """One token for each letter, "?" is beyond it; cuts at 5."""

    largest_id = 30

    def encode(self, texts: Sequence[str]) -> list[Tokens | TextError]:
        return [TextError("a question") if "?" in text else self._tokens([ord(c) - 96 for c in text]) for text in texts]

    def _tokens(self, ids: list[int]) -> Tokens:
        kept = ids[:5]
        return Tokens(kept, [1] * len(kept), [0] * len(kept), len(ids) - len(kept))


def reader() -> TextReader:
    return TextReader(Letters(), TEXT, SPECS, RAGGED)


def test_tokens_fill_the_inputs_with_their_own_types() -> None:
    (read,) = reader().read(["abc"], [False])
    assert isinstance(read, Read)
    assert read.n_tokens == 3
    assert {name: (array.dtype, array.tolist()) for name, array in read.inputs.items()} == {
        "ids": (np.int64, [[1, 2, 3]]), "mask": (np.float32, [[1.0, 1.0, 1.0]]), "types": (np.int32, [[0, 0, 0]]),
    }  # fmt: skip


def test_each_text_has_its_own_outcome() -> None:
    found = reader().read(["ab", "what?", "abcdefg", "abcdefg", "", "cd"], [False, False, False, True, False, True])
    assert [read.n_tokens if isinstance(read, Read) else str(read) for read in found] == [
        2,
        "a question",
        "the text has 7 tokens, 2 to 5 are possible; shorten it, or set 'truncate' to true to have it cut",
        5,
        "the text has 0 tokens, 2 to 5 are possible; send a longer one",
        2,
    ]


@pytest.mark.parametrize(
    ("ids", "says"), [([1, 31], "0 to 30"), ([-1, 2], "0 to 30"), ([1], "1 tokens"), ([1] * 6, "6 tokens")]
)
def test_ids_of_another_vocabulary_or_length_are_refused(ids: list[int], says: str) -> None:
    found = reader().fill(ids)
    assert isinstance(found, TextError)
    assert says in str(found)


def test_ids_fill_all_inputs() -> None:
    found = reader().fill([7, 30])
    assert isinstance(found, Read)
    assert [array.tolist() for array in found.inputs.values()] == [[[7, 30]], [[1.0, 1.0]], [[0, 0]]]


@pytest.mark.parametrize(
    ("names", "inputs", "wanted"),
    [
        ({}, ("input_ids", "attention_mask"), ("input_ids", "attention_mask", None)),
        ({}, ("token_type_ids", "input_ids"), ("input_ids", None, "token_type_ids")),
        ({"ids": "x", "mask": "m"}, ("x", "m"), ("x", "m", None)),
    ],
)
def test_the_usual_names_are_known_and_others_can_be_given(names: Any, inputs: Any, wanted: Any) -> None:
    specs = [TensorSpec(name, DataType.INT64, ("batch", "length")) for name in inputs]
    text = describe_text(TextWish(names, "y"), "tokenizer.json", specs, RAGGED)
    assert (text.ids, text.mask, text.types) == wanted
    assert (text.input, text.max_bytes, text.embedding) == ("text", 5 * BYTES_PER_TOKEN, "y")


@pytest.mark.parametrize(("name", "ragged"), [("x", RAGGED), ("input_ids", None)])
def test_a_model_without_an_input_for_tokens_cannot_take_text(name: str, ragged: Ragged | None) -> None:
    with pytest.raises(IntakeError, match="there must be one for token ids with a free axis"):
        describe_text(TextWish({}), "tokenizer.json", [TensorSpec(name, DataType.INT64, ("batch", 4))], ragged)


def session(answer: Any) -> FakeSession:
    return FakeSession(answer, SPECS, [TensorSpec("y", DataType.FP32, ("batch", 1))])


def test_the_largest_id_must_be_one_of_the_models() -> None:
    seen: list[Array] = []

    def answer(inputs: Mapping[str, Array]) -> list[Array]:
        seen.append(inputs["ids"])
        return [np.zeros((1, 1), np.float32)]

    assert check_vocabulary(session(answer), reader(), RAGGED).passed
    assert [ids.tolist() for ids in seen] == [[[30, 30]]]


def test_another_models_tokenizer_is_found_out() -> None:
    def refuse(_: Mapping[str, Array]) -> list[Array]:
        raise BatchError("index out of range")

    with pytest.raises(IntakeError, match=r"ids up to 30, which the model refuses \(index out of range\): it is another"):
        check_vocabulary(session(refuse), reader(), RAGGED)
    with pytest.raises(IntakeError, match="NaN to token id 30"):
        check_vocabulary(session(lambda _: [np.full((1, 1), np.nan)]), reader(), RAGGED)


class Timed:
    """Takes 10 µs and 1 µs per byte, by a clock of its own; one token for four bytes."""

    largest_id = 1

    def __init__(self, fails: bool = False) -> None:
        self.now_s = 0.0
        self.fails = fails

    def now(self) -> float:
        return self.now_s

    def encode(self, texts: Sequence[str]) -> list[Tokens | TextError]:
        assert len(texts) == 1, "the cost is that of one text at a time"
        self.now_s += 1e-5 + 1e-6 * len(texts[0].encode())
        return [TextError("no") if self.fails else Tokens([1] * (len(texts[0]) // 4), [], [], 0)]


@pytest.mark.parametrize("texts", [(), ("a real text", "and one with ümlauts")])
def test_the_cost_is_a_line_over_bytes(monkeypatch: pytest.MonkeyPatch, texts: Sequence[str]) -> None:
    tokenizer = Timed()
    monkeypatch.setattr(module, "now", tokenizer.now)
    cost = measure_text(tokenizer, 256, texts)
    assert cost.text_s == pytest.approx(1e-5)
    assert cost.byte_s == pytest.approx(1e-6)
    assert 4e-6 < cost.token_s < 7e-6


def test_one_size_alone_gives_the_cost_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Timed()
    monkeypatch.setattr(module, "now", tokenizer.now)
    cost = measure_text(tokenizer, 2, ())
    assert (cost.text_s, cost.byte_s) == (pytest.approx(2.6e-5), 0.0)


def test_a_tokenizer_that_fails_while_it_is_timed_is_refused() -> None:
    with pytest.raises(IntakeError, match="the tokenizer fails on 'Requests that ar': no"):
        measure_text(Timed(fails=True), 256, ())


def test_wishes_use_the_library_unless_told_otherwise(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"tokenizer\.json"):
        TextWish({}).library.load(tmp_path / "tokenizer.json", 8)
