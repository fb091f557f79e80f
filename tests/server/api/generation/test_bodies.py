"""Whatever a body says: a 4xx in OpenAI's form that names the field, or an answer; never a failure of the server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.api.generation.chat import read_chat
from server.api.generation.completions import read_completion
from server.api.generation.fields import BodyFields, read_object
from server.api.generation.wishes import MOST_BIASES, make_prompt
from server.errors import BadRequest
from server.generation.options import Prompt
from tests.fake_generation import NAME, fake_model
from tests.server.api.generation.conftest import Post

PATH = "/v1/completions"
NUMBERS = (
    "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed", "min_tokens",
    "max_tokens", "n", "logprobs",
)  # fmt: skip


def test_every_wrong_number_is_refused_by_name(post: Post) -> None:
    for name in NUMBERS:
        for value in ("1e999", "-1e999", "1e30", "-1e30", '"1"', "true", "[]", "{}", str(2**64)):
            reply = post(PATH, f'{{"model":"{NAME}","prompt":"x","{name}":{value}}}'.encode())
            assert reply.status == 400, (name, value)
            assert reply.json["error"]["param"] in (name, None), reply
            assert reply.json["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"temperature": -0.1}, "temperature", "from 0 to 2"), ({"temperature": 2.1}, "temperature", "from 0 to 2"),
        ({"top_p": 0}, "top_p", "above 0"), ({"top_p": 1.1}, "top_p", "from 0 to 1"), ({"top_k": -2}, "top_k", "from -1"),
        ({"top_k": 1.0}, "top_k", "whole number"), ({"repetition_penalty": 0}, "repetition_penalty", "from 0.01"),
        ({"max_tokens": 0}, "max_tokens", "from 1"), ({"max_tokens": 2, "min_tokens": 3}, "min_tokens", "more than 'max_tokens'"),
        ({"n": 0}, "n", "from 1 to 128"), ({"n": 65, "prompt": ["a", "b"]}, "prompt", "130 answers"),
        ({"stop": ""}, "stop", "empty"), ({"stop": ["a"] * 17}, "stop", "up to 16"), ({"stop": [3]}, "stop", "up to 16"),
        ({"stop": "a" * 257}, "stop", "longer than 256"), ({"stop": ["a" * 205] * 5}, "stop", "more than 1,024"), ({"stop": {"a": 1}}, "stop", "a list"),
        ({"logit_bias": [1]}, "logit_bias", "must be an object"), ({"logit_bias": {"a": 1}}, "logit_bias.a", "in digits"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1", "from -100"), ({"logit_bias": {"300": 1}}, "logit_bias", "0 to 299"),
        ({"logit_bias": {"-1": 1}}, "logit_bias.-1", "in digits"),
        ({"logit_bias": {str(n): 1 for n in range(MOST_BIASES + 1)}}, "logit_bias", "up to 1024"),
        ({"stream": 1}, "stream", "true or false"), ({"echo": "yes"}, "echo", "true or false"),
        ({"prompt_logprobs": 1}, "prompt_logprobs", "those of a prompt come with 'logprobs' where 'echo' is true"),
        ({"stream_options": {}}, "stream_options", "for streams"),
        ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage", "not known"),
        ({"stream": True, "stream_options": []}, "stream_options", "must be an object"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage", "true or false"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation", "obfuscated"),
        ({"stream": True, "stream_options": {"continuous_usage_stats": 1}}, "stream_options.continuous_usage_stats", "true or false"),
        ({"max_tokens": 2, "max_completion_tokens": 3}, "max_tokens", "they differ"),
        ({"max_tokens": True, "max_completion_tokens": 1}, "max_tokens", "they differ"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "from 1"),
        ({"suffix": "x"}, "suffix", "not supported"), ({"best_of": 2}, "best_of", "not supported"),
        ({"tools": []}, "tools", "not known"), ({"x" * 500: 1}, "x" * 80, "not known"),
        ({"prompt": None}, "prompt", "must be a text"), ({"prompt": ""}, "prompt", "none of them empty"),
        ({"prompt": []}, "prompt", "none of them empty"), ({"prompt": ["a", ""]}, "prompt", "none of them empty"),
        ({"prompt": [[]]}, "prompt", "none of them empty"), ({"prompt": ["a", 1]}, "prompt", "token ids"),
        ({"prompt": [1.5]}, "prompt", "token ids"), ({"prompt": [True]}, "prompt", "token ids"),
        ({"prompt": ["a"] * 129}, "prompt", "up to 128"), ({"prompt": [-1]}, "prompt", "0 to 299"),
        ({"prompt": [300]}, "prompt", "0 to 299"), ({"prompt": [2**63]}, "prompt", "0 to 299"),
        ({"model": None}, "model", "name of a model"), ({"model": 3}, "model", "must be a string"),
    ],
)  # fmt: skip
def test_each_bad_field_is_named(post: Post, fields: dict[str, Any], param: str, says: str) -> None:
    reply = post(PATH, {"model": NAME, "prompt": "x", **fields})
    assert (reply.status, reply.json["error"]["param"]) == (400, param), reply
    assert says in reply.json["error"]["message"]
    assert len(reply.body) < 1000


def test_a_few_values_that_look_odd_are_fine(post: Post) -> None:
    odd = {"top_k": -1, "temperature": 0, "logprobs": 0, "best_of": 1, "stop": [], "n": None, "suffix": None, "logit_bias": {}}
    assert post(PATH, {"model": NAME, "prompt": "x", **odd}).status == 200
    assert post(PATH, {"model": NAME, "prompt": "x", "seed": -(2**63)}).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"NaN",
        b'{"model":"talker","prompt":"\xff"}',
        b'{"model":"talker","prompt":"\\ud800"}',
        b"[" * 5000,
    ],
)
@pytest.mark.parametrize("path", [PATH, "/v1/chat/completions"])
def test_what_is_no_request_is_refused(post: Post, path: str, body: bytes) -> None:
    reply = post(path, body)
    assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error")


def test_methods_encodings_and_sizes(post: Post) -> None:
    assert post(PATH, None, method="GET").status == 405
    assert post(PATH, b"x", headers={"Content-Encoding": "snappy"}).status == 501
    assert post(PATH, b"x" * 200_001).status == 413


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=5
)
FIELDS = (
    *NUMBERS, "prompt", "messages", "stop", "logit_bias", "stream", "stream_options", "echo", "tools", "response_format", "user",
    "top_logprobs", "max_completion_tokens", "best_of", "ignore_eos",
)  # fmt: skip


@given(fields=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=10), VALUES, max_size=5))
@settings(max_examples=250, deadline=None)
def test_any_json_is_read_or_refused(fields: dict[str, Any]) -> None:
    model = fake_model()
    good: dict[str, Any] = {"model": NAME, "prompt": [1], "messages": [{"role": "user", "content": "x"}]}
    for read, without in ((read_completion, "messages"), (read_chat, "prompt")):
        body = json.dumps({name: value for name, value in (good | fields).items() if name != without}).encode()
        try:
            call = read(BodyFields(read_object(body)))
            prompt = make_prompt(model, [1], call.wishes, "prompt", 16)  # type: ignore[arg-type]  # as much of a model as is asked for
        except BadRequest:
            pass  # what it says is tested above
        else:
            assert isinstance(prompt, Prompt)
            assert 1 <= prompt.new_tokens < 256
            assert 0 <= call.wishes.sampling.temperature <= 2
