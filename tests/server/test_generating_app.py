"""A whole server over a real (tiny) decoder, asked in every way there is; with and without front ends in other processes."""

from __future__ import annotations

import json
import queue
import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("tokenizers")

from tests.architecture.source import ROOT
from tests.child_server import ChildServer, wait_until
from tests.generating import codec
from tests.models import affine, publish_model
from tests.talker import publish_talker, talker

PROMPT = "the end of the answer"
N_TOKENS = 24
V2 = "/v2/models/talker"


@pytest.fixture(scope="module")
def talking_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talking")
    publish_talker(folder)
    publish_model(folder, "affine", affine())
    return folder


@pytest.fixture(scope="module", params=[0, 1], ids=["one process", "front end"])
def talking(
    request: pytest.FixtureRequest, talking_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ChildServer]:
    log = tmp_path_factory.mktemp("server") / "log"
    with ChildServer(talking_repository, log, "--frontends", str(request.param)) as running:
        yield running


@pytest.fixture(scope="module")
def wanted() -> str:
    """What the likeliest tokens say, by NumPy."""
    return codec().decode(talker().greedy(codec().encode(PROMPT, special=True), N_TOKENS))


@pytest.fixture
def ai(talking: ChildServer) -> Iterator[Any]:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"http://127.0.0.1:{talking.port}/v1", api_key="none", max_retries=0) as made:
        yield made


GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": N_TOKENS}
IGNORE = {"ignore_eos": True}


def complete(ai: Any, **fields: Any) -> Any:
    return ai.completions.create(model="talker", prompt=PROMPT, extra_body=IGNORE, **GREEDY, **fields)


def test_the_openai_client_gets_the_likeliest_text(ai: Any, wanted: str) -> None:
    reply = complete(ai)
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == (wanted, "length")
    assert reply.usage.completion_tokens == N_TOKENS
    assert "".join(chunk.choices[0].text for chunk in complete(ai, stream=True)) == wanted


def test_a_prompt_that_was_read_before_is_known(ai: Any) -> None:
    text = "the " * 50
    fields: dict[str, Any] = {"model": "talker", "prompt": text, "max_tokens": 2}
    ai.completions.create(**fields)
    usage = ai.completions.create(**fields).usage
    assert 0 < usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens


def test_a_stop_text_cuts_the_same_answer(ai: Any, wanted: str) -> None:
    stop = wanted[8:10]
    assert complete(ai, stop=stop).choices[0].text == wanted[: wanted.index(stop)]


def test_a_seed_gives_the_same_answer_again(ai: Any) -> None:
    def say() -> list[str]:
        reply = ai.completions.create(model="talker", prompt=PROMPT, max_tokens=16, seed=11, n=3, temperature=1.5)
        return [choice.text for choice in reply.choices]

    assert say() == say()
    assert len(set(say())) == 3


def test_a_chat_streams_with_log_probabilities(ai: Any) -> None:
    chunks = list(
        ai.chat.completions.create(
            model="talker", messages=[{"role": "user", "content": "hello"}], max_completion_tokens=8, stream=True, logprobs=True,
            top_logprobs=2, extra_body=IGNORE,
        )
    )  # fmt: skip
    content = [entry for chunk in chunks if chunk.choices[0].logprobs for entry in chunk.choices[0].logprobs.content]
    assert len(content) == 8
    assert all(entry.logprob <= 0 and len(entry.top_logprobs) == 2 for entry in content)
    assert chunks[-1].choices[0].finish_reason == "length"


def test_it_is_listed_and_described(talking: ChildServer, ai: Any) -> None:
    assert [model.id for model in ai.models.list()] == ["talker"]
    assert ai.models.retrieve("talker").created > 1_500_000_000
    metadata = talking.call("GET", V2).json
    config = talking.call("GET", f"{V2}/config").json
    names = ["text_input", "stream", "sampling_parameters", "exclude_input_in_output"]
    assert [entry["name"] for entry in metadata["inputs"]] == names, (
        "perf_analyzer refuses a model with an input that is missing"
    )
    assert [(entry["name"], entry["optional"]) for entry in config["input"]] == [(name, name != names[0]) for name in names]
    assert config["model_transaction_policy"] == {"decoupled": True}
    assert config["parameters"]["longest_tokens"] == {"string_value": "256"}
    assert talking.call("GET", f"{V2}/ready").status == 200
    assert talking.call("GET", "/v2/models/affine/config").json["model_transaction_policy"] == {"decoupled": False}


def test_infer_names_the_routes_to_use(talking: ChildServer) -> None:
    reply = talking.call("POST", f"{V2}/infer", {"inputs": []})
    assert reply.status == 400
    assert f"{V2}/generate" in reply.error
    assert "does not generate" in talking.call("POST", "/v2/models/affine/generate", {"text_input": "x"}).error
    embeddings = talking.call("POST", "/v1/embeddings", {"model": "talker", "input": "x"})
    assert (embeddings.status, embeddings.json["error"]["code"]) == (404, "model_not_found")


def test_triton_s_routes_say_the_same(talking: ChildServer, wanted: str) -> None:
    body = {"text_input": PROMPT, "exclude_input_in_output": True, "parameters": {**GREEDY, **IGNORE}}
    assert talking.call("POST", f"{V2}/generate", body).json["text_output"] == wanted
    events = talking.call("POST", f"{V2}/versions/1/generate_stream", body).body.decode().split("\n\n")[:-1]
    assert "".join(json.loads(event.removeprefix("data: "))["text_output"] for event in events) == wanted
    assert len(events) > 3, "piece by piece, as far as there are whole characters"


PERSON: dict[str, Any] = {
    "type": "object", "additionalProperties": False, "required": ["name", "age", "tags"],
    "properties": {
        "name": {"type": "string", "maxLength": 5}, "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "maxItems": 2, "items": {"enum": ["the", "STOP"]}},
    },
}  # fmt: skip
BY_SCHEMA: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}


def is_person(text: str) -> bool:
    value = json.loads(text)
    return (
        list(value) == ["name", "age", "tags"]
        and len(value["name"]) <= 5
        and 0 <= value["age"] <= 99
        and len(value["tags"]) <= 2
    )


def test_the_openai_client_gets_a_parsed_object(ai: Any) -> None:
    """Random weights: they would say anything."""
    pydantic = pytest.importorskip("pydantic")
    pytest.importorskip("llguidance")
    Person = pydantic.create_model(
        "Person", name=pydantic.constr(max_length=5), age=pydantic.conint(ge=0, le=99), likes=list[Literal["the", "STOP"]]
    )
    asked: dict[str, Any] = {"model": "talker", "messages": [{"role": "user", "content": "who?"}], "seed": 3}
    reply = ai.chat.completions.parse(**asked, response_format=Person, n=3)
    people = [choice.message.parsed for choice in reply.choices]
    assert [choice.finish_reason for choice in reply.choices] == ["stop"] * 3
    assert all(isinstance(person, Person) for person in people)
    assert len({choice.message.content for choice in reply.choices}) == 3
    with ai.chat.completions.stream(**asked, response_format=Person) as stream:
        assert stream.get_final_completion().choices[0].message.content == reply.choices[0].message.content


def test_what_is_held_to_a_schema_is_the_same_in_company(ai: Any) -> None:
    pytest.importorskip("llguidance")

    def ask(seed: int, form: dict[str, Any] | None) -> str:
        extra = {"response_format": form} if form else IGNORE
        return str(
            ai.completions.create(model="talker", prompt=PROMPT, max_tokens=150, seed=seed, extra_body=extra).choices[0].text
        )

    asked = [(seed, form) for seed in range(4) for form in (BY_SCHEMA, None, {"type": "json_object"})]
    alone = [ask(*one) for one in asked]
    with ThreadPoolExecutor(len(asked)) as pool:
        assert list(pool.map(lambda one: ask(*one), asked)) == alone
    assert all(is_person(text) for text, (_, form) in zip(alone, asked, strict=True) if form is BY_SCHEMA)


def test_a_value_that_is_cut_says_so_and_usage_counts_it(ai: Any) -> None:
    pytest.importorskip("llguidance")
    asked: dict[str, Any] = {
        "model": "talker",
        "messages": [{"role": "user", "content": "who?"}],
        "response_format": BY_SCHEMA,
        "seed": 1,
    }
    cut = ai.chat.completions.create(**asked, max_completion_tokens=5)
    assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 5)
    whole = ai.chat.completions.create(**asked)
    n_tokens = whole.usage.completion_tokens
    assert whole.choices[0].message.content.startswith(cut.choices[0].message.content)
    just = ai.chat.completions.create(**asked, max_completion_tokens=n_tokens)
    assert (just.choices[0].finish_reason, just.choices[0].message.content) == ("stop", whole.choices[0].message.content)
    stopped = ai.chat.completions.create(**asked, stop=['"age"'])
    assert (stopped.choices[0].finish_reason, '"age"' in stopped.choices[0].message.content) == ("stop", False)


def test_triton_s_routes_hold_answers_to_a_schema(talking: ChildServer) -> None:
    pytest.importorskip("llguidance")
    body = {
        "text_input": PROMPT,
        "parameters": {"response_format": BY_SCHEMA, "seed": 5, "max_tokens": 150, "exclude_input_in_output": True},
    }
    text = talking.call("POST", f"{V2}/generate", body).json["text_output"]
    assert is_person(text)
    triton = pytest.importorskip("tritonclient.grpc")
    told: queue.Queue[Any] = queue.Queue()
    inputs = []
    for name, value in (("text_input", PROMPT), ("sampling_parameters", json.dumps(body["parameters"]))):
        inputs.append(triton.InferInput(name, [1], "BYTES"))
        inputs[-1].set_data_from_numpy(np.array([value.encode()], np.object_))
    inputs.append(triton.InferInput("stream", [1], "BOOL"))
    inputs[-1].set_data_from_numpy(np.array([False]))
    with triton.InferenceServerClient(f"127.0.0.1:{talking.grpc_port}") as client:
        client.start_stream(lambda result, error: told.put((result, error)))
        client.async_stream_infer("talker", inputs)
        result, error = told.get(timeout=30)
        client.stop_stream()
    assert error is None
    assert result.as_numpy("text_output")[0].decode() == text


def test_tritonclient_streams_over_grpc(talking: ChildServer, wanted: str) -> None:
    triton = pytest.importorskip("tritonclient.grpc")
    told: queue.Queue[Any] = queue.Queue()
    text = triton.InferInput("text_input", [1], "BYTES")
    text.set_data_from_numpy(np.array([PROMPT.encode()], np.object_))
    streams = triton.InferInput("stream", [1], "BOOL")
    streams.set_data_from_numpy(np.array([True]))
    with triton.InferenceServerClient(f"127.0.0.1:{talking.grpc_port}") as client:
        assert client.get_model_config("talker").config.model_transaction_policy.decoupled
        metadata = client.get_model_metadata("talker")
        assert [entry.name for entry in metadata.outputs] == ["text_output"]
        listed = [entry.name for entry in client.get_model_config("talker").config.input]
        assert [entry.name for entry in metadata.inputs] == listed
        assert "sampling_parameters" in listed
        with pytest.raises(triton.InferenceServerException, match="generates text"):
            client.infer("talker", [text])
        client.start_stream(lambda result, error: told.put((result, error)))
        client.async_stream_infer("talker", [text, streams], parameters={**GREEDY, **IGNORE}, enable_empty_final_response=True)
        said, is_final = b"", False
        while not is_final:
            result, error = told.get(timeout=30)
            assert error is None
            output = result.as_numpy("text_output")
            said += output[0] if output is not None else b""
            is_final = result.get_response().parameters["triton_final_response"].bool_param
        client.stop_stream()
    assert said.decode() == wanted


def test_a_stream_is_not_held_back_and_a_client_that_leaves_frees_its_slot(talking: ChildServer) -> None:
    def resident() -> float:
        lines = talking.call("GET", "/metrics").body.decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("ferry_slots_used{"))

    body = json.dumps({"model": "talker", "prompt": "x", "max_tokens": 240, "stream": True, **IGNORE})
    connection = HTTPConnection("127.0.0.1", talking.port, timeout=30)
    connection.request("POST", "/v1/completions", body)
    assert connection.getresponse().readline().startswith(b"data: ")
    connection.close()
    wait_until(lambda: resident() == 0, "its slot is free")


def test_both_promises_are_among_the_metrics(talking: ChildServer) -> None:
    samples = talking.metrics()
    for objective in ("first_token", "token_gap"):
        labels = (("model", "talker"), ("objective", objective), ("version", "1"))
        assert samples["ferry_slo_seconds", labels] == 30.0


def test_how_far_its_steps_are_from_the_profile_is_among_the_metrics(talking: ChildServer) -> None:
    body = {"model": "talker", "prompt": "x", "max_tokens": 50, **IGNORE}
    assert talking.call("POST", "/v1/completions", body).status == 200
    samples, model = talking.metrics(), (("model", "talker"), ("version", "1"))
    assert samples["ferry_profile_ratio", model] not in (0.0, 1.0)
    by_profile = (("expected_by", "profile"), *model)
    assert samples["ferry_profile_error", by_profile] > 0


def test_the_examples_of_the_documentation_work(talking: ChildServer, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openai")
    blocks = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "generation.md").read_text(), re.DOTALL)
    for language, text in blocks:
        here = text.replace("localhost:8000", f"127.0.0.1:{talking.port}")
        if language == "python":
            exec(compile(here, language, "exec", dont_inherit=True), {"__name__": "example"})
            assert capsys.readouterr().out
        else:
            asked = re.findall(r"curl [^/]+(/\S+) -d '(.*)'", here)
            assert len(asked) == len(here.strip().splitlines())
            assert [talking.call("POST", path, body.encode()).status for path, body in asked] == [200] * len(asked)
    assert [language for language, _ in blocks] == ["sh", "python", "python"]


ODD: dict[str, list[Any]] = {
    "temperature": [0, 1e-300, 1e-5, 2, 0.7], "top_k": [-1, 0, 1, 2**31 - 1], "top_p": [1e-9, 1, 0.5], "min_p": [0, 1, 1e-9],
    "repetition_penalty": [0.01, 100, 1], "presence_penalty": [-2, 2], "frequency_penalty": [-2, 2], "seed": [-(2**63), 2**63 - 1, 0],
    "logit_bias": [{}, {"0": -100}, {str(token): -100 for token in range(300)}, {"299": 100}], "min_tokens": [0, 3],
    "max_tokens": [1, 2, 5], "stop": [[], "e", ["�", "\x00"], "a" * 256], "ignore_eos": [True, False],
    "stream": [True, False],
}  # fmt: skip
OPENAI: dict[str, list[Any]] = {
    "n": [1, 3],
    "logprobs": [0, 1, 20],
    "echo": [True, False],
    "prompt": ["\x00", "�", [0], [299] * 9],
}


def test_odd_options_get_an_answer_or_a_reason(talking: ChildServer) -> None:
    chance, statuses = random.Random(5), []
    for _ in range(150):
        path = chance.choice(["/v1/completions", f"{V2}/generate", f"{V2}/generate_stream"])
        odd = ODD | OPENAI if path.startswith("/v1") else ODD
        body = {name: chance.choice(odd[name]) for name in chance.sample(sorted(odd), 5)}
        reply = talking.call(
            "POST", path, {"model": "talker", "prompt": "x", **body} if odd != ODD else {"text_input": "x", **body}
        )
        assert reply.status in (200, 400), (path, body, reply)
        assert b"error" not in reply.body or reply.status == 400, (path, body, reply)
        statuses.append(reply.status)
    assert statuses.count(200) > 20


def test_who_cannot_be_served_in_time_is_told_when_to_try_again(talking: ChildServer) -> None:
    body = {"model": "talker", "prompt": "the " * 20}
    reply = talking.call("POST", "/v1/completions", body, {"X-Request-Timeout": "1ms"})
    assert (reply.status, reply.json["error"]["type"]) == (429, "rate_limit_error")
    body = {"text_input": "the " * 20, "timeout": 1000}
    assert talking.call("POST", f"{V2}/generate_stream", body).status == 503


def test_a_model_that_is_unloaded_answers_again_once_it_is_back(talking: ChildServer) -> None:
    assert talking.call("POST", "/v2/repository/models/talker/unload").status == 200
    for path, body in (("/v1/completions", {"model": "talker", "prompt": "x"}), (f"{V2}/generate", {"text_input": "x"})):
        assert talking.call("POST", path, body).status == 503
    assert talking.call("POST", "/v2/repository/models/talker/load").status == 200
    assert talking.call("POST", f"{V2}/generate", {"text_input": "x"}).status == 200
