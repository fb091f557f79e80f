"""Compressed replies: only on request of both sides, and readable with the length header counted unpacked."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.api.compression import choose_encoding
from server.api.infer import _compressed
from tests.child_server import ChildServer

ROWS = {"name": "x", "shape": [8, 4], "datatype": "FP32", "data": [0] * 32}
INFER = "/v2/models/affine/infer"


@pytest.fixture(scope="module")
def packing(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildServer]:
    log = tmp_path_factory.mktemp("packing") / "log"
    with ChildServer(tiny_repository, log, "--compress-from-bytes", "200") as running:
        yield running


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (b"", None), (b"identity", None), (b"br", None), (b"gzip", b"gzip"), (b"deflate", b"deflate"),
        (b"gzip, deflate, br", b"gzip"), (b"GZIP;q=0.2, deflate;q=0.8", b"deflate"), (b"gzip;q=0", None), (b"*", b"gzip"),
        (b"*;q=0", None), (b"gzip;q=0, *", b"deflate"), (b"identity, gzip;q=0.5", None), (b"identity;q=0, gzip;q=0.1", b"gzip"),
        (b"identity;q=0", None), (b"gzip;q=x", None), (b"gzip;q=-1", None), (b"gzip;q=nan", None), (b"gzip;q=9", None),
        (b"gzip;;;", b"gzip"), (b",,;=,", None),
    ],
)  # fmt: skip
def test_what_the_client_likes_best(accept: bytes, chosen: bytes | None) -> None:
    assert choose_encoding(accept) == chosen


@pytest.mark.parametrize(("encoding", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_a_large_reply_is_packed_and_the_length_counts_the_plain_json(packing: ChildServer, encoding: str, unpack: Any) -> None:
    body = {"inputs": [ROWS], "parameters": {"binary_data_output": True}}
    reply = packing.call("POST", INFER, body, {"Accept-Encoding": encoding})
    assert (reply.headers["content-encoding"], reply.headers["vary"]) == (encoding, "accept-encoding")
    plain = unpack(reply.body)
    length = int(reply.headers["inference-header-content-length"])
    assert json.loads(plain[:length])["outputs"][0]["shape"] == [8, 4]
    assert np.frombuffer(plain[length:], np.float32).tolist() == [1.0] * 32


def test_small_replies_and_clients_that_do_not_ask_get_it_plain(packing: ChildServer) -> None:
    assert "content-encoding" not in packing.call("POST", INFER, {"inputs": [ROWS]}).headers
    small = {"inputs": [{**ROWS, "shape": [1, 4], "data": [0] * 4}]}
    assert "content-encoding" not in packing.call("POST", INFER, small, {"Accept-Encoding": "gzip"}).headers


def test_a_reply_that_does_not_shrink_stays_as_it_is() -> None:
    noise, headers = np.random.default_rng(0).bytes(1000), [(b"content-length", b"1000")]
    found = asyncio.run(_compressed([(b"accept-encoding", b"gzip")], headers, noise))
    assert found == ([*headers, (b"vary", b"accept-encoding")], noise)


def test_the_official_client_reads_packed_replies(packing: ChildServer) -> None:
    triton = pytest.importorskip("tritonclient.http")
    given = triton.InferInput("x", [8, 4], "FP32")
    given.set_data_from_numpy(np.zeros((8, 4), np.float32))
    with triton.InferenceServerClient(f"127.0.0.1:{packing.port}") as client:
        for algorithm in ("gzip", "deflate"):
            result = client.infer("affine", [given], response_compression_algorithm=algorithm)
            assert result.as_numpy("y").tolist() == [[1.0] * 4] * 8
