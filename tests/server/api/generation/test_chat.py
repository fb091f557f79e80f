"""/v1/chat/completions by the unmodified openai client and by hand, over an engine that says what it is told."""

from __future__ import annotations

import asyncio
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.child_server import call, wait_until
from tests.fake_generation import ANSWER, NAME, FakeEngine, FakeModels, FakeServer, fake_model
from tests.generating import codec, end_id
from tests.server.api.generation.conftest import Post

PATH = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]


def chat(ai: Any, **fields: Any) -> Any:
    return ai.chat.completions.create(**{"model": NAME, "messages": HELLO, **fields})


def asked_text(engine: FakeEngine) -> str:
    """The prompt of the last request, special tokens and all."""
    return b"".join(map(codec().piece, engine.asked[-1].prompt.ids)).decode()


def test_a_chat_is_answered(ai: Any, engine: FakeEngine) -> None:
    reply = chat(ai)
    (choice,) = reply.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", ANSWER, "stop")
    assert (reply.object, reply.model, reply.id[:9]) == ("chat.completion", NAME, "chatcmpl-")
    assert reply.system_fingerprint == f"{NAME}/3"
    assert asked_text(engine) == "<|user|>hello<|end|><|assistant|>"
    n_prompt = len(engine.asked[0].prompt.ids)
    assert (reply.usage.prompt_tokens, reply.usage.prompt_tokens_details.cached_tokens) == (n_prompt, n_prompt // 2)
    assert engine.asked[0].prompt.new_tokens == 256 - n_prompt, "without a word: all the room there is"


def test_a_stream_begins_with_the_role_and_ends_with_the_reason(ai: Any) -> None:
    chunks = list(chat(ai, stream=True, stream_options={"include_usage": True}))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert (chunks[0].choices[0].delta.role, chunks[0].choices[0].delta.content) == ("assistant", "")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == ANSWER
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-2:] == [None, "stop"]
    assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + chunks[-1].usage.completion_tokens


def test_an_asynchronous_client_streams_and_cancels(talking: FakeServer, engine: FakeEngine) -> None:
    openai = pytest.importorskip("openai")
    engine.script = lambda *_: [1]
    engine.step_s = 0.05

    async def leave_early() -> None:
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{talking.port}/v1", api_key="none") as ai:
            stream = await chat(ai, stream=True)
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
            await stream.close()

    asyncio.run(leave_early())
    wait_until(lambda: engine.n_stopped == 1, "the engine hears of it")


def test_several_answers_at_once(ai: Any, engine: FakeEngine) -> None:
    engine.script = lambda _, sampling: [*codec().encode(f"seed {sampling.seed}", False), end_id()]
    assert [choice.message.content for choice in chat(ai, n=3, seed=4).choices] == ["seed 4", "seed 5", "seed 6"]
    texts = {0: "", 1: ""}
    for chunk in chat(ai, n=2, seed=4, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == {0: "seed 4", 1: "seed 5"}


def test_roles_parts_and_names(ai: Any, engine: FakeEngine) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    kept = {"role": "assistant", "content": "yes", "refusal": None, "tool_calls": None, "audio": None}
    messages = [{"role": "developer", "content": "rule"}, {"role": "user", "content": parts, "name": "me"}, kept, *HELLO]
    chat(ai, messages=messages)
    assert asked_text(engine) == (
        "<|system|>rule<|end|><|user|>one\ntwo<|end|><|assistant|>yes<|end|><|user|>hello<|end|><|assistant|>"
    )


def test_the_answer_of_parse_can_be_sent_back(ai: Any, engine: FakeEngine) -> None:
    message = ai.chat.completions.parse(model=NAME, messages=HELLO).choices[0].message
    chat(ai, messages=[*HELLO, message, *HELLO])
    whole = asked_text(engine)
    dumped = {**message.model_dump(), "parsed": {"mood": "good"}, "tool_calls": []}  # as where a schema was asked for
    chat(ai, messages=[*HELLO, dumped, *HELLO])
    assert asked_text(engine) == whole == f"<|user|>hello<|end|><|assistant|>{ANSWER}<|end|><|user|>hello<|end|><|assistant|>"


def test_what_clients_hang_on_an_answer_is_not_looked_at(post: Post, engine: FakeEngine) -> None:
    hung = {
        "parsed": {"mood": "good"}, "refusal": "", "annotations": [], "audio": None, "reasoning_content": "so", "reasoning": "so",
        "provider_specific_fields": {"a": None}, "function_call": None, "tool_calls": [],
    }  # fmt: skip
    reply = post(PATH, {"model": NAME, "messages": [{"role": "assistant", "content": "yes", **hung}, *HELLO]})
    assert reply.status == 200, reply
    assert asked_text(engine) == "<|assistant|>yes<|end|><|user|>hello<|end|><|assistant|>"


@pytest.mark.parametrize("kind", ["text", "message"])
def test_a_message_may_say_that_it_is_one(post: Post, engine: FakeEngine, kind: str) -> None:
    assert post(PATH, {"model": NAME, "messages": [{"type": kind, **HELLO[0]}]}).status == 200
    assert asked_text(engine) == "<|user|>hello<|end|><|assistant|>"


def test_a_stream_may_tell_the_usage_so_far_in_each_event(ai: Any) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = list(chat(ai, n=2, stream=True, stream_options=options))
    counts = [chunk.usage.completion_tokens for chunk in chunks]
    assert counts == sorted(counts), "of the call, with both answers"
    assert counts[0] < counts[-1] == chunks[-1].usage.total_tokens - chunks[0].usage.prompt_tokens


@pytest.mark.parametrize("names", [["max_tokens"], ["max_completion_tokens"], ["max_tokens", "max_completion_tokens"]])
def test_both_names_of_the_most_tokens(ai: Any, engine: FakeEngine, names: list[str]) -> None:
    reply = chat(ai, **dict.fromkeys(names, 3))
    assert (reply.choices[0].finish_reason, reply.usage.completion_tokens) == ("length", 3)


@pytest.mark.parametrize("streams", [False, True])
def test_log_probabilities_have_bytes_and_alternatives(ai: Any, streams: bool) -> None:
    reply = chat(ai, logprobs=True, top_logprobs=2, stream=streams)
    told = [part.choices[0].logprobs for part in (reply if streams else [reply]) if part.choices[0].logprobs]
    content = [entry for one in told for entry in one.content]
    assert bytes(byte for entry in content for byte in entry.bytes).decode() == ANSWER
    assert [(one.token, one.logprob) for one in content[0].top_logprobs] == [(" ", -0.5), ("!", -1.5)]


def test_a_long_conversation_is_tokenised_beside_the_loop(ai: Any, engine: FakeEngine) -> None:
    openai = pytest.importorskip("openai")
    with pytest.raises(openai.BadRequestError, match="at most") as found:
        chat(ai, messages=[{"role": "user", "content": "the " * 5000}])
    assert (found.value.code, found.value.param) == ("context_length_exceeded", "messages")


def test_what_asks_for_nothing_is_taken(ai: Any, engine: FakeEngine) -> None:
    openai = pytest.importorskip("openai")
    reply = chat(
        ai, response_format={"type": "text"}, tool_choice="none", store=False, user="me", metadata={"a": "b"}, modalities=["text"],
        service_tier="auto", parallel_tool_calls=False, temperature=openai.omit, extra_body={"tools": None},
    )  # fmt: skip
    assert reply.choices[0].message.content == ANSWER


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"), ({"tool_choice": "required"}, "tool_choice"),
        ({"guided_json": {"type": "object"}}, "guided_json"), ({"audio": {}}, "audio"), ({"store": True}, "store"),
        ({"modalities": ["audio"]}, "modalities"), ({"service_tier": "priority"}, "service_tier"),
        ({"reasoning_effort": "high"}, "reasoning_effort"), ({"functions": [{}]}, "functions"), ({"store": 0}, "store"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(post: Post, fields: dict[str, Any], param: str) -> None:
    reply = post(PATH, {"model": NAME, "messages": HELLO, **fields})
    assert reply.status == 400
    found = reply.json["error"]
    assert (found["param"], found["code"], found["type"]) == (param, "unsupported_parameter", "invalid_request_error")
    assert f"'{param}' is not supported: " in found["message"]


@pytest.mark.parametrize(
    ("messages", "param", "says"),
    [
        (None, "messages", "must be a list"),
        ([], "messages", "must be a list"),
        ("hello", "messages", "must be a list"),
        (["hello"], "messages", "'role' and 'content'"),
        ([{"content": "x"}], "messages[0].role", "must be one of system, developer"),
        ([{"role": "tool", "content": "x"}], "messages[0].role", "found 'tool'"),
        ([*HELLO, {"role": 3, "content": "x"}], "messages[1].role", "must be a string"),
        ([{"role": "user"}], "messages[0].content", "must be a text"),
        ([{"role": "user", "content": []}], "messages[0].content", "must be a text"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "messages[0].content", "'image_url'"),
        ([{"role": "user", "content": [{"type": "text", "text": 3}]}], "messages[0].content", "parts like"),
        ([{"role": "user", "content": "x", "weight": 1}], "messages[0].weight", "not known"),
        ([{"role": "assistant", "content": "x", "tool_calls": [{}]}], "messages[0].tool_calls", "not told of tools"),
        (
            [{"role": "assistant", "content": "x", "function_call": {"name": "f"}}],
            "messages[0].function_call",
            "not told of tools",
        ),
        ([{"role": "assistant", "content": "x", "refusal": "no"}], "messages[0].refusal", "put it into 'content'"),
        ([{"role": "assistant", "content": "x", "audio": {"id": "a"}}], "messages[0].audio", "answers are texts"),
        ([{"role": "assistant", "content": "x", "weight": 1}], "messages[0].weight", "not known"),
        ([{"role": "tool", "content": "x", "tool_call_id": "a"}], "messages[0].tool_call_id", "not told of tools"),
        ([{"role": "user", "content": "x", "parsed": {}}], "messages[0].parsed", "not known"),
        ([{"role": "user", "content": "x", "tool_calls": []}], "messages[0].tool_calls", "not told of tools"),
        ([{"role": "user", "content": "x", "type": "image"}], "messages[0].type", "must be 'text' or 'message'"),
        ([{"role": "user", "content": "x", "type": []}], "messages[0].type", "must be 'text' or 'message'"),
    ],
)
def test_messages_that_are_none(post: Post, messages: Any, param: str, says: str) -> None:
    reply = post(PATH, {"model": NAME, "messages": messages})
    assert (reply.status, reply.json["error"]["param"]) == (400, param)
    assert says in reply.json["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_logprobs": 2}, "top_logprobs"), ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 2}, "logprobs"), ({"max_tokens": 2, "max_completion_tokens": 3}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"), ({"prompt": "x"}, "prompt"), ({"n": 129}, "n"),
    ],
)  # fmt: skip
def test_fields_of_chats_are_checked(post: Post, fields: dict[str, Any], param: str) -> None:
    reply = post(PATH, {"model": NAME, "messages": HELLO, **fields})
    assert (reply.status, reply.json["error"]["param"]) == (400, param)


def test_a_model_without_a_template_cannot_be_talked_to(engine: FakeEngine) -> None:
    import tokenizers

    from server.backends.hf_text_codec import HfTextCodec
    from tests.generating import byte_level, generation

    openai = pytest.importorskip("openai")
    mute = HfTextCodec(tokenizers.Tokenizer.from_str(byte_level()), None)
    model = fake_model(codec=mute, generation=generation())
    with FakeServer(engine, FakeModels(model)) as server:
        ai = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0)
        with ai, pytest.raises(openai.BadRequestError, match="no chat template"):
            chat(ai)
        connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
        reply = call(connection, "POST", "/v1/completions", {"model": NAME, "prompt": "x"})
        connection.close()
    assert reply.status == 200
