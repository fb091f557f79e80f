"""ModelStreamInfer to a model that generates, by the unmodified tritonclient, over an engine that says what it is told."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Iterator
from typing import Any, cast

import grpc
import numpy as np
import pytest

pytest.importorskip("tokenizers")

from server.errors import InstanceLost, NotFound
from server.generation.serving import GeneratingEngine
from server.grpc_api import messages as pb
from server.grpc_api.generate import Generation
from server.grpc_api.infer import Inference
from server.grpc_api.messages import INFERENCE_SERVICE
from server.grpc_api.stream import StreamInference
from tests.child_server import wait_until
from tests.fake_generation import ANSWER, NAME, FakeEngine, FakeModels, fake_model, spoken
from tests.generating import codec, end_id

LIMIT_S = 30.0


class NoModels:
    def find(self, name: str, version: str | None = None) -> Any:
        raise NotFound(f"unknown model {name!r}")


async def _serve(engine: FakeEngine, started: queue.Queue[int], stop: asyncio.Event) -> None:
    server = grpc.aio.server()
    inference = Inference(cast(Any, None), NoModels(), 1 << 20)
    streams = StreamInference(inference, Generation(cast(GeneratingEngine, engine), FakeModels(fake_model())))
    methods = {"ModelStreamInfer": grpc.stream_stream_rpc_method_handler(streams.serve)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(INFERENCE_SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    started.put(port)
    await stop.wait()
    await server.stop(0)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(spoken())


@pytest.fixture
def port(engine: FakeEngine) -> Iterator[int]:
    started: queue.Queue[int] = queue.Queue()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(_serve(engine, started, stop),))
    thread.start()
    yield started.get(timeout=LIMIT_S)
    loop.call_soon_threadsafe(stop.set)
    thread.join(LIMIT_S)
    loop.close()


class Streamed:
    """One stream of the official client, and what came."""

    def __init__(self, port: int) -> None:
        self.triton = pytest.importorskip("tritonclient.grpc")
        self.client = self.triton.InferenceServerClient(f"127.0.0.1:{port}")
        self.told: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self.client.start_stream(lambda result, error: self.told.put((result, error)))

    def ask(
        self, text: str, model: str = NAME, inputs: tuple[Any, ...] = (), stream: bool | None = True, **fields: Any
    ) -> None:
        """`stream` None: not said."""
        said = [] if stream is None else [self.input("stream", [stream])]
        self.client.async_stream_infer(model, [self.input("text_input", [text.encode()]), *said, *inputs], **fields)

    def input(self, name: str, values: list[Any]) -> Any:
        array = np.array(values, np.object_ if isinstance(values[0], bytes) else np.bool_)
        made = self.triton.InferInput(name, list(array.shape), "BOOL" if array.dtype == np.bool_ else "BYTES")
        made.set_data_from_numpy(array)
        return made

    def answer(self) -> list[Any]:
        """Messages until the last one of one request."""
        found = []
        while True:
            result, error = self.told.get(timeout=LIMIT_S)
            assert error is None, error
            found.append(result)
            if result.get_response().parameters["triton_final_response"].bool_param:
                return found

    def error(self) -> str:
        result, error = self.told.get(timeout=LIMIT_S)
        assert result is None
        return str(error)


@pytest.fixture
def stream(port: int) -> Iterator[Streamed]:
    opened = Streamed(port)
    yield opened
    opened.client.stop_stream()
    opened.client.close()


def text_of(messages: list[Any]) -> str:
    outputs = [message.as_numpy("text_output") for message in messages]
    return b"".join(output[0] for output in outputs if output is not None).decode()


def test_an_answer_comes_piece_by_piece(stream: Streamed, engine: FakeEngine) -> None:
    stream.ask("an end", request_id="mine", parameters={"max_tokens": 100, "temperature": 0})
    messages = stream.answer()
    assert text_of(messages) == ANSWER
    assert len(messages) > 5
    first = messages[0].get_response()
    assert (first.model_name, first.model_version, first.id) == (NAME, "3", "mine")
    assert list(engine.asked[0].prompt.ids) == codec().encode("an end", True)
    assert (engine.asked[0].sampling.temperature, engine.asked[0].name) == (0, "mine")


def test_who_asks_for_it_gets_an_empty_last_message(stream: Streamed) -> None:
    stream.ask("x", enable_empty_final_response=True, parameters={"max_tokens": 100})
    messages = stream.answer()
    assert text_of(messages) == ANSWER
    assert len(messages[-1].get_response().outputs) == 0
    assert all(len(message.get_response().outputs) == 1 for message in messages[:-1])


def test_an_answer_without_text_ends_all_the_same(stream: Streamed, engine: FakeEngine) -> None:
    engine.script = lambda *_: [end_id()]
    stream.ask("x")
    assert text_of(stream.answer()) == ""


def test_options_come_as_inputs_too(stream: Streamed, engine: FakeEngine) -> None:
    options = json.dumps({"stop": ["STOP"], "max_tokens": 100, "logit_bias": {"5": 1}}).encode()
    inputs = (stream.input("sampling_parameters", [options]), stream.input("exclude_input_in_output", [False]))
    stream.ask("an end", inputs=inputs, stream=False)
    (message,) = stream.answer()
    assert text_of([message]) == "an end" + ANSWER[: ANSWER.index("STOP")]
    assert engine.asked[0].sampling.bias == {5: 1}


@pytest.mark.parametrize("streams", [None, False])
def test_without_stream_there_is_one_response_with_everything(stream: Streamed, streams: bool | None) -> None:
    """As Triton's vLLM backend answers; the text comes first unless it is left out."""
    stream.ask("an end", stream=streams, parameters={"max_tokens": 100})
    (message,) = stream.answer()
    assert text_of([message]) == "an end" + ANSWER
    stream.ask(
        "an end",
        inputs=(stream.input("exclude_input_in_output", [True]),),
        stream=streams,
        parameters={"max_tokens": 100},
    )
    (message,) = stream.answer()
    assert text_of([message]) == ANSWER


def test_the_samples_of_tritons_vllm_backend_are_answered(stream: Streamed, engine: FakeEngine) -> None:
    """`samples/client.py` and genai-perf: options as texts, and twice; what is said as an input wins."""
    options = {"temperature": "0.5", "top_p": "0.95", "max_tokens": "100", "min_tokens": "3", "ignore_eos": "true"}
    told = stream.input("sampling_parameters", [json.dumps(options).encode()])
    engine.script = lambda *_: codec().encode("x" * 200, False)
    stream.ask("an end", inputs=(told,), parameters={**options, "max_tokens": "7", "top_k": "5"})
    assert text_of(stream.answer()) == "x" * 100
    asked = engine.asked[0]
    assert (asked.sampling.temperature, asked.sampling.top_p, asked.sampling.at_least) == (0.5, 0.95, 3)
    assert (asked.sampling.ends, asked.sampling.top_k, asked.prompt.new_tokens) == (False, 5, 100)


def test_a_text_is_not_repeated_in_a_stream(stream: Streamed) -> None:
    stream.ask("x", inputs=(stream.input("exclude_input_in_output", [False]),))
    assert "'exclude_input_in_output' cannot be false in a stream" in stream.error()


def test_answers_of_one_stream_do_not_wait_for_each_other(stream: Streamed, engine: FakeEngine) -> None:
    engine.script = lambda prompt, _: [*codec().encode("x" * (100 if len(prompt.ids) < 4 else 1), False), end_id()]
    stream.ask("ab", request_id="long", parameters={"max_tokens": 200})
    stream.ask("abcdefghi", request_id="short", parameters={"max_tokens": 200})
    ends: list[str] = []
    texts = {"long": "", "short": ""}
    while len(ends) < 2:
        result, error = stream.told.get(timeout=LIMIT_S)
        assert error is None
        response = result.get_response()
        texts[response.id] += text_of([result])
        if response.parameters["triton_final_response"].bool_param:
            ends.append(response.id)
    assert ends == ["short", "long"]
    assert texts == {"long": "x" * 100, "short": "x"}


def test_errors_are_told_in_the_stream_which_goes_on(stream: Streamed, engine: FakeEngine) -> None:
    stream.ask("x", parameters={"tone": "kind"})
    assert "'tone' is not known" in stream.error()
    stream.ask("x" * 300)
    assert "takes 256 tokens at most" in stream.error()
    stream.ask("x", model="nobody")
    assert "unknown model 'nobody'" in stream.error()
    engine.breaks_after = (0, InstanceLost("the instance died; try again"))
    stream.ask("x")
    assert "the instance died" in stream.error()
    engine.breaks_after = None
    stream.ask("x", parameters={"max_tokens": 100})
    assert text_of(stream.answer()) == ANSWER


def test_a_client_that_goes_away_stops_its_requests(port: int, engine: FakeEngine) -> None:
    engine.script = lambda *_: [1]
    engine.step_s = 0.05
    opened = Streamed(port)
    for _ in range(3):
        opened.ask("x", parameters={"max_tokens": 200})
    opened.told.get(timeout=LIMIT_S)
    opened.client.stop_stream(cancel_requests=True)
    opened.client.close()
    wait_until(lambda: engine.n_stopped == 3, "the engine hears of it")


def message(**changes: Any) -> Any:
    made = pb.ModelInferRequest(model_name=NAME)
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"x"]}, **changes}
    made.inputs.add(**tensor)
    return made


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (pb.ModelInferRequest(model_name=NAME), "'text_input' is empty or missing"),
        (message(shape=[2], contents={"bytes_contents": [b"x", b"y"]}), "must have the shape"), (message(name="x"), "no input 'x'"),
        (message(datatype="INT64"), "is BYTES"), (message(contents={"bytes_contents": [b"\xff"]}), "not UTF-8"),
        (message(contents={}), "holds 1 elements"), (message(contents={"int_contents": [1]}), "travels in bytes_contents"),
        (message(name="sampling_parameters"), "must be a JSON object"), (message(name="stream"), "is BOOL"),
    ],
)  # fmt: skip
def test_bad_messages_are_refused(port: int, made: Any, says: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        call = opened.stream_stream(f"/{INFERENCE_SERVICE}/ModelStreamInfer")
        (reply,) = call(iter([made.SerializeToString()]), timeout=LIMIT_S)
    assert says in pb.ModelStreamInferResponse.FromString(reply).error_message
