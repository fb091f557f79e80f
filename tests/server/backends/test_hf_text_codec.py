"""Texts, pieces and prompts by the tokenizers library and jinja2: what streams adds up, and templates do no harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("tokenizers")

import tokenizers
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from server.backends.base import LoadError
from server.backends.hf_text_codec import MOST_HELD, ChatTemplate, HfTextCodec
from server.backends.hf_tokenizers import HfTokenizers
from server.errors import BadRequest
from tests.generating import BEGIN, END, SPECIALS, TEMPLATE, byte_level, codec, generation, sentence_pieces

TEXTS = ["", "the end", "中文 and 😀, the STOP", "naïve\n\tcafé  ", "�", "a" * 100]


def of(file: str) -> HfTextCodec:
    return HfTextCodec(tokenizers.Tokenizer.from_str(file), None)


def streamed(made: HfTextCodec, ids: list[int]) -> str:
    stream = made.stream()
    return "".join([*map(stream.add, ids), stream.rest()])


@pytest.mark.parametrize("file", [byte_level, sentence_pieces])
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back_whole_and_in_pieces(file: Callable[[], str], text: str) -> None:
    made = of(file())
    ids = made.encode(text, special=False)
    assert made.decode(ids) == text
    assert streamed(made, ids) == text


@pytest.mark.parametrize("file", [byte_level, sentence_pieces])
@pytest.mark.parametrize(
    ("prompt", "answer"), [("the", " end"), ("the end", ""), ("a", " 中"), ("a ", " b"), ("中", "文"), ("", "the")]
)
def test_an_answer_goes_on_with_the_text_of_its_prompt(file: Callable[[], str], prompt: str, answer: str) -> None:
    """With the space that it begins with, if it does."""
    made = of(file())
    before, whole = made.encode(prompt, special=False), made.encode(prompt + answer, special=False)
    if whole[: len(before)] != before:
        pytest.skip("this tokenizer joins them")
    stream = made.stream(before)
    assert "".join([*map(stream.add, whole[len(before) :]), stream.rest()]) == answer


@given(prompt=st.lists(st.integers(0, 280), max_size=12), ids=st.lists(st.integers(0, 280), max_size=20))
@settings(max_examples=300, deadline=None)
def test_pieces_add_up_whatever_the_prompt_is(prompt: list[int], ids: list[int]) -> None:
    before = codec().decode(prompt)
    assume(not before.endswith("�"))
    stream = codec().stream(prompt)
    assert before + "".join([*map(stream.add, ids), stream.rest()]) == codec().decode(prompt + ids)


@given(ids=st.lists(st.integers(0, 280), max_size=40))
@settings(max_examples=300, deadline=None)
def test_pieces_add_up_to_the_text_of_all_tokens_whatever_these_are(ids: list[int]) -> None:
    assert streamed(codec(), ids) == codec().decode(ids)


@given(text=st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_no_piece_has_half_a_character(text: str) -> None:
    assume("|>" not in text)  # the name of a special token is that token, which has no text in answers
    stream = codec().stream()
    pieces = [stream.add(token) for token in codec().encode(text, special=False)]
    if "�" not in text:
        assert "�" not in "".join(pieces)
    assert "".join([*pieces, stream.rest()]) == text


@given(ids=st.lists(st.integers(1, 290), max_size=40))
@settings(max_examples=200, deadline=None)
def test_bytes_that_stop_being_a_character_are_survived(ids: list[int]) -> None:
    """A run of byte tokens shows as one or the other depending on what follows; what was shown cannot be taken back."""
    made = of(sentence_pieces())
    assert len(streamed(made, ids)) >= len(made.decode(ids)) / 4


def test_garbage_is_shown_after_a_while() -> None:
    stream, lone = codec().stream(), codec().encode("é", special=False)[-1:]
    shown = [stream.add(lone[0]) for _ in range(3 * MOST_HELD)]
    assert "".join(shown).count("�") >= 2 * MOST_HELD


def test_special_tokens_are_known_at_both_ends_and_never_shown() -> None:
    ids = codec().encode(f"the{END}", special=True)
    assert ids[0] == codec().encode(BEGIN, special=False)[0]
    assert codec().decode(ids) == streamed(codec(), ids) == "the"


def test_a_token_has_its_own_bytes() -> None:
    ids = codec().encode(f" the 中😀{END}", special=False)
    assert b"".join(map(codec().piece, ids)) == f" the 中😀{END}".encode()
    assert codec().piece(100_000) == b""
    pieces = of(sentence_pieces())
    assert b"".join(map(pieces.piece, pieces.encode("a b é", special=False))) == " a b é".encode()


def test_a_chat_becomes_a_prompt() -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "{{ 1 + 1 }} 中"}]
    assert codec().chats
    assert codec().chat(messages) == f"<|system|>Be kind.{END}<|user|>{{{{ 1 + 1 }}}} 中{END}<|assistant|>"


def test_what_the_template_refuses_is_a_bad_request() -> None:
    with pytest.raises(BadRequest, match="no role tool"):
        codec().chat([{"role": "tool", "content": "x"}])
    with pytest.raises(BadRequest, match="no chat template"):
        of(byte_level()).chat([{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}{% endfor %}", "ä<"),
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "ä<"}'),
        ("{% if tools is none and add_generation_prompt %}\n  yes\n{% endif %}\n", "  yes\n"),
        ("{{ strftime_now('%Y') }}", "1970"),
        ("{% generation %}said{% endgeneration %}", "said"),
        ("{{ bos_token }}", "<s>"),
    ],
)
def test_templates_have_what_chat_models_use(source: str, wanted: str) -> None:
    template = ChatTemplate(source, {"bos_token": "<s>"}, lambda: 86_400_000)
    assert template.render([{"role": "user", "content": "ä<"}, {"role": "user", "content": "b"}]) == wanted


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}", "{% set _ = messages.append(1) %}", "{{ messages[9].content }}",
        "{{ 1 / 0 }}", "{{ strftime_now('%Y') }}",
    ],
)  # fmt: skip
def test_a_template_that_goes_wrong_harms_nobody(source: str) -> None:
    with pytest.raises(BadRequest, match="chat template does not take"):
        ChatTemplate(source, {}, None).render([{"role": "user", "content": "b"}])


def folder_with(folder: Path, tokenizer: str, template: bytes) -> Path:
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    (folder / "chat_template.jinja").write_bytes(template)
    return folder


def test_a_folder_gives_its_codec(tmp_path: Path) -> None:
    made = HfTokenizers().codec(folder_with(tmp_path, byte_level(), TEMPLATE.encode()), generation())
    assert made.chat([{"role": "user", "content": "x"}]) == f"<|user|>x{END}<|assistant|>"


@pytest.mark.parametrize(
    ("tokenizer", "template", "vocabulary", "says"),
    [
        ("{", b"", 300, "tokenizer.json is not a tokenizer"),
        (byte_level(), b"{% for %}", 300, "chat template cannot be read: line 1"),
        (byte_level(), b"\xff", 300, "chat_template.jinja cannot be read"),
        (byte_level(), b"", 256 + len(SPECIALS), "makes ids up to"),
    ],
)
def test_a_folder_that_cannot_be_used_is_not_loaded(
    tmp_path: Path, tokenizer: str, template: bytes, vocabulary: int, says: str
) -> None:
    with pytest.raises(LoadError, match=says):
        HfTokenizers().codec(folder_with(tmp_path, tokenizer, template), generation(vocabulary=vocabulary))
