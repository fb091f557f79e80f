"""HTTP requests for the fuzzer: good ones of every kind, and what can be done to them. Each follows from its number alone."""

from __future__ import annotations

import gzip
import json
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.fuzz.shared_memory import HOSTILE_KEYS, shared_request

LENGTH = "Inference-Header-Content-Length"
HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 1e308, 0.5, "", "x", "ä\u0000", "a" * 3000, [], {},
    [[]], [1, [2]], [None], {"x": {}}, "NaN", [0] * 500, "BYTES", "FP32", "INT64", {"binary_data_size": 16}, ["x"], "\ud7ff",
    {"shared_memory_region": "fuzz-0"}, {"shared_memory_region": "fuzz-1", "shared_memory_byte_size": 16, "binary_data_size": 16},
    *HOSTILE_KEYS[:8],
]  # fmt: skip
RAW_WORDS = [
    b"NaN", b"Infinity", b"1e400", b"-0", b"[" * 2000, b"{" * 40, b"\xff\xfe", b"\x00", b'"', b"\\u0000", b"\\ud800", b",", b"]", b"}",
    b"9" * 40, b"-", b"1.", b"null", b'"inputs"', b'"parameters":{"timeout":1}', b'"classification":3', b"\r\n", b" ", b"%2e%2e",
    b'"shared_memory_offset":16,', b'"shared_memory_region":"fuzz-2"',
]  # fmt: skip
LENGTHS = [
    "0", "1", "-1", "+1", "", " ", "ten", "0x10", "1e3", "9" * 30, "18446744073709551616", "2147483648", "1,2", "007", "\u0661",
]  # fmt: skip
HEADERS = [
    ("Content-Encoding", "gzip"), ("Content-Encoding", "deflate"), ("Content-Encoding", "br"), ("Content-Encoding", ""),
    ("Accept-Encoding", "gzip;q=nan, *;q=;,"), ("Content-Type", "text/plain"), ("Expect", ""), ("Expect", "100-continue"),
    ("X-Long", "a" * 5000), ("Cookie", "\xff\xfe"), ("Authorization", "Bearer"), ("Range", "bytes=5-1"), ("Accept", "*/*;q=x"),
]  # fmt: skip
PATHS = ["/", "//", "/v2", "/v2/models//infer", "/v2/models/%00/infer", "/v2/models/affine/versions/%2e/infer", "/v2/../etc", "*",
         "/v2/models/affine/infer?" + "q" * 900, "/v2/models/%FF%FE/infer", "/v2/models/two/versions/" + "9" * 200 + "/infer",
         "/v2/models/affine/generate", "/v1/completions", "/v1/chat/completions", "/v1/models/words", "/v1/x", "/v1/embeddings", "/v2/trace/setting", "/v2/systemsharedmemory/region/a/register", "/v2/models/stats"]  # fmt: skip
TYPES = {
    "bool": "?", "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q", "int8": "b", "int16": "h", "int32": "i", "int64": "q",
    "fp16": "e", "fp32": "f", "fp64": "d",
}  # fmt: skip


@dataclass
class Request:
    """One HTTP request, still in parts. `header` None: the body is only `blob`."""

    path: str
    header: Any
    blob: bytes = b""
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    is_binary: bool = False
    pack: Callable[[bytes], bytes] | None = None
    is_shared: bool = False

    def encode(self, mangle: Callable[[bytes], bytes] = bytes) -> bytes:
        """On the wire, framed rightly; `mangle` changes the body before it is packed and counted."""
        head = b"" if self.header is None else json.dumps(self.header).encode("utf-8", "surrogatepass")
        headers = {LENGTH: str(len(head))} | self.headers if self.is_binary else self.headers
        body = mangle(head + self.blob)
        if self.pack is not None:
            body = self.pack(body)
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join((*lines, "", "")).encode("utf-8") + body


def canary(number: int) -> tuple[bytes, list[float]]:
    """A good request that no other request resembles, and its answer."""
    x = [float(number % 100_003), 1.0, -2.0, 0.5]
    item = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": x}
    return Request("/v2/models/affine/infer", {"id": f"f-{number}", "inputs": [item]}).encode(), [2 * value + 1 for value in x]


def good(rng: random.Random, number: int) -> Request:
    """One of the kinds of good requests."""
    kind = rng.randrange(14)
    mark = {"id": f"f-{number}"}
    if kind == 0:
        return Request("/v2/models/affine/infer", {**mark, "inputs": [_item("x", "FP32", [1, 4], [number % 99, 2, 3, 4])]})
    if kind == 1:
        item = {"name": "x", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": 32}}
        header = {**mark, "inputs": [item], "parameters": {"binary_data_output": True}}
        return Request("/v2/models/affine/versions/1/infer", header, struct.pack("<8f", *range(8)), is_binary=True)
    if kind == 2:
        name = rng.choice(list(TYPES))
        blob = struct.pack(f"<2{TYPES[name]}", 1, 0)
        item = {"name": "x", "shape": [1, 2], "datatype": name.upper(), "parameters": {"binary_data_size": len(blob)}}
        outputs = [{"name": "y", "parameters": {"binary_data": True}}]
        return Request(f"/v2/models/id_{name}/infer", {**mark, "inputs": [item], "outputs": outputs}, blob, is_binary=True)
    if kind == 3:
        blob = b"".join(struct.pack("<I", len(text)) + text for text in (b"", b"f\xc3\xa4hre"))
        item = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "parameters": {"binary_data_size": len(blob)}}
        return Request("/v2/models/id_bytes/infer", {**mark, "inputs": [item]}, blob, is_binary=True)
    if kind == 4:
        size = rng.randint(1, 9)
        items = [_item(name, "INT64", [1, size], [1] * size) for name in ("ids", "mask")]
        header = {**mark, "inputs": items, "parameters": {"timeout": 4_000_000, "priority": 1}}
        return Request(
            "/v2/models/masked/infer", header, headers={"X-Request-Priority": "low", "X-Request-Timeout": "4s"}
        )  # fmt: skip
    if kind == 5:
        header = {**mark, "inputs": [_item(name, "FP32", [1, 2], [1, 2]) for name in ("a", "b")], "outputs": [
            {"name": "sum", "parameters": {"classification": 2}}, {"name": "difference"}]}  # fmt: skip
        packers: list[tuple[str, Callable[[bytes], bytes]]] = [
            ("gzip", partial(gzip.compress, mtime=0)),
            ("deflate", zlib.compress),
        ]
        encoding, pack = rng.choice(packers)
        return Request("/v2/models/two/infer", header, headers={"Content-Encoding": encoding}, pack=pack)
    if kind == 6:
        return Request("/v2/models/tokens/infer", None, bytes(8 * rng.randint(0, 20)), headers={LENGTH: "0"})
    if kind == 7:
        return Request("/v2/repository/index", {"ready": True})
    if 7 < kind < 13:
        return _good_extension(rng, kind, mark)
    path = rng.choice(
        [
            "/v2",
            "/v2/models/affine",
            "/v2/models/two/config",
            "/v2/models/stats",
            "/v2/health/ready",
            "/v2/logging",
            "/v1/models",
        ]
    )
    return Request(path, None, method="GET")


def _good_extension(rng: random.Random, kind: int, mark: dict[str, str]) -> Request:
    """An extension: texts to the model that takes them: in JSON, in bytes, in OpenAI's form; and tensors in shared memory."""
    if kind > 10:
        method, path, header = shared_request(rng, mark)
        return Request(path, header, method=method, is_shared=True)
    if kind == 8:
        texts = rng.choice((["w1 w2"], ["", "fähre", "w3 " * 40], ["w4"] * 8))
        item = _item("text", "BYTES", [len(texts)], texts)
        return Request("/v2/models/words/infer", {**mark, "inputs": [item], "parameters": {"truncate": rng.random() < 0.5}})
    if kind == 9:
        blob = b"".join(struct.pack("<I", len(text)) + text for text in (b"w1", b"f\xc3\xa4hre"))
        item = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(blob)}}
        return Request("/v2/models/words/infer", {**mark, "inputs": [item]}, blob, is_binary=True)
    inputs = rng.choice(("w1", ["w1 w2", ""], [1, 4, 2], [[1, 4, 2], [1, 2]]))
    return Request("/v1/embeddings", {"model": "words", "input": inputs, "encoding_format": rng.choice(("float", "base64"))})


def _item(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def fuzzed(seed: int, number: int) -> bytes:
    """A request with wrong contents in a right frame: it is owed exactly one reply."""
    rng = random.Random((seed << 40) + number)
    request = good(rng, number)
    if request.is_shared and rng.random() < 0.6:
        return request.encode()  # wrong enough as it is, and regions must come into being
    mangle: Callable[[bytes], bytes] = bytes
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kind = rng.randrange(10)
        if kind < 4 and request.header is not None:
            request.header = _wrong_json(rng, request.header)
        elif kind < 7:
            seed_of_bytes = rng.random()
            mangle = lambda body, at=seed_of_bytes: mangled(random.Random(at), body)  # type: ignore[misc]  # noqa: E731
        elif kind == 7:
            request.headers = {**request.headers, LENGTH: rng.choice(LENGTHS)}
        elif kind == 8:
            name, value = rng.choice(HEADERS)
            request.headers = {**request.headers, name: value}
        else:
            request.path = rng.choice(PATHS)
            request.method = rng.choice(["POST", "POST", "GET", "PUT", "DELETE", "OPTIONS"])
    return request.encode(mangle)


def broken(seed: int, number: int) -> bytes:
    """A request that may not be HTTP at all, or whose frame lies."""
    rng = random.Random((seed << 40) + number)
    data = good(rng, number).encode()
    head, _, body = data.partition(b"\r\n\r\n")
    kind = rng.randrange(5)
    if kind == 0:
        length = rng.choice(LENGTHS).encode("utf-8")
        return head.replace(b"Content-Length: ", b"Content-Length: " + length) + b"\r\n\r\n" + body
    if kind == 1:
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[n : n + 9]), body[n : n + 9]) for n in range(0, len(body), 9))
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
        return b"\r\n".join((*lines, b"Transfer-Encoding: chunked", b"", mangled(rng, chunks + b"0\r\n\r\n")))
    if kind == 2:
        return data[: rng.randrange(len(data))]
    if kind == 3:
        return mangled(rng, head) + b"\r\n\r\n" + body
    return mangled(rng, data)


def mangled(rng: random.Random, data: bytes) -> bytes:
    """Bytes flipped, cut out, repeated, put in."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        size = rng.choice((1, 1, 2, 4, 8, 30))
        kind = rng.randrange(6)
        if kind == 0:
            data = data[:at] + rng.randbytes(size) + data[at + size :]
        elif kind == 1:
            data = data[:at] + data[at + size :]
        elif kind == 2:
            data = data[:at] + data[at : at + size] * rng.choice((2, 3, 50)) + data[at + size :]
        elif kind == 3:
            data = data[:at] + rng.choice(RAW_WORDS) + data[at:]
        elif kind == 4:
            data = data[:at]
        else:
            data = data + rng.randbytes(size)
    return data


def _wrong_json(rng: random.Random, value: Any) -> Any:
    """A copy with one node replaced, removed or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.15:
            return {name: entry for name, entry in value.items() if name != key}
        return {**value, key: _wrong_json(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        changed = rng.choice(([], [value[at]] * 2, [_wrong_json(rng, value[at])], [_wrong_json(rng, value[at])]))
        return [*value[:at], *changed, *value[at + 1 :]]
    return rng.choice(HOSTILE)
