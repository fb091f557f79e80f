"""/v1/completions by the unmodified openai client and by hand, over an engine that says what it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest

from server.api.generation.completions import CompletionForm
from server.core.types import ModelKey
from server.errors import InstanceLost, Refused
from server.generation.options import Finish
from tests.child_server import call, wait_until
from tests.fake_generation import ANSWER, NAME, FakeEngine, FakeModels, FakeServer, fake_model, spoken
from tests.generating import codec, end_id
from tests.server.api.generation.conftest import Post

PATH = "/v1/completions"
N_TOKENS = len(codec().encode(ANSWER, special=False)) + 1


def complete(ai: Any, **fields: Any) -> Any:
    return ai.completions.create(**{"model": NAME, "prompt": "an end", "max_tokens": 200, **fields})


def test_a_text_is_completed(ai: Any, engine: FakeEngine) -> None:
    reply = complete(ai)
    (choice,) = reply.choices
    assert (choice.text, choice.finish_reason, choice.index, choice.logprobs) == (ANSWER, "stop", 0, None)
    assert (reply.object, reply.model, reply.id[:5]) == ("text_completion", NAME, "cmpl-")
    ids = codec().encode("an end", special=True)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (len(ids), N_TOKENS)
    assert reply.usage.total_tokens == len(ids) + N_TOKENS
    assert reply.usage.prompt_tokens_details.cached_tokens == len(ids) // 2
    (asked,) = engine.asked
    assert (list(asked.prompt.ids), asked.prompt.new_tokens, asked.is_stopped) == (ids, 200, False)


def test_a_stream_adds_up_to_the_same(ai: Any) -> None:
    chunks = list(complete(ai, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == ANSWER
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], N_TOKENS)
    assert len(chunks) > 5, "it came piece by piece"


def test_a_stream_is_server_sent_events_that_end_with_done(post: Post) -> None:
    reply = post(PATH, {"model": NAME, "prompt": "x", "stream": True, "max_tokens": 5})
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = reply.body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith('data: {"id":"cmpl-') for event in events[:-2])
    assert "usage" not in events[0]


def test_without_a_word_there_are_sixteen_tokens(ai: Any, engine: FakeEngine) -> None:
    reply = ai.completions.create(model=NAME, prompt="x")
    assert (reply.choices[0].finish_reason, reply.usage.completion_tokens) == ("length", 16)


@pytest.mark.parametrize("streams", [False, True])
def test_a_stop_text_ends_the_answer_and_is_not_shown(ai: Any, engine: FakeEngine, streams: bool) -> None:
    reply = complete(ai, stop=["STOP", "never"], stream=streams)
    chunks = list(reply) if streams else [reply]
    shown = "".join(chunk.choices[0].text for chunk in chunks)
    assert shown == ANSWER[: ANSWER.index("STOP")]
    assert chunks[-1].choices[0].finish_reason == "stop"
    wait_until(lambda: engine.n_stopped == 1, "the engine is told that nobody wants more")
    assert engine.asked[0].why is Finish.STOP


@pytest.mark.parametrize("asked", [{"include_usage": True}, {}])
def test_a_stream_may_tell_the_usage_so_far_in_each_event(ai: Any, asked: dict[str, bool]) -> None:
    """As GuideLLM asks for it: with the last event that tells it alone, and without."""
    chunks = list(complete(ai, stream=True, stream_options={"continuous_usage_stats": True, **asked}))
    counts = [chunk.usage.completion_tokens for chunk in chunks]
    assert counts == sorted(counts)
    assert (counts[0] < N_TOKENS, counts[-1]) == (True, N_TOKENS)
    assert {chunk.usage.prompt_tokens for chunk in chunks} == {len(codec().encode("an end", special=True))}
    assert [chunk.choices == [] for chunk in chunks[-2:]] == [False, bool(asked)]


def test_sixteen_stop_texts(ai: Any) -> None:
    """As many as evaluation harnesses send and a few more; the last one counts as the first."""
    reply = complete(ai, stop=[*(f"never {n}" for n in range(15)), "STOP"])
    assert reply.choices[0].text == ANSWER[: ANSWER.index("STOP")]


@pytest.mark.parametrize("also", [{}, {"max_tokens": 3}])
def test_the_newer_name_of_the_most_tokens(post: Post, also: dict[str, int]) -> None:
    reply = post(PATH, {"model": NAME, "prompt": "x", "max_completion_tokens": 3, **also})
    assert (reply.status, reply.json["usage"]["completion_tokens"]) == (200, 3)


def test_every_option_reaches_the_engine(ai: Any, engine: FakeEngine) -> None:
    complete(
        ai, temperature=0.5, top_p=0.9, presence_penalty=1, frequency_penalty=-1, seed=7, logit_bias={"5": -100, "6": 2.5},
        extra_body={"top_k": 40, "min_p": 0.1, "repetition_penalty": 1.2, "ignore_eos": True, "min_tokens": 3}, max_tokens=50, user="me",
    )  # fmt: skip
    sampling = engine.asked[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.presence, sampling.frequency) == (0.5, 0.9, 1, -1)
    assert (sampling.top_k, sampling.min_p, sampling.repetition, sampling.ends, sampling.at_least) == (40, 0.1, 1.2, False, 3)
    assert (sampling.seed, sampling.bias, sampling.logprobs) == (7, {5: -100, 6: 2.5}, None)


def test_an_end_that_is_ignored_is_a_token_like_others(ai: Any) -> None:
    reply = complete(ai, max_tokens=N_TOKENS + 3, extra_body={"ignore_eos": True})
    assert (reply.choices[0].finish_reason, reply.usage.completion_tokens) == ("length", N_TOKENS + 3)
    assert reply.choices[0].text.startswith(ANSWER + " the")


def test_several_answers_to_several_prompts(ai: Any, engine: FakeEngine) -> None:
    engine.script = lambda prompt, sampling: [*codec().encode(f"{len(prompt.ids)}/{sampling.seed}", False), end_id()]
    reply = complete(ai, prompt=["a", "ab"], n=2, seed=-1)
    assert [(choice.index, choice.text) for choice in reply.choices] == [
        (0, f"2/{2**64 - 1}"), (1, "2/0"), (2, f"3/{2**64 - 1}"), (3, "3/0")
    ]  # fmt: skip
    assert reply.usage.prompt_tokens == 5
    chunks = list(complete(ai, prompt=["a", "ab"], n=2, seed=5, stream=True))
    texts = ["", "", "", ""]
    for chunk in chunks:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == ["2/5", "2/6", "3/5", "3/6"]


@pytest.mark.parametrize("given", ["a the", ["a the"], codec().encode("a the", True), [codec().encode("a the", True)]])
def test_a_prompt_in_each_form(ai: Any, engine: FakeEngine, given: Any) -> None:
    assert complete(ai, prompt=given, echo=True).choices[0].text == "a the" + ANSWER
    assert list(engine.asked[0].prompt.ids) == codec().encode("a the", True)


def test_echo_in_a_stream_comes_once(ai: Any) -> None:
    assert "".join(chunk.choices[0].text for chunk in complete(ai, echo=True, stream=True)) == "an end" + ANSWER


@pytest.mark.parametrize("streams", [False, True])
def test_a_prompt_that_is_echoed_is_judged_too(ai: Any, engine: FakeEngine, streams: bool) -> None:
    """As evaluation harnesses ask for it: a null for the first token, and places in the whole text."""
    ids = codec().encode("a the", True)
    reply = complete(ai, prompt=["a the", "an"], echo=True, logprobs=2, stream=streams, n=2)
    parts = [part.choices[0] for part in reply] if streams else list(reply.choices)
    assert all(asked.sampling.scores for asked in engine.asked)
    for index, (given, said) in enumerate([(ids, "a the")] * 2 + [(codec().encode("an", True), "an")] * 2):
        mine = [part for part in parts if part.index == index]
        assert "".join(part.text for part in mine) == said + ANSWER
        told = [part.logprobs for part in mine if part.logprobs]
        tokens = [token for one in told for token in one.tokens]
        offsets = [offset for one in told for offset in one.text_offset]
        values = [value for one in told for value in one.token_logprobs]
        assert len(tokens) == len(given) + N_TOKENS - 1
        assert values == [None] + [-0.5] * (len(tokens) - 1)
        assert told[0].top_logprobs[0] is None
        assert offsets == sorted(offsets)
        assert offsets[len(given)] == len(said), "the answer begins behind the prompt"
        assert "".join(tokens[: len(given)]).endswith(said)


def test_a_long_reply_is_the_same_written_elsewhere_than_on_the_event_loop(ai: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    plain = CompletionForm.whole

    def watched(self: CompletionForm, *args: Any) -> bytes:
        threads.append(threading.current_thread().name)
        return plain(self, *args)

    monkeypatch.setattr(CompletionForm, "whole", watched)
    found = []
    for most in (10_000, 0):
        monkeypatch.setattr("server.api.generation.exchange.AT_ONCE", most)
        found.append(complete(ai, prompt=["a the", "an"], echo=True, logprobs=2, n=2).choices)
    assert found[0] == found[1]
    assert threads[0] != threads[1]


@pytest.mark.parametrize("streams", [False, True])
def test_log_probabilities(ai: Any, streams: bool) -> None:
    reply = complete(ai, logprobs=3, stream=streams)
    told = [part.choices[0].logprobs for part in (reply if streams else [reply]) if part.choices[0].logprobs]
    tokens = [token for one in told for token in one.tokens]
    offsets = [offset for one in told for offset in one.text_offset]
    assert len(tokens) == N_TOKENS - 1
    assert offsets == sorted(offsets)
    assert (tokens[0], offsets[:2]) == (" ", [0, 1])
    assert set(told[0].token_logprobs) == {-0.5}
    assert told[0].top_logprobs[0] == {" ": -0.5, "!": -1.5, '"': -9999.0}
    assert any(token.startswith("bytes:\\x") for token in tokens), "part of a character has no text"


def test_log_probabilities_end_before_the_stop_text(ai: Any) -> None:
    told = complete(ai, logprobs=0, stop="STOP").choices[0].logprobs
    assert told.tokens[-1] == " "
    assert told.top_logprobs[-1] == {" ": -0.5}


def test_a_client_that_goes_away_stops_its_request(ai: Any, engine: FakeEngine) -> None:
    engine.script = lambda *_: [1]
    engine.step_s = 0.05
    stream = complete(ai, stream=True)
    next(iter(stream))
    stream.close()
    wait_until(lambda: engine.n_stopped == 1, "the engine hears of it")
    assert engine.asked[0].n_told < 150


def test_a_client_that_goes_away_before_its_whole_answer_stops_it_too(talking: Any, engine: FakeEngine) -> None:
    engine.script = lambda *_: [1]
    engine.step_s = 0.05
    openai = pytest.importorskip("openai")
    url = f"http://127.0.0.1:{talking.port}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=0.3) as ai, pytest.raises(openai.APITimeoutError):
        complete(ai)
    wait_until(lambda: engine.n_stopped == 1, "the engine hears of it")


def test_a_refusal_is_a_429_that_says_when(ai: Any, engine: FakeEngine) -> None:
    openai = pytest.importorskip("openai")
    engine.refusal = Refused("too many wait", "queue_full", 1.5)
    for streams in (False, True):
        with pytest.raises(openai.RateLimitError, match="too many wait") as found:
            complete(ai, stream=streams)
        assert found.value.response.headers["retry-after"] == "2"
        assert found.value.code == "queue_full"


def test_one_refused_answer_refuses_the_call_and_stops_the_others(ai: Any, engine: FakeEngine) -> None:
    openai = pytest.importorskip("openai")
    engine.breaks_after = (3, Refused("no room", "queue_full", None))
    with pytest.raises(openai.RateLimitError):
        complete(ai, n=2)


def test_a_failure_in_the_middle_is_told_in_the_stream(ai: Any, post: Post, engine: FakeEngine) -> None:
    openai = pytest.importorskip("openai")
    engine.breaks_after = (3, InstanceLost("the instance died; try again"))
    with pytest.raises(openai.APIError, match="the instance died"):
        list(complete(ai, stream=True))
    body = post(PATH, {"model": NAME, "prompt": "x", "stream": True, "max_tokens": 50}).body
    assert b'"error"' in body
    assert b"[DONE]" not in body
    with pytest.raises(openai.InternalServerError):
        complete(ai)


def test_terms_and_names_come_by_headers(post: Post, engine: FakeEngine) -> None:
    headers = {"X-Request-Timeout": "250ms", "X-Request-Priority": "high", "X-Request-Id": "mine"}
    assert post(PATH, {"model": NAME, "prompt": "x"}, headers=headers).status == 200
    timeout_s, arrived_at, priority = engine.asked[0].terms
    assert (timeout_s, priority, engine.asked[0].name) == (0.25, 1, "mine")
    assert arrived_at is not None
    bad = post(PATH, {"model": NAME, "prompt": "x"}, headers={"X-Request-Priority": "royal"})
    assert (bad.status, bad.json["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(("name", "status"), [("nobody", 404), ("words", 404)])
def test_an_unknown_model(post: Post, name: str, status: int) -> None:
    reply = post(PATH, {"model": name, "prompt": "x"})
    assert (reply.status, reply.json["error"]["code"], reply.json["error"]["param"]) == (status, "model_not_found", "model")


def test_a_prompt_that_leaves_no_room_is_told_both_numbers(ai: Any, engine: FakeEngine) -> None:
    openai = pytest.importorskip("openai")
    for given, tokens in (("x" * 250, 10), ("x" * 100_000, 1), ([1] * 256, 1)):
        with pytest.raises(openai.BadRequestError, match="256 tokens at most") as found:
            complete(ai, prompt=given, max_tokens=tokens)
        assert (found.value.code, found.value.param) == ("context_length_exceeded", "prompt")
    with pytest.raises(openai.BadRequestError, match="251"):
        complete(ai, prompt="x" * 250, max_tokens=10)
    assert engine.asked == []


def test_a_slow_reader_gets_it_all_and_holds_nobody_up(ai: Any, engine: FakeEngine) -> None:
    engine.script = spoken("the " * 60)
    slow = complete(ai, stream=True)
    first = next(iter(slow))
    for _ in range(3):
        assert complete(ai).choices[0].text.startswith("the the")
    wait_until(lambda: engine.asked[0].is_over, "the slow one's answer is complete")
    assert first.choices[0].text + "".join(chunk.choices[0].text for chunk in slow) == "the " * 60


class Slow:
    """A codec that does something else first, and remembers in which thread."""

    def __init__(self, first: Callable[[], None]) -> None:
        self._codec = codec()
        self._first = first
        self.threads: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)

    def encode(self, text: str, special: bool) -> list[int]:
        self._first()
        self.threads.add(threading.get_ident())
        return self._codec.encode(text, special)


@pytest.mark.parametrize(("n", "is_on_loop"), [(2, True), (60, False)])
def test_many_prompts_are_not_tokenised_on_the_event_loop(engine: FakeEngine, n: int, is_on_loop: bool) -> None:
    slow = Slow(lambda: None)
    loops: set[int] = set()
    engine.script = lambda _, __: loops.add(threading.get_ident()) or [end_id()]  # type: ignore[func-returns-value]
    with FakeServer(engine, FakeModels(fake_model(codec=slow))) as running:
        body = {"model": NAME, "prompt": ["a" * 100] * n, "max_tokens": 1}
        with closing(HTTPConnection("127.0.0.1", running.port, timeout=30)) as connection:
            assert call(connection, "POST", PATH, body).status == 200
    assert (slow.threads == loops) == is_on_loop


@pytest.mark.parametrize("path", [PATH, f"/v2/models/{NAME}/generate"])
def test_a_model_that_is_replaced_while_its_tokenizer_takes_time_is_asked_as_its_successor(
    engine: FakeEngine, path: str
) -> None:
    models = FakeModels(fake_model(codec=Slow(lambda: models.replace(fake_model(key=ModelKey(NAME, 4))))))
    with FakeServer(engine, models) as running:
        body = {"model": NAME, "prompt": "x"} if path == PATH else {"text_input": "x"}
        with closing(HTTPConnection("127.0.0.1", running.port, timeout=30)) as connection:
            assert call(connection, "POST", path, body).status == 200
    assert [asked.request.model for asked in engine.asked] == [ModelKey(NAME, 4)]
