"""`response_format`: what is read of it, what is refused and how, in OpenAI's form and in V2's; compiled by the real library."""

from __future__ import annotations

import asyncio
import json
import sys
from http.client import HTTPConnection
from typing import Any

import pytest

pytest.importorskip("llguidance")

from server.api.generation.fields import BodyFields
from server.api.generation.response_format import ANY_OBJECT, DEEPEST_SCHEMA, LARGEST_SCHEMA, read_response_format
from server.api.openai_errors import BadParameter
from server.core.types import ModelKey
from server.errors import Refused
from server.generation.grammars import Grammar
from server.runtime.clock import monotonic_clock
from server.runtime.compiled_grammars import CompiledGrammars
from tests.child_server import call
from tests.fake_generation import NAME, FakeEngine, FakeModels, FakeServer, fake_model
from tests.server.api.generation.conftest import Post

PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name", "age"]}
CHAT = "/v1/chat/completions"
GENERATE = f"/v2/models/{NAME}/generate"
ROUTES: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"model": NAME, "messages": [{"role": "user", "content": "x"}]}),
    ("/v1/completions", {"model": NAME, "prompt": "x"}),
    (GENERATE, {"text_input": "x"}),
]


def by(schema: object, **more: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **more}}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


def read(value: object) -> str | None:
    return read_response_format(BodyFields({"response_format": value}))


def test_what_is_read() -> None:
    assert [read(value) for value in (None, {"type": "text"}, {"type": "json_object"})] == [None, None, ANY_OBJECT]
    ordered = {"type": "object", "properties": {"z": {"enum": [None, "ä"]}, "a": {}}, "additionalProperties": False}
    for more in ({}, {"strict": True}, {"strict": False, "description": "a person"}):
        assert read(by(ordered, **more)) == json.dumps(ordered, ensure_ascii=False, separators=(",", ":")), "in the order given"
    assert read(by({"properties": {"a": {}}})) == '{"properties":{"a":{}},"additionalProperties":false}', (
        "those that are named, and no others"
    )
    assert read(by(nested(DEEPEST_SCHEMA)))
    assert read(by({"enum": ["x" * (LARGEST_SCHEMA - 20)]}))


@pytest.mark.parametrize(
    ("value", "param", "says"),
    [
        ("json", "response_format", "must be an object"), ({}, "response_format.type", "must be one of text, json_object, json_schema"),
        ({"type": "regex"}, "response_format.type", "found 'regex'"), ({"type": 3}, "response_format.type", "must be a string"),
        ({"type": "text", "schema": {}}, "response_format.schema", "not known"),
        ({"type": "json_object", "json_schema": {}}, "response_format.json_schema", "not known"),
        ({"type": "json_schema"}, "response_format.json_schema.schema", "must be a JSON schema"),
        ({"type": "json_schema", "json_schema": []}, "response_format.json_schema", "must be an object"),
        (by(True), "response_format.json_schema.schema", "found True"), (by(PERSON, name=3), "response_format.json_schema.name", "string"),
        (by(PERSON, strict="yes"), "response_format.json_schema.strict", "true or false"),
        (by(PERSON, colour=3), "response_format.json_schema.colour", "not known"),
        (by(nested(DEEPEST_SCHEMA + 1)), "response_format.json_schema.schema", f"nested more than {DEEPEST_SCHEMA} deep"),
        (by(nested(900)), "response_format.json_schema.schema", "use '$ref'"),
        (by({"enum": ["x" * LARGEST_SCHEMA]}), "response_format.json_schema.schema", f"{LARGEST_SCHEMA:,} are possible"),
        (by({"not": {}}), "response_format", '"not"'), (by({"$ref": "#/gone"}), "response_format", "/gone"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_on_every_route(post: Post, engine: FakeEngine, value: object, param: str, says: str) -> None:
    for path, body in ROUTES:
        reply = post(path, {**body, "response_format": value})
        assert reply.status == 400
        found = reply.json["error"] if path.startswith("/v1") else {"message": reply.json["error"], "param": param}
        assert says in found["message"]
        assert (found["param"], f"'{param}'" in found["message"]) == (param, True)
    assert engine.asked == []


@pytest.mark.parametrize(("path", "body"), ROUTES)
def test_every_route_hands_the_compiled_schema_on(post: Post, engine: FakeEngine, path: str, body: dict[str, Any]) -> None:
    for value in (by(PERSON), {"type": "json_object"}, {"type": "text"}, None):
        assert post(path, {**body, "response_format": value}).status == 200
    grammars = [asked.sampling.grammar for asked in engine.asked]
    assert [grammar is None for grammar in grammars] == [False, False, True, True]
    assert grammars[0] is not grammars[1]


def test_the_options_of_triton_may_stand_in_parameters(post: Post, engine: FakeEngine) -> None:
    assert post(GENERATE, {"text_input": "x", "parameters": {"response_format": by(PERSON)}}).status == 200
    assert engine.asked[0].sampling.grammar is not None


@pytest.mark.parametrize(("name", "value"), [("ignore_eos", True), ("min_tokens", 2)])
def test_an_answer_ends_with_its_value(post: Post, name: str, value: object) -> None:
    reply = post(CHAT, {**ROUTES[0][1], "response_format": {"type": "json_object"}, name: value})
    assert (reply.status, reply.json["error"]["param"]) == (400, name)
    assert "does not go with 'response_format'" in reply.json["error"]["message"]
    assert post(CHAT, {**ROUTES[0][1], "response_format": {"type": "text"}, name: value}).status == 200


@pytest.mark.parametrize("name", ["guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs"])
def test_other_servers_names_are_refused_with_ours(post: Post, name: str) -> None:
    for path, body in ROUTES:
        reply = post(path, {**body, name: {"type": "object"}})
        assert reply.status == 400
        assert "response_format" in str(reply.json["error"])


def test_without_the_library_the_extra_is_named(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with FakeServer(engine, FakeModels(fake_model())) as talking:
        connection = HTTPConnection("127.0.0.1", talking.port, timeout=30)
        for path, body in ROUTES:
            reply = call(connection, "POST", path, {**body, "response_format": by(PERSON)})
            assert reply.status == 400
            assert "pip install 'ferry-serving[json]'" in str(reply.json["error"])
            assert call(connection, "POST", path, body).status == 200, "nobody else needs it"
        connection.close()


def test_compiling_counts_in_the_time_of_its_request(engine: FakeEngine) -> None:
    began_at: list[float] = []

    class Noting(CompiledGrammars):
        async def of(self, schema: str) -> Grammar:
            began_at.append(monotonic_clock())
            return await fake_model().grammars.of(schema)

    with FakeServer(engine, FakeModels(fake_model(grammars=Noting(ModelKey(NAME, 3), None)))) as talking:
        connection = HTTPConnection("127.0.0.1", talking.port, timeout=30)
        for path, body in ROUTES:
            assert call(connection, "POST", path, {**body, "response_format": by(PERSON)}).status == 200
        connection.close()
    arrived_at = [asked.terms[1] for asked in engine.asked]
    assert all(at is not None and at <= began for at, began in zip(arrived_at, began_at, strict=True))


def test_when_too_many_schemas_wait_clients_are_told_to_come_back(engine: FakeEngine) -> None:
    class Full(CompiledGrammars):
        async def of(self, schema: str) -> Grammar:
            raise Refused("too many", "queue_full", 1.0)

    openai = pytest.importorskip("openai")
    model = fake_model(grammars=Full(ModelKey(NAME, 3), None))
    with (
        FakeServer(engine, FakeModels(model)) as talking,
        openai.OpenAI(base_url=f"http://127.0.0.1:{talking.port}/v1", api_key="none", max_retries=0) as ai,
        pytest.raises(openai.RateLimitError) as found,
    ):
        ai.chat.completions.create(**ROUTES[0][1], response_format=by(PERSON))
    assert found.value.response.headers["retry-after"] == "1"


def test_the_wrong_field_is_a_bad_parameter() -> None:
    with pytest.raises(BadParameter):
        read("x")
    assert asyncio.run(fake_model().grammars.of(ANY_OBJECT)) is not None
