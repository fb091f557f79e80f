"""Triton's /generate and /generate_stream, over an engine that says what it is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.errors import InstanceLost, Refused
from tests.child_server import Reply
from tests.fake_generation import ANSWER, NAME, FakeEngine
from tests.generating import codec, end_id
from tests.server.api.generation.conftest import Post

PATH = f"/v2/models/{NAME}/generate"
STREAM = f"{PATH}_stream"
HEAD = {"model_name": NAME, "model_version": "3"}


def events(reply: Reply) -> list[Any]:
    assert reply.status == 200, reply
    assert reply.headers["content-type"].startswith("text/event-stream")
    parts = reply.body.decode().split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") for part in parts)
    return [json.loads(part[6:]) for part in parts]


@pytest.mark.parametrize("path", [PATH, f"/v2/models/{NAME}/versions/3/generate"])
@pytest.mark.parametrize("options", [{"max_tokens": 100}, {"parameters": {"max_tokens": 100, "stream": False}}])
def test_a_text_is_continued(post: Post, engine: FakeEngine, path: str, options: dict[str, Any]) -> None:
    assert post(path, {"text_input": "an end", **options}).json == {**HEAD, "text_output": ANSWER}
    assert list(engine.asked[0].prompt.ids) == codec().encode("an end", True)


def test_a_stream_has_one_event_for_each_piece_and_no_done(post: Post) -> None:
    told = events(post(STREAM, {"id": "mine", "text_input": "x", "parameters": {"max_tokens": 100, "stream": True}}))
    assert len(told) > 5
    assert all(one == {"id": "mine", **HEAD, "text_output": one["text_output"]} for one in told)
    assert "".join(one["text_output"] for one in told) == ANSWER


def test_options_reach_the_engine(post: Post, engine: FakeEngine) -> None:
    options = {"temperature": 0, "top_k": 5, "seed": 3, "stop": ["STOP"], "priority": 1, "timeout": 250_000}
    reply = post(PATH, {"id": "mine", "text_input": "x", "max_tokens": 100, "parameters": options})
    assert reply.json["text_output"] == ANSWER[: ANSWER.index("STOP")]
    asked = engine.asked[0]
    assert (asked.sampling.temperature, asked.sampling.top_k, asked.sampling.seed) == (0, 5, 3)
    assert (asked.terms[0], asked.terms[2], asked.name) == (0.25, 1, "mine")


@pytest.mark.parametrize("path", [PATH, STREAM])
def test_the_text_comes_first_where_that_is_wanted(post: Post, path: str) -> None:
    reply = post(path, {"text_input": "an end", "exclude_input_in_output": False, "max_tokens": 100})
    told = events(reply) if path == STREAM else [reply.json]
    assert "".join(one["text_output"] for one in told) == "an end" + ANSWER


def test_an_answer_without_text_is_one_event(post: Post, engine: FakeEngine) -> None:
    engine.script = lambda *_: [end_id()]
    assert events(post(STREAM, {"text_input": "x"})) == [{**HEAD, "text_output": ""}]
    assert post(PATH, {"text_input": "x"}).json == {**HEAD, "text_output": ""}


def test_a_refusal_says_when_to_try_again(post: Post, engine: FakeEngine) -> None:
    engine.refusal = Refused("too many wait", "queue_full", 1.5)
    for path in (PATH, STREAM):
        reply = post(path, {"text_input": "x"})
        assert (reply.status, reply.error, reply.headers["retry-after"]) == (503, "too many wait", "2")


def test_a_failure_in_the_middle_is_the_streams_last_event(post: Post, engine: FakeEngine) -> None:
    engine.breaks_after = (3, InstanceLost("the instance died; try again"))
    told = events(post(STREAM, {"text_input": "x"}))
    assert told[-1] == {"error": "the instance died; try again"}
    assert 1 <= len(told) <= 4
    assert post(PATH, {"text_input": "x"}).status == 503


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "'text_input' is empty or missing"), ({"text_input": ""}, "'text_input' is empty"),
        ({"text_input": ["x"]}, "'text_input' must be a string"), ({"text_input": "x", "max_tokens": -1}, "'max_tokens' must be"),
        ({"text_input": "x", "parameters": [1]}, "'parameters' must be an object"),
        ({"text_input": "x", "top_k": 1, "parameters": {"top_k": 1}}, "'top_k' is given twice"),
        ({"text_input": "x", "parameters": {"bad_words": "y"}}, "'bad_words' is not supported"),
        ({"text_input": "x", "parameters": {"tone": "y"}}, "'tone' is not known"),
        ({"text_input": "x", "stream": True}, "such requests go to generate_stream"),
        ({"text_input": "x" * 300}, "takes 256 tokens at most"), ({"text_input": "x", "priority": 9}, "parameter 'priority'"),
        ({"text_input": "x", "timeout": -1}, "parameter 'timeout'"), ({"text_input": "x", "id": 3}, "'id' must be a string"),
    ],
)  # fmt: skip
def test_bad_bodies_are_refused(post: Post, body: dict[str, Any], says: str) -> None:
    reply = post(PATH, body)
    assert reply.status == 400
    assert says in reply.error


def test_models_methods_and_paths(post: Post) -> None:
    assert post("/v2/models/nobody/generate", {"text_input": "x"}).status == 404
    assert post(f"/v2/models/{NAME}/versions/9/generate", {"text_input": "x"}).status == 404
    assert "does not generate" in post("/v2/models/words/generate_stream", {"text_input": "x"}).error
    assert post(PATH, None, method="GET").status == 405
    assert post(PATH, b"{").status == 400
    assert post(f"/v2/models/{NAME}/a/b/generate", {}).body == b"", "not ours: passed on"
