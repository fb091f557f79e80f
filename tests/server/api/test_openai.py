"""The routes under /v1, by the unmodified openai client and by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("tokenizers")

from tests import models
from tests.child_server import ChildServer, Reply
from tests.models import word_ids

TEXTS = ["w1 w2", "w3 w4 w5 w6 w7", "", "w59"]
LONG = " ".join(["w1"] * 31)


def embed(server: ChildServer, **fields: Any) -> Reply:
    return server.call("POST", "/v1/embeddings", {"model": "words", **fields})


def error(reply: Reply) -> dict[str, Any]:
    """The error, after checking its form."""
    assert reply.headers["content-type"] == "application/json", reply
    assert set(reply.json) == {"error"}, reply
    found: dict[str, Any] = reply.json["error"]
    assert set(found) == {"message", "type", "param", "code"}, reply
    assert isinstance(found["message"], str)
    return found


def of_ids(server: ChildServer, text: str) -> Any:
    """What V2 answers to the ids of a text."""
    ids = word_ids(text)
    inputs = [
        {"name": name, "datatype": "INT64", "shape": [1, len(ids)], "data": data}
        for name, data in (("ids", ids), ("mask", [1] * len(ids)))
    ]
    return server.call("POST", "/v2/models/words/infer", {"inputs": inputs}).json["outputs"][0]["data"]


@pytest.fixture
def ai(server: ChildServer) -> Iterator[Any]:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.mark.parametrize(
    "form", [{}, {"encoding_format": "base64"}, {"encoding_format": "float"}], ids=["default", "base64", "float"]
)
def test_the_openai_client_gets_each_texts_embedding(ai: Any, server: ChildServer, form: dict[str, str]) -> None:
    reply = ai.embeddings.create(model="words", input=TEXTS, **form)
    assert (reply.object, reply.model, [entry.index for entry in reply.data]) == ("list", "words", [0, 1, 2, 3])
    n_tokens = sum(len(word_ids(text)) for text in TEXTS)
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (n_tokens, n_tokens)
    for entry, text in zip(reply.data, TEXTS, strict=True):
        found = np.frombuffer(base64.b64decode(entry.embedding), "<f4") if isinstance(entry.embedding, str) else entry.embedding
        np.testing.assert_allclose(found, of_ids(server, text), atol=1e-4)


def test_one_text_and_token_ids_do_as_well(ai: Any, server: ChildServer) -> None:
    text = "w1 w2 w3"
    wanted = of_ids(server, text)
    for given in (text, [text], word_ids(text), [word_ids(text)]):
        reply = ai.embeddings.create(model="words", input=given, dimensions=4, user="somebody")
        assert reply.data[0].embedding == pytest.approx(wanted, abs=1e-6)
        assert reply.usage.prompt_tokens == 5
    several = ai.embeddings.create(model="words", input=[word_ids("w1"), word_ids(text)])
    assert several.data[1].embedding == pytest.approx(wanted, abs=1e-4)


def test_the_openai_client_raises_its_own_errors(ai: Any) -> None:
    openai = pytest.importorskip("openai")
    with pytest.raises(openai.NotFoundError) as unknown:
        ai.embeddings.create(model="nobody", input="w1")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as wrong:
        ai.embeddings.create(model="words", input="w1", dimensions=8)
    assert (wrong.value.type, wrong.value.param) == ("invalid_request_error", "dimensions")
    with pytest.raises(openai.BadRequestError, match="33 tokens"):
        ai.embeddings.create(model="words", input=LONG)
    cut = ai.embeddings.create(model="words", input=LONG, extra_body={"truncate": True})
    assert cut.usage.total_tokens == 32


def test_null_is_not_given(server: ChildServer) -> None:
    """LiteLLM and Dify send all the fields that they know."""
    null = dict.fromkeys(
        ("encoding_format", "user", "dimensions", "truncate", "truncate_prompt_tokens", "drop_params", "pooling")
    )
    plain, reply = embed(server, input="w1"), embed(server, input="w1", **null)
    assert (reply.status, reply.body) == (200, plain.body)


def test_an_order_to_litellm_is_not_looked_at(server: ChildServer) -> None:
    """RAGFlow sends it to every server."""
    assert embed(server, input="w1", drop_params=True).status == 200


@pytest.mark.parametrize("also", [{}, {"truncate": True}])
def test_vllms_name_of_truncate(server: ChildServer, also: dict[str, bool]) -> None:
    reply = embed(server, input=LONG, truncate_prompt_tokens=-1, **also)
    assert (reply.status, reply.json["usage"]["total_tokens"]) == (200, 32)


def test_the_openai_client_lists_the_models_that_embed(ai: Any) -> None:
    openai = pytest.importorskip("openai")
    assert [model.id for model in ai.models.list()] == ["words"]
    found = ai.models.retrieve("words")
    assert (found.id, found.object, found.owned_by) == ("words", "model", "ferry")
    assert found.created > 1_500_000_000
    with pytest.raises(openai.NotFoundError, match="nor makes embeddings"):
        ai.models.retrieve("affine")


@pytest.mark.parametrize(
    ("fields", "param", "code", "says"),
    [
        ({"input": []}, "input", "bad_request", "not empty"),
        ({"input": None}, "input", "bad_request", "'input' must be"),
        ({"input": {"a": 1}}, "input", "bad_request", "'input' must be"),
        ({"input": ["w1", 3]}, "input", "bad_request", "mixes types"),
        ({"input": [[1, "w"]]}, "input", "bad_request", "mixes types"),
        ({"input": [True, False]}, "input", "bad_request", "mixes types"),
        ({"input": [1.5]}, "input", "bad_request", "mixes types"),
        ({"input": [[]]}, "input", "bad_text", "0 tokens"),
        ({"input": [1, 63]}, "input", "bad_text", "vocabulary of 0 to 62"),
        ({"input": [1, -1]}, "input", "bad_text", "vocabulary of 0 to 62"),
        ({"input": [1] * 33}, "input", "bad_text", "33 tokens"),
        ({"input": ["w1"] * 2049}, "input", "bad_request", "2049 entries; 2048 are possible"),
        ({"input": "w" * 1025}, "input", "bad_request", "input 0 has 1025 bytes; 1024 are possible"),
        ({"input": ["w1", LONG]}, "input", "bad_text", "33 tokens"),
        ({"input": "w1", "model": 3}, "model", "bad_request", "must be the name of a model"),
        ({"input": "w1", "encoding_format": "hex"}, "encoding_format", "bad_request", "'float' or 'base64'"),
        ({"input": "w1", "encoding_format": []}, "encoding_format", "bad_request", "'float' or 'base64'"),
        ({"input": "w1", "dimensions": "4"}, "dimensions", "bad_request", "must be a number"),
        ({"input": "w1", "dimensions": 5}, "dimensions", "bad_request", "have 4 dimensions, not 5"),
        ({"input": "w1", "truncate": "yes"}, "truncate", "bad_request", "true or false"),
        ({"input": "w1", "truncate_prompt_tokens": 8}, "truncate_prompt_tokens", "bad_request", "must be -1"),
        ({"input": "w1", "truncate_prompt_tokens": -1.0}, "truncate_prompt_tokens", "bad_request", "must be -1"),
        (
            {"input": "w1", "truncate_prompt_tokens": -1, "truncate": False},
            "truncate_prompt_tokens",
            "bad_request",
            "but 'truncate' is false",
        ),
        ({"input": "w1", "user": 3}, "user", "bad_request", "must be a string"),
        ({"input": "w1", "pooling": "max"}, "pooling", "unknown_parameter", "unknown field 'pooling'"),
    ],
)
def test_each_bad_field_is_named(server: ChildServer, fields: dict[str, Any], param: str, code: str, says: str) -> None:
    reply = embed(server, **fields)
    found = error(reply)
    assert (reply.status, found["type"], found["param"], found["code"]) == (400, "invalid_request_error", param, code)
    assert says in found["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b'{"model":"words","input":"\xff"}', b'{"model":"words","input":"\\ud800"}']
)
def test_what_is_no_request_is_refused(server: ChildServer, body: bytes) -> None:
    reply = server.call("POST", "/v1/embeddings", body)
    assert reply.status == 400
    assert error(reply)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/embeddings", 405), ("POST", "/v1/models", 405), ("DELETE", "/v1/models/words", 405),
        ("GET", "/v1/models/nobody", 404), ("GET", "/v1/models/a/b", 404), ("GET", "/v1/models/", 404),
        ("GET", "/v1/", 404), ("POST", "/v1/chat", 404), ("POST", "/v1/responses", 404), ("GET", "/v1/chat/completions", 405),
    ],
)  # fmt: skip
def test_routes_that_lead_nowhere_say_so_in_openais_form(server: ChildServer, method: str, path: str, status: int) -> None:
    reply = server.call(method, path)
    assert reply.status == status
    assert error(reply)["type"] == "invalid_request_error"


def test_a_body_over_the_limit_and_a_packed_one(server: ChildServer) -> None:
    import gzip

    assert embed(server, input=["w1 " * 300] * 300).status == 413
    body = gzip.compress(json.dumps({"model": "words", "input": "w1"}).encode())
    assert server.call("POST", "/v1/embeddings", body, {"Content-Encoding": "gzip"}).status == 200


def test_head_has_no_body(server: ChildServer) -> None:
    reply = server.call("HEAD", "/v1/models")
    assert (reply.status, reply.body) == (200, b"")


def test_a_model_that_is_not_loaded_is_not_ready(start_server: Any, tmp_path: Path) -> None:
    models.publish_text(tmp_path, "words")
    server = start_server(tmp_path)
    assert server.call("POST", "/v2/repository/models/words/unload").status == 200
    reply = embed(server, input="w1")
    assert (reply.status, error(reply)["type"], reply.headers["x-should-retry"]) == (503, "server_error", "true")
    assert server.call("GET", "/v1/models").json == {"object": "list", "data": []}
