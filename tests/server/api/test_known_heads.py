"""Which requests may skip the parser: byte for byte the head of one that the parser took for a plain infer request."""

from __future__ import annotations

from typing import Any

import pytest

from server.api.infer_head import InferHead
from server.api.known_heads import LONGEST_HEAD, MOST_HEADS, KnownHeads

BODY = b'{"inputs":[]}'


def scope(path: str = "/v2/models/m/infer", method: str = "POST", **headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "headers": pairs}


def head(path: str = "/v2/models/m/infer", more: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\n{more}Content-Length: {len(BODY)}\r\n\r\n".encode()


def known(compresses: bool = False) -> KnownHeads:
    return KnownHeads(max_body_bytes=1000, compresses=compresses)


LENGTH = {"content_length": str(len(BODY))}


def test_the_same_bytes_again_are_known_with_any_body_of_that_length() -> None:
    heads = known()
    assert heads.find(head() + BODY) is None
    heads.learn(head() + BODY, scope(**LENGTH))
    other = BODY[::-1]
    assert heads.find(head() + other) == (InferHead("m", None, len(BODY), None, b"identity"), len(head()))


def test_a_body_may_still_be_on_its_way() -> None:
    heads = known()
    heads.learn(head() + BODY[:4], scope(**LENGTH))
    for n in (0, 1, len(BODY)):
        found = heads.find(head() + BODY[:n])
        assert found is not None
        assert found[1] == len(head())


def test_what_the_head_says_is_kept() -> None:
    heads = known()
    path = "/v2/models/m/versions/3/infer"
    data = head(path, "Inference-Header-Content-Length: 5\r\n") + BODY
    heads.learn(data, scope(path, **LENGTH, inference_header_content_length="5"))
    assert heads.find(data) == (InferHead("m", "3", len(BODY), 5, b"identity"), len(data) - len(BODY))


@pytest.mark.parametrize(
    "data",
    [
        head() + BODY + b" ",
        head(more="X: y\r\n") + BODY,
        (head() + BODY).lower(),
        head()[:-2],
        b"",
        b"\r\n\r\n",
    ],
    ids=range(6),
)
def test_all_else_is_not(data: bytes) -> None:
    heads = known()
    heads.learn(head() + BODY, scope(**LENGTH))
    assert heads.find(data) is None


@pytest.mark.parametrize(
    ("data", "made"),
    [
        (head() + BODY, scope("/v2/models/m/ready", **LENGTH)),
        (head() + BODY, scope("/v2/models/infer", **LENGTH)),
        (head() + BODY, scope(method="GET", **LENGTH)),
        (head() + BODY, scope()),
        (head() + BODY, scope(**LENGTH, content_encoding="gzip")),
        (head() + BODY, scope(content_length="1001")),
        (head() + BODY, scope(**LENGTH, inference_header_content_length="99")),
        (head() + BODY, scope(**LENGTH, inference_header_content_length="x")),
        (head() + BODY + head(), scope(**LENGTH)),
        (head(more=f"X: {'y' * LONGEST_HEAD}\r\n") + BODY, scope(**LENGTH)),
        (b"no end", scope(content_length="0")),
    ],
    ids=range(11),
)
def test_what_is_unusual_is_not_learnt(data: bytes, made: dict[str, Any]) -> None:
    heads = known()
    heads.learn(data, made)
    assert heads.find(data) is None


def test_where_replies_are_compressed_who_accepts_it_goes_the_long_way() -> None:
    asks = scope(**LENGTH, accept_encoding="gzip")
    for heads, is_known in ((known(), True), (known(compresses=True), False)):
        heads.learn(head() + BODY, asks)
        assert (heads.find(head() + BODY) is not None) == is_known


def test_memory_is_bounded_whatever_clients_send() -> None:
    heads = known()
    for number in range(MOST_HEADS + 10):
        heads.learn(head(more=f"X: {number}\r\n") + BODY, scope(**LENGTH))
    assert heads.find(head(more="X: 0\r\n") + BODY) is None
    assert heads.find(head(more=f"X: {MOST_HEADS + 9}\r\n") + BODY) is not None
    assert heads.n_known == 10
