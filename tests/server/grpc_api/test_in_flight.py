"""Calls that take a while: cancellation, deadlines, disconnects, a stop in the middle. With a model of some 100 ms."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from server.contract.layout import read_version
from server.grpc_api import messages as pb
from tests.child_server import ChildServer, wait_until
from tests.server.grpc_api.calls import SERVICE, channel, infer, request

pytest.importorskip("onnx")

LABELS = (("model", "slow"), ("version", "1"))


def slow_model() -> bytes:
    """y = x, after products of large matrices that do not matter."""
    from onnx import helper

    from tests.models import onnx_bytes

    size, n_products = 1000, 6
    products = [helper.make_node("MatMul", [f"m{place}", "large"], [f"m{place + 1}"]) for place in range(n_products)]
    return onnx_bytes(
        [
            helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
            helper.make_node("Mul", ["large", "sum"], ["m0"]),
            *products,
            helper.make_node("ReduceSum", [f"m{n_products}", "axes"], ["all"], keepdims=0),
            helper.make_node("Mul", ["all", "zero"], ["nothing"]),
            helper.make_node("Add", ["x", "nothing"], ["y"]),
        ],
        [("x", "FP32", ["batch", 2])],
        [("y", "FP32", ["batch", 2])],
        {"axes": np.array([0, 1]), "large": np.full((size, size), 1e-3, np.float32), "zero": np.float32(0)},
    )


@pytest.fixture(scope="module")
def slow_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.models import publish_model

    folder = tmp_path_factory.mktemp("slow")
    publish_model(folder, "slow", slow_model(), max_rows=1)
    return folder


@pytest.fixture
def slow(slow_repository: Path, start_server: Callable[..., ChildServer]) -> ChildServer:
    return start_server(slow_repository)


def ask(number: int = 0, **fields: Any) -> Any:
    return request("slow", ("x", "FP32", np.full((1, 2), number, np.float32)), id=str(number), **fields)


def futures(opened: grpc.Channel, n: int, timeout: float | None = 30.0) -> list[Any]:
    call = opened.unary_unary(f"{SERVICE}ModelInfer")
    return [call.future(ask(number).SerializeToString(), timeout=timeout) for number in range(n)]


def count(server: ChildServer, name: str) -> float:
    return server.metrics()[f"ferry_{name}", LABELS]


def outcome(future: Any) -> str:
    return "CANCELLED" if future.cancelled() else str(future.code().name)


def test_a_cancelled_call_leaves_the_queue_and_its_neighbours_alone(slow: ChildServer) -> None:
    with channel(slow.grpc_port) as opened:
        calls = futures(opened, 8)
        wait_until(lambda: count(slow, "in_flight") >= 6, "requests in the queue")
        for call in calls[4:]:
            call.cancel()
        assert [outcome(call) for call in calls[:4]] == ["OK"] * 4
        wait_until(lambda: count(slow, "in_flight") == 0, "an empty queue")
    assert count(slow, "cancelled_total") >= 3
    assert "a bug in ferry" not in slow.log


def test_a_deadline_decides_about_admission_and_the_refusal_says_when_to_come_back(
    slow_repository: Path, slow: ChildServer
) -> None:
    alone_s = read_version(slow_repository / "slow", 1).profiles.profiles[0].predict(1, 0)  # however busy the machine was then
    with channel(slow.grpc_port) as opened:
        assert infer(opened, ask(), timeout=None).id == "0"
        calls = futures(opened, 40, timeout=5 * alone_s)
        refused = [call for call in calls if outcome(call) == "UNAVAILABLE"]
        assert refused
        assert all("allowed" in call.details() for call in refused)
        told = [dict(call.trailing_metadata()) for call in refused]
        metadata = next(one for one in told if "retry-after" in one)  # one that is too late even alone is not to come back
        assert 1 <= int(metadata["retry-after"]) <= 1 + 40 * alone_s
        assert 0 < int(metadata["grpc-retry-pushback-ms"]) <= 1e3 * 40 * alone_s
        assert {outcome(call) for call in calls} <= {"OK", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
        wait_until(lambda: count(slow, "in_flight") == 0, "an empty queue")


def test_the_timeout_parameter_shortens_a_longer_deadline(slow: ChildServer) -> None:
    hopeless = ask()
    hopeless.parameters["timeout"].uint64_param = 2000
    with channel(slow.grpc_port) as opened, pytest.raises(grpc.RpcError) as caught:
        infer(opened, hopeless)
    assert caught.value.code().name == "UNAVAILABLE"
    assert "2 ms" in caught.value.details()


def stream(opened: grpc.Channel, messages: Iterator[bytes]) -> Any:
    return opened.stream_stream(f"{SERVICE}ModelStreamInfer")(messages)


def test_the_end_of_a_client_s_side_waits_for_what_is_outstanding(slow: ChildServer) -> None:
    with channel(slow.grpc_port) as opened:
        replies = [
            pb.ModelStreamInferResponse.FromString(reply)
            for reply in stream(opened, (ask(number).SerializeToString() for number in range(6)))
        ]
    assert [reply.infer_response.id for reply in replies] == list("012345")
    assert [reply.error_message for reply in replies] == [""] * 6


def test_a_client_that_leaves_takes_its_stream_s_requests_along(slow: ChildServer) -> None:
    opened = channel(slow.grpc_port)
    held = (ask(number).SerializeToString() for number in range(20))
    call = stream(opened, held)
    wait_until(lambda: count(slow, "in_flight") >= 5, "requests in the queue")
    call.cancel()
    opened.close()
    wait_until(lambda: count(slow, "in_flight") == 0, "an empty queue")
    assert count(slow, "cancelled_total") >= 3
    assert "a bug in ferry" not in slow.log
    assert "Traceback" not in slow.log


def test_a_stop_answers_what_was_accepted_and_ends_idle_streams(slow: ChildServer) -> None:
    release: list[bool] = []

    def idle() -> Iterator[bytes]:
        yield ask(7).SerializeToString()
        wait_until(lambda: bool(release), "the end of the test")

    with channel(slow.grpc_port) as opened:
        replies = stream(opened, idle())
        assert pb.ModelStreamInferResponse.FromString(next(replies)).infer_response.id == "7"
        calls = futures(opened, 6)
        wait_until(lambda: count(slow, "in_flight") >= 4, "requests in the queue")
        began = time.monotonic()
        assert slow.stop() == 0
        assert time.monotonic() - began < 10
        assert {outcome(call) for call in calls} == {"OK"}
        with pytest.raises(grpc.RpcError) as caught:
            next(replies)
        assert caught.value.code().name == "UNAVAILABLE"
        release.append(True)
    assert "Traceback" not in slow.log
