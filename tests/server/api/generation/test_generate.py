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
ALONE = {"exclude_input_in_output": True}
"""The completion without the text before it."""


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
    assert post(path, {"text_input": "an end", **ALONE, **options}).json == {**HEAD, "text_output": ANSWER}
    assert list(engine.asked[0].prompt.ids) == codec().encode("an end", True)


def test_a_stream_has_one_event_for_each_piece_and_no_done(post: Post) -> None:
    told = events(post(STREAM, {"id": "mine", "text_input": "x", "parameters": {"max_tokens": 100, "stream": True}}))
    assert len(told) > 5
    assert all(one == {"id": "mine", **HEAD, "text_output": one["text_output"]} for one in told)
    assert "".join(one["text_output"] for one in told) == ANSWER


def test_options_reach_the_engine(post: Post, engine: FakeEngine) -> None:
    options = {"temperature": 0, "top_k": 5, "seed": 3, "stop": ["STOP"], "priority": 1, "timeout": 250_000}
    reply = post(PATH, {"id": "mine", "text_input": "x", "max_tokens": 100, "parameters": {**options, **ALONE}})
    assert reply.json["text_output"] == ANSWER[: ANSWER.index("STOP")]
    asked = engine.asked[0]
    assert (asked.sampling.temperature, asked.sampling.top_k, asked.sampling.seed) == (0, 5, 3)
    assert (asked.terms[0], asked.terms[2], asked.name) == (0.25, 1, "mine")


@pytest.mark.parametrize("said", [{}, {"exclude_input_in_output": False}, {"exclude_input_in_output": "false"}])
def test_the_text_comes_first_unless_it_is_left_out(post: Post, said: dict[str, Any]) -> None:
    """As Triton's vLLM and TensorRT-LLM backends have it."""
    assert post(PATH, {"text_input": "an end", **said, "max_tokens": 100}).json["text_output"] == "an end" + ANSWER


def test_the_text_never_comes_in_a_stream(post: Post) -> None:
    body = {"text_input": "an end", "max_tokens": 100}
    for said in ({}, ALONE):
        assert "".join(one["text_output"] for one in events(post(STREAM, {**body, **said}))) == ANSWER
    refused = post(STREAM, {**body, "exclude_input_in_output": False})
    assert (refused.status, "cannot be false in a stream" in refused.error) == (400, True)


TRITON_S = {
    "max_tokens": 100, "bad_words": "", "stop_words": "", "pad_id": 2, "end_id": 2, "beam_width": 1, "num_beams": 1, "n": 1,
    "return_log_probs": False, "return_context_logits": "false", "return_num_output_tokens": [False], "accumulate_tokens": False,
    "length_penalty": 1.0, "early_stopping": True, "num_return_sequences": "1", "random_seed": 3,
}  # fmt: skip
"""What Triton's documents send, most of which asks for nothing."""


@pytest.mark.parametrize("words", [{}, {"bad_words": [], "stop_words": []}, {"bad_words": [""], "stop_words": ["", ""]}])
def test_what_tritons_documents_send_is_answered(post: Post, engine: FakeEngine, words: dict[str, Any]) -> None:
    asked = {**TRITON_S, **words}
    for body in ({**asked, "text_input": "an end"}, {"text_input": ["an end"], "parameters": asked}):
        assert post(PATH, body).json == {**HEAD, "text_output": "an end" + ANSWER}
        assert engine.asked[-1].sampling.seed == 3


@pytest.mark.parametrize("words", ["STOP", ["STOP"], ["STOP", "", "nowhere"]])
def test_stop_words_stop(post: Post, words: object) -> None:
    reply = post(PATH, {"text_input": "x", "max_tokens": 100, "stop_words": words, **ALONE})
    assert reply.json["text_output"] == ANSWER[: ANSWER.index("STOP")]


def test_texts_that_say_numbers_count_as_numbers(post: Post, engine: FakeEngine) -> None:
    options = {
        "temperature": "0.5", "top_p": ".95", "top_k": "+5", "max_tokens": "100", "min_length": "3", "seed": "-1", "min_p": "1e-1",
        "ignore_eos": "True", "exclude_input_in_output": "TRUE", "stream": "false", "presence_penalty": "-1",
    }  # fmt: skip
    engine.script = lambda *_: codec().encode("y" * 200, False)
    assert post(PATH, {"text_input": "x", "parameters": options}).json["text_output"] == "y" * 100
    asked = engine.asked[0]
    sampling = asked.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.95, 5, 0.1)
    assert (sampling.at_least, sampling.seed, sampling.ends, sampling.presence) == (3, 2**64 - 1, False, -1)
    assert asked.prompt.new_tokens == 100


@pytest.mark.parametrize("as_list", [False, True])
def test_sampling_parameters_are_the_text_of_an_object_and_win(post: Post, engine: FakeEngine, as_list: bool) -> None:
    """Which clients say as input and as parameters: Triton's vLLM backend reads the input."""
    text = json.dumps({"max_tokens": "100", "temperature": 0, "top_k": None, "logit_bias": {"5": 1}})
    options = {"max_tokens": 2, "temperature": 1.5, "top_k": 7}
    said = {"sampling_parameters": [text] if as_list else text}
    for body in ({**options, **said}, {"parameters": {**options, **said}}, {"parameters": options, **said}):
        assert post(PATH, {"text_input": "an end", **body}).json["text_output"] == "an end" + ANSWER
        sampling = engine.asked[-1].sampling
        assert (sampling.temperature, sampling.top_k, sampling.bias) == (0, 7, {5: 1})


def test_an_answer_without_text_is_one_event(post: Post, engine: FakeEngine) -> None:
    engine.script = lambda *_: [end_id()]
    assert events(post(STREAM, {"text_input": "x"})) == [{**HEAD, "text_output": ""}]
    assert post(PATH, {"text_input": "x", **ALONE}).json == {**HEAD, "text_output": ""}


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
        ({"text_input": ["x", "y"]}, "'text_input' must be a string"), ({"text_input": [["x"]]}, "'text_input' must be a string"), ({"text_input": "x", "max_tokens": -1}, "'max_tokens' must be"),
        ({"text_input": "x", "parameters": [1]}, "'parameters' must be an object"),
        ({"text_input": "x", "top_k": 1, "parameters": {"top_k": 1}}, "'top_k' is given twice"),
        ({"text_input": "x", "parameters": {"bad_words": "y"}}, "'bad_words' is not supported"),
        ({"text_input": "x", "bad_words": ["", "y"]}, "'bad_words' is not supported"),
        ({"text_input": "x", "stop_words": 3}, "'stop_words' must be a string or a list"),
        ({"text_input": "x", "stop_words": "y", "stop": "z"}, "'stop_words' is 'stop' here"),
        ({"text_input": "x", "min_length": 1, "min_tokens": 1}, "'min_length' is 'min_tokens' here"),
        ({"text_input": "x", "beam_width": 4}, "'beam_width' is not supported"),
        ({"text_input": "x", "num_beams": True}, "'num_beams' is not supported"),
        ({"text_input": "x", "return_log_probs": True}, "'return_log_probs' is not supported"),
        ({"text_input": "x", "return_log_probs": "true"}, "'return_log_probs' is not supported"),
        ({"text_input": "x", "num_return_sequences": "2"}, "'num_return_sequences' is not supported"),
        ({"text_input": "x", "end_id": -1}, "'end_id' must be the id of a token"),
        ({"text_input": "x", "length_penalty": "long"}, "'length_penalty' must be a number"),
        ({"text_input": "x", "max_tokens": "many"}, "'max_tokens' must be a whole number from 1 to 2147483647, found 'many'"),
        ({"text_input": "x", "max_tokens": "1.0"}, "'max_tokens' must be a whole number"),
        ({"text_input": "x", "max_tokens": "1_0"}, "'max_tokens' must be a whole number"),
        ({"text_input": "x", "max_tokens": "9" * 5000}, "'max_tokens' must be a whole number"),
        ({"text_input": "x", "temperature": "nan"}, "'temperature' must be a number from 0 to 2, found 'nan'"),
        ({"text_input": "x", "temperature": "1e999"}, "'temperature' must be a number from 0 to 2, found '1e999'"),
        ({"text_input": "x", "temperature": "3"}, "'temperature' must be a number from 0 to 2, found 3.0"),
        ({"text_input": "x", "ignore_eos": "1"}, "'ignore_eos' must be true or false, found '1'"),
        ({"text_input": "x", "sampling_parameters": "{"}, "'sampling_parameters' must be a JSON object of options, as a text"),
        ({"text_input": "x", "sampling_parameters": "[1]"}, "'sampling_parameters' must be a JSON object"),
        ({"text_input": "x", "sampling_parameters": {"top_k": 1}}, "'sampling_parameters' must be a JSON object of options, as a text"),
        ({"text_input": "x", "sampling_parameters": '{"text_input":"y"}'}, "'text_input' is given twice"),
        ({"text_input": "x", "sampling_parameters": '{"tone":"y"}'}, "'tone' is not known"),
        ({"text_input": "x", "sampling_parameters": '{"sampling_parameters":"{}"}'}, "'sampling_parameters' is not known"),
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
