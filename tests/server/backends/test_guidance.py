"""Answers held to a schema by the real library: whatever the logits say, a value comes out that keeps it."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llguidance")
pytest.importorskip("tokenizers")

from server.backends.base import BatchError
from server.backends.guidance import LARGEST_MULTIPLE, Guidance, GuidanceCompiler, NoGuidance
from server.backends.hf_text_codec import HfTextCodec
from server.backends.hf_tokenizers import HfTokenizers
from server.errors import BadRequest
from server.generation.options import Sampling
from server.generation.sampler import Chooser, choose
from tests.generating import SPECIALS, byte_level, codec, end_id, generation, sentence_pieces

VOCABULARY = 300
NODE = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["next"]}
PERSON: dict[str, Any] = {
    "type": "object", "additionalProperties": False, "required": ["name", "age", "email", "tags", "more"],
    "properties": {
        "name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"type": "string", "pattern": "^[a-z]{1,8}@[a-z]{1,8}$"},
        "tags": {"type": "array", "maxItems": 3, "items": {"enum": ["the", "STOP", 3, None, {"a": []}]}},
        "more": {"type": ["boolean", "null"]},
    },
}  # fmt: skip


@cache
def text_codec(kind: str) -> HfTextCodec:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "tokenizer.json").write_text({"bytes": byte_level, "pieces": sentence_pieces}[kind](), encoding="utf-8")
        (Path(name) / "chat_template.jinja").write_text("", encoding="utf-8")
        return HfTokenizers().codec(Path(name), generation())


@cache
def compiler(kind: str = "bytes", ends: tuple[int, ...] = ()) -> GuidanceCompiler:
    ends = ends or (end_id() if kind == "bytes" else text_codec(kind).encode("<s>", special=False)[-1],)
    made = Guidance().compiler(text_codec(kind).serialized, generation(ends, VOCABULARY))
    assert isinstance(made, GuidanceCompiler)
    return made


def said(schema: dict[str, Any], seed: int, kind: str = "bytes", temperature: float = 1.0, most: int = 400) -> str:
    """By random logits. "" when it is not whole after so many tokens."""
    made = compiler(kind)
    grammar = made.compile(json.dumps(schema))
    chooser = Chooser(Sampling(temperature, seed=seed, grammar=grammar), np.array([1]), made._ends)
    chance, stream, text = np.random.default_rng(seed), text_codec(kind).stream(), ""
    for _ in range(most):
        token = choose((chance.standard_normal((1, VOCABULARY)) * 3).astype(np.float32), [chooser])[0].token
        chooser.took(token)
        if token in made._ends:
            return text + stream.rest()
        text += stream.add(token)
        if chooser.is_whole:
            return text + stream.rest()
    return ""


def is_person(value: Any) -> bool:
    name, domain = value["email"].split("@")
    return (
        list(value) == PERSON["required"] and len(value["name"]) <= 8 and type(value["age"]) is int and 0 <= value["age"] <= 150
        and name.isalpha() and domain.isalpha() and len(value["tags"]) <= 3 and value["more"] in (True, False, None)
        and all(tag in PERSON["properties"]["tags"]["items"]["enum"] for tag in value["tags"])
    )  # fmt: skip


def is_chain(value: Any) -> bool:
    return value is None or (isinstance(value["next"], dict | None) and is_chain(value["next"]))


KEPT: list[tuple[dict[str, Any], Any]] = [
    (PERSON, is_person),
    ({"$defs": {"node": {**NODE, "additionalProperties": False}}, "$ref": "#/$defs/node"}, is_chain),
    ({"type": "integer"}, lambda value: type(value) is int),
    ({"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 9}, lambda value: value * 4 % 1 == 0 and 0 <= value <= 9),
    ({"type": "string", "format": "date"}, lambda value: [len(part) for part in value.split("-")] == [4, 2, 2]),
    ({"anyOf": [{"const": {"ä": "中"}}, {"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 4}]},
     lambda value: value == {"ä": "中"} or (2 <= len(value) <= 4 and set(value) == {None})),
    ({"allOf": [{"required": ["b"]}, {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}, "additionalProperties": False}]},
     lambda value: value in ({"b": 2}, {"a": 1, "b": 2})),
    ({"type": "object", "allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"properties": {"b": {"const": 2}}, "required": ["b"]}]},
     lambda value: (value["a"], value["b"]) == (1, 2)),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
@pytest.mark.parametrize("number", range(len(KEPT)))
def test_whatever_the_logits_say_the_schema_is_kept(number: int, kind: str) -> None:
    schema, keeps = KEPT[number]
    found = {said(schema, seed, kind) for seed in range(8)} | {said(schema, 1, kind, temperature=0.0)}
    whole = [text for text in found if text]
    assert len(whole) >= min(4, len(found)), "most of them end by themselves"
    assert all(keeps(json.loads(text)) for text in whole), whole


def test_any_object_is_one() -> None:
    texts = [said({"type": "object"}, seed) for seed in range(20)]
    assert sum(map(bool, texts)) > 8
    assert all(type(json.loads(text)) is dict for text in texts if text)


def allowed(schema: dict[str, Any], text: str, made: GuidanceCompiler) -> set[int]:
    """Which tokens may come after this text."""
    guide = made.compile(json.dumps(schema)).guide()
    for token in codec().encode(text, special=False):
        guide.accept(token)
    return set(np.flatnonzero(np.unpackbits(guide.allowed(), bitorder="little")).tolist())


def test_an_end_may_come_where_the_value_is_complete_and_nowhere_else() -> None:
    specials = {codec().encode(text, special=False)[0] for text in SPECIALS}
    assert allowed({"type": "integer"}, "1", compiler()) & specials == {end_id()}
    for text in ("", '"', '"a', '"the'):
        assert not allowed({"type": "string"}, text, compiler()) & {*specials, *range(275, VOCABULARY)}, "nor unknown ids"
    assert allowed({"type": "string"}, '"a"', compiler()) == {end_id()}


def test_an_id_that_ends_answers_is_no_text_even_if_it_has_one() -> None:
    letter = codec().encode("a", special=False)[0]
    made = compiler(ends=(letter, end_id()))
    assert letter not in allowed({"type": "string"}, '"', made)
    assert allowed({"type": "string"}, '"x"', made) == {letter, end_id()}


def test_the_library_reads_tokens_as_the_server_shows_them() -> None:
    for kind in ("bytes", "pieces"):
        library, shown = compiler(kind)._tokenizer, text_codec(kind)
        known = [token for token in range(275) if shown.piece(token) != b"\xff"]  # a byte that no text has
        assert [library.decode_bytes([token]) for token in known] == [shown.piece(token) for token in known]


def test_guides_of_one_grammar_know_nothing_of_each_other() -> None:
    grammar = compiler().compile(json.dumps({"enum": ["the", "STOP"]}))
    one, other = grammar.guide(), grammar.guide()
    before = other.allowed()
    for token in codec().encode('"the', special=False):
        one.accept(token)
    assert np.array_equal(other.allowed(), before)
    assert not one.is_whole
    one.accept(codec().encode('"', special=False)[0])
    assert one.is_whole
    assert not other.is_whole


def test_a_token_that_was_not_allowed_is_told_of_in_the_next_step() -> None:
    guide = compiler().compile('{"type": "object"}').guide()
    guide.accept(codec().encode("x", special=False)[0])
    assert not guide.is_whole
    with pytest.raises(BatchError, match="the schema leads nowhere"):
        guide.allowed()


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"), ({"not": {"type": "string"}}, '"not"'), ({"type": "thing"}, "thing"),
        ({"if": {}, "then": {}}, '"if"'), ({"propertyNames": {"pattern": "a"}}, "propertyNames"), ({"format": "colour", "type": "string"}, "colour"),
        ({"oneOf": [{"type": "string"}, {"maxLength": 3, "type": "string"}]}, "'oneOf' is not supported; say 'anyOf' instead"),
        ({"$ref": "#/$defs/gone"}, "gone"), ({"$ref": "http://example.org/x"}, "example.org"), ({"enum": []}, "empty"),
        ({"type": "string", "pattern": "(?<=a)b"}, "look-around"), ({"type": "string", "pattern": "("}, "unclosed group"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "minimum"), ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "no value"),
        ({"x-guidance": {"lenient": True}, "type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "integer", "multipleOf": LARGEST_MULTIPLE + 1}, "remainders"),
        ({"allOf": [{"type": "number", "multipleOf": 0.97}, {"items": [{"multipleOf": 991}]}]}, "96,127 remainders"),
        ({"type": "number", "multipleOf": 1e300}, "remainders"),
        ({"type": "integer", "multipleOf": 4294967291, "default": {"multipleOf": 0}}, "not above 0"), ({"multipleOf": -2}, "not above 0"),
        ({"allOf": [{"type": "number", "multipleOf": 1e-8}, {"multipleOf": 9973}]}, "too many digits, or decimals"),
        ({"allOf": [{"type": "number", "multipleOf": 8}, {"multipleOf": 8e-8}]}, "too many digits, or decimals"),
        ({"allOf": [{"type": "number", "multipleOf": value} for value in (97, 0.00103, 0.00103)]}, "too many digits, or decimals"),
        ({"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(2000)}}, "items; max is 2000"),
        ({"allOf": [{"anyOf": [{"properties": {f"{a}{b}": {"type": "string"}}} for b in range(8)]} for a in range(8)]}, "too large"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_named(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRequest, match="the schema") as found:
        compiler().compile(json.dumps(schema))
    assert reason in str(found.value)
    assert "\n" not in str(found.value)


def test_a_model_that_cannot_be_held_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def reason(text: str, ends: tuple[int, ...]) -> str:
        made = Guidance().compiler(lambda: text, generation(ends))
        assert isinstance(made, NoGuidance)
        with pytest.raises(BadRequest) as found:
            made.compile("{}")
        return str(found.value)

    assert "no token that ends answers" in reason(byte_level(), ())
    assert "for its tokenizer: error loading" in reason("{}", (1,))
    wordy = json.loads(byte_level())
    wordy["model"]["vocab"] = {word: number for word, number in wordy["model"]["vocab"].items() if word not in "{Ċ"}
    assert "its tokenizer has no tokens for '\\n{" in reason(json.dumps(wordy), (1,))
    monkeypatch.setitem(sys.modules, "llguidance", None)
    assert "pip install 'ferry-serving[json]'" in reason(byte_level(), (1,))


def test_neither_torch_nor_transformers_comes_along() -> None:
    code = (
        "import sys; from server.backends.guidance import Guidance; import llguidance; "
        "sys.exit(','.join({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
