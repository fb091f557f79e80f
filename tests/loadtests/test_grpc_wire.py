"""Our own messages against the server's, and calls to the library's own gRPC server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import pytest

from loadtests.call import call
from loadtests.errors import BadInput, MalformedReply, ServerError
from loadtests.grpc_wire import decode, infer_request, metadata_request, read_metadata
from loadtests.protocols import Protocol
from loadtests.target import metadata, target
from loadtests.tensors import to_bf16
from loadtests.wire import Head, Response
from server.grpc_api import messages as pb
from tests.loadtests.fake_grpc import doubled, grpc_server
from tests.loadtests.test_cli import ferry_loadtest, only

HOST = "127.0.0.1"


def message_of(request: bytes, kind: Any) -> Any:
    return kind.FromString(request[9 + int.from_bytes(request[:3], "big") + 5 :])


def answer(reply: Any) -> Response:
    return Response(Head(200, {}, 0, False), reply.SerializeToString())


def test_requests_are_the_protocols_own_messages() -> None:
    row = {
        "x": np.arange(6, dtype="f4").reshape(2, 3),
        "s": np.array([[b"one", b"\xff"]], object),
        "b": to_bf16(np.ones((1, 2))),
    }
    found = message_of(infer_request("h", "m", row, version="7"), pb.ModelInferRequest)
    assert (found.model_name, found.model_version) == ("m", "7")
    assert [(one.name, one.datatype, list(one.shape)) for one in found.inputs] == [
        ("x", "FP32", [2, 3]), ("s", "BYTES", [1, 2]), ("b", "BF16", [1, 2]),
    ]  # fmt: skip
    assert found.raw_input_contents[0] == row["x"].tobytes()
    assert found.raw_input_contents[1] == b"\3\0\0\0one\1\0\0\0\xff"
    assert found.raw_input_contents[2] == b"\x80\x3f" * 2
    asked = message_of(metadata_request("h", "m", "2"), pb.ModelMetadataRequest)
    assert (asked.name, asked.version) == ("m", "2")


def test_the_deadline_is_the_calls_own() -> None:
    assert b"grpc-timeout" not in infer_request("h", "m", {})
    assert b"50000u" in infer_request("h", "m", {}, timeout_us=50_000)
    assert b"200000m" in infer_request("h", "m", {}, timeout_us=200_000_000)
    assert b"99999999m" in infer_request("h", "m", {}, timeout_us=10**15)


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("FP32", "fp32_contents", [1.5, -2.0]), ("INT8", "int_contents", [-3, 4]), ("UINT64", "uint64_contents", [2**63, 1]),
        ("BOOL", "bool_contents", [True, False]), ("BYTES", "bytes_contents", [b"a", b"\xff"]),
    ],
)  # fmt: skip
def test_typed_answers_are_read(datatype: str, field: str, values: list[Any]) -> None:
    reply = pb.ModelInferResponse()
    reply.outputs.add(name="y", datatype=datatype, shape=[1, 2], contents={field: values})
    assert decode(answer(reply))["y"].tolist() == [values]


def test_answers_that_do_not_fit_themselves_are_malformed() -> None:
    few, unknown, short = pb.ModelInferResponse(), pb.ModelInferResponse(), pb.ModelInferResponse()
    few.outputs.add(name="y", datatype="FP32", shape=[2], contents={"fp32_contents": [1.0]})
    unknown.outputs.add(name="y", datatype="FP16", shape=[2])
    short.outputs.add(name="y", datatype="FP32", shape=[1])
    short.raw_output_contents.extend([b"1234", b"1234"])
    for reply in (few, unknown, short):
        with pytest.raises(MalformedReply):
            decode(answer(reply))
    with pytest.raises(MalformedReply, match="ModelInferResponse"):
        decode(Response(Head(200, {}, 0, False), b"\xff\xff"))
    with pytest.raises(ServerError, match="status 503: UNAVAILABLE"):
        decode(Response(Head(503, {}, 0, False), b"UNAVAILABLE: full"))


def test_a_real_server_is_asked_and_told_apart() -> None:
    with grpc_server(n_elements=300_000) as port:
        to = target(f"grpc://{HOST}:{port}", "m")
        assert [one.shape for one in metadata(to)] == [(-1, 300_000)]
        x = np.random.default_rng(0).random((1, 300_000)).astype("f4")
        found = call(HOST, port, to.protocol.infer_request(to.authority, "m", {"x": x}, binary=False, version=None, timeout_us=None),
                     protocol=Protocol.GRPC)  # fmt: skip
        np.testing.assert_array_equal(decode(found)["y"], 2 * x)
        with pytest.raises(ServerError, match=r"NOT_FOUND: unknown model 'n' – 100%"):
            metadata(target(f"grpc://{HOST}:{port}", "n"))
        with pytest.raises(ServerError, match="UNIMPLEMENTED"):
            read_metadata(call(HOST, port, metadata_request(to.authority, "m", None).replace(b"Metadata", b"Metadatb"), protocol=to.protocol))  # fmt: skip


def test_every_call_is_counted_once_by_what_became_of_it(tmp_path: Path) -> None:
    ends = {
        1: (grpc.StatusCode.UNAVAILABLE, "queue of 12 is full"), 3: (grpc.StatusCode.DEADLINE_EXCEEDED, "over"),
        5: (grpc.StatusCode.INTERNAL, "it broke"), 6: (grpc.StatusCode.RESOURCE_EXHAUSTED, "no memory"),
    }  # fmt: skip

    def script(number: int, request: Any) -> Any:
        return doubled(number, request) if number < 70 else ends.get(number % 10) or doubled(number, request)

    flags = ["--model", "m", "--rate", 300, "--duration", "1s", "--slo", "5s", "--verify", "--processes", 2, "--out", tmp_path]
    with grpc_server(script) as port:
        ferry_loadtest("--url", f"grpc://{HOST}:{port}", *flags, "--tell-slo")
    content = orjson.loads(only(tmp_path, "json").read_bytes())
    counts = content["traffic"]["m"]["counts"]
    assert set(counts["refused"]) == {"503 UNAVAILABLE: queue of N is full", "429 RESOURCE_EXHAUSTED: no memory"}
    assert set(counts["failed"]) == {"INTERNAL: it broke"}
    assert counts["timed_out"] > 10
    n_lost = sum(counts["refused"].values()) + sum(counts["failed"].values()) + counts["timed_out"]
    assert counts["in_slo"] + counts["late"] + n_lost + counts["never_sent"] == counts["scheduled"]
    assert counts["never_sent"] == 0
    assert "UNAVAILABLE: queue of N is full" in only(tmp_path, "html").read_text()


def test_wrong_answers_are_found(tmp_path: Path) -> None:
    def script(number: int, request: Any) -> Any:
        reply = doubled(number, request)
        if number > 80:
            reply.raw_output_contents[0] = bytes(16)
        return reply

    with grpc_server(script) as port:
        url = ["--url", f"grpc://{HOST}:{port}", "--model", "m", "--slo", "5s", "--verify", "--out", tmp_path]
        assert ferry_loadtest(*url, "--rate", 100, "--duration", "1s") == 1
    content = orjson.loads(only(tmp_path, "json").read_bytes())
    assert set(content["traffic"]["m"]["counts"]["failed"]) == {"wrong answer: output y differs"}


def test_closed_loops_searches_and_sweeps_speak_it(tmp_path: Path) -> None:
    with grpc_server() as port:
        url = ["--url", f"grpc://{HOST}:{port}", "--model", "m"]
        assert ferry_loadtest(*url, "--closed", 4, "--duration", "300ms", "--verify", "--out", tmp_path / "closed") == 0
        ferry_loadtest(*url, "--sweep", "--rate", 100, "--slo", "2s", "--probe", "400ms", "--out", tmp_path / "sweep")
    closed = orjson.loads(only(tmp_path / "closed", "json").read_bytes())["closed"]
    assert closed["answered"] == closed["sent"] > 10
    assert (closed["wrong"], closed["failed"], closed["timed_out"]) == (0, 0, 0)
    sweep = orjson.loads(only(tmp_path / "sweep", "json").read_bytes())["sweep"]
    assert all(one["counts"]["failed"] == {} for one in sweep)


def test_what_does_not_go_with_grpc_is_one_clear_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with grpc_server() as port:
        flags = ["--url", f"grpc://{HOST}:{port}", "--model", "m", "--rate", 10, "--duration", "300ms", "--slo", "1s"]
        cases = [
            (["--binary"], "always binary"),
            (["--scenario", "hot_reload"], "--admin-url"),
            (["--scenario", "slow_clients"], "HTTP only"),
            (["--url", f"http://{HOST}:{port}"], "closed the connection"),
        ]
        for words, message in cases:
            assert ferry_loadtest(*flags, *words) == 1
            assert message in capsys.readouterr().err


def test_tls_is_refused_with_a_way_out() -> None:
    for scheme in ("https", "grpcs"):
        with pytest.raises(BadInput, match="behind whatever ends TLS"):
            target(f"{scheme}://h:1", "m")
    assert target("grpc://127.0.0.1", "m").port == 8001
