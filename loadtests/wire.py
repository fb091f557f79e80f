"""V2 over HTTP/1.1 as bytes: whole infer requests, an incremental response reader, answers as arrays. No sockets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import quote

import orjson

from loadtests.errors import MalformedReply, ServerError
from loadtests.tensors import Array, datatype_of, from_bytes, from_json, to_bytes, to_json

LENGTH_HEADER = "inference-header-content-length"
_MAX_HEAD_BYTES = 64 * 1024
_MAX_CACHED_HEADS = 512


class Bodies(Enum):
    """What a ResponseReader does with bodies."""

    KEEP = "keep"
    SKIP = "skip"
    ERRORS = "keep those of a status other than 200"


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers (names in lower case) of one response. `length` is its body in bytes."""

    status: int
    headers: Mapping[str, str]
    length: int
    closes: bool


@dataclass(frozen=True, slots=True)
class Response:
    """One whole response. `body` is empty when the reader skips bodies."""

    head: Head
    body: bytes

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self.head.headers


def get_request(host: str, path: str, key: str | None = None) -> bytes:
    """A whole GET request; `key` goes along as a bearer token."""
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *_bearer(key), "", ""]).encode()


def upload_request(host: str, path: str, body: bytes) -> bytes:
    """A whole POST of a model file or an archive, for the admin API."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", "Content-Type: application/octet-stream"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def infer_request(
    host: str,
    model: str,
    inputs: Mapping[str, Array],
    *,
    binary: bool,
    version: str | int | None = None,
    timeout_us: int | None = None,
    key: str | None = None,
) -> bytes:
    """A whole POST …/infer request.

    `inputs` maps a tensor's name to an array of any shape whose dtype has a V2 name (see `tensors`). With `binary`,
    inputs and outputs travel by the binary tensor extension, else as JSON. `timeout_us` becomes the parameter
    `timeout`, `key` a bearer token. Raises ValueError for a dtype V2 lacks, and for FP16, BF16, NaN or infinity in JSON.
    """
    path = f"/v2/models/{quote(model, safe='')}" + (f"/versions/{version}" if version is not None else "") + "/infer"
    blobs = [to_bytes(array) for array in inputs.values()] if binary else []
    described = [_describe(name, array) for name, array in inputs.items()]
    for index, one in enumerate(described):
        if binary:
            one["parameters"] = {"binary_data_size": len(blobs[index])}
        else:
            one["data"] = to_json(inputs[one["name"]])
    head = orjson.dumps(_parameters(binary, timeout_us) | {"inputs": described}, option=orjson.OPT_SERIALIZE_NUMPY)
    return _post(host, path, head, blobs if binary else None, key)


def _describe(name: str, array: Array) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": datatype_of(array)}


def _parameters(binary: bool, timeout_us: int | None) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    if timeout_us is not None:
        parameters["timeout"] = timeout_us
    if binary:
        parameters["binary_data_output"] = True
    return {"parameters": parameters} if parameters else {}


def _bearer(key: str | None) -> list[str]:
    return [] if key is None else [f"Authorization: Bearer {key}"]


def _post(host: str, path: str, head: bytes, blobs: list[bytes] | None, key: str | None) -> bytes:
    length = len(head) + sum(map(len, blobs or ()))
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {length}", *_bearer(key)]
    if blobs is None:
        lines.append("Content-Type: application/json")
    else:
        lines += ["Content-Type: application/octet-stream", f"Inference-Header-Content-Length: {len(head)}"]
    return b"".join(["\r\n".join([*lines, "", ""]).encode(), head, *(blobs or ())])


class Heads:
    """Parses response heads and remembers them by their bytes: one server's heads are nearly all alike."""

    def __init__(self) -> None:
        self._known: dict[bytes, Response] = {}

    def bodiless(self, raw: bytes) -> Response:
        """The response of a head (without its blank line) with an empty body. Raises MalformedReply."""
        known = self._known.get(raw)
        if known is None:
            if len(self._known) >= _MAX_CACHED_HEADS:
                self._known.clear()
            known = self._known[raw] = Response(_parse_head(raw), b"")
        return known


class ResponseReader:
    """Bytes in, responses out, whatever the splits. One reader per connection; `heads` may be shared by many."""

    __slots__ = ("_bodies", "_buffer", "_heads", "_keeps", "_missing", "_parts", "_response", "owed")

    def __init__(self, bodies: Bodies = Bodies.KEEP, heads: Heads | None = None) -> None:
        self._bodies = bodies
        self._heads = heads or Heads()
        self._buffer = b""
        self._keeps = False
        self._response: Response | None = None
        self._parts: list[bytes] = []
        self._missing = 0
        self.owed = b""

    def start(self) -> bytes:
        """What a new connection sends first: nothing."""
        return b""

    def outgoing(self, request: bytes) -> bytes:
        """What a request is on this connection: the same bytes on every one."""
        return request

    @property
    def idle(self) -> bool:
        """Whether no byte of a response still to come has been read."""
        return not self._buffer and self._response is None

    def feed(self, data: bytes) -> Response | None:
        """Take bytes; the next whole response, or None. `feed(b"")` gives a further one that is already buffered.

        Raises MalformedReply for bytes that are no HTTP/1.1 response, a chunked body, or a body of unknown length.
        """
        if self._response is None:
            if self._buffer:
                data = self._buffer + data
                self._buffer = b""
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._wait_for_head(data)
                return None
            response = self._heads.bodiless(data[:end])
            n_missing = response.head.length - (len(data) - end - 4)
            self._keeps = self._bodies is Bodies.KEEP or (self._bodies is Bodies.ERRORS and response.head.status != 200)
            if n_missing == 0 and not self._keeps:
                return response
            self._response, self._missing = response, response.head.length
            data = data[end + 4 :]
        return self._take(data)

    def _wait_for_head(self, data: bytes) -> None:
        if len(data) > _MAX_HEAD_BYTES:
            raise MalformedReply(f"no end of the response's headers within {_MAX_HEAD_BYTES} bytes")
        self._buffer = data

    def _take(self, data: bytes) -> Response | None:
        if len(data) > self._missing:
            self._buffer = data[self._missing :]
            data = data[: self._missing]
        self._missing -= len(data)
        if self._keeps and data:
            self._parts.append(data)
        return None if self._missing else self._complete()

    def _complete(self) -> Response | None:
        response = self._response
        self._response = None
        if response is not None and self._parts:
            response = Response(response.head, b"".join(self._parts))
            self._parts = []
        return response


def _parse_head(raw: bytes) -> Head:
    first, *lines = raw.decode("latin-1").split("\r\n")
    protocol, _, rest = first.partition(" ")
    code = rest[:3]
    if protocol not in ("HTTP/1.1", "HTTP/1.0") or not (code.isascii() and code.isdigit() and len(code) == 3):
        raise MalformedReply(f"not an HTTP/1.1 status line: {first[:80]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise MalformedReply(f"not a header: {line[:80]!r}")
        headers[name.strip().lower()] = value.strip()
    connection = headers.get("connection", "close" if protocol == "HTTP/1.0" else "").lower()
    return Head(int(code), headers, _body_length(int(code), headers), "close" in connection)


def _body_length(status: int, headers: Mapping[str, str]) -> int:
    if status in (204, 304):
        return 0
    if status < 200:
        raise MalformedReply(f"interim response {status}, which was not asked for")
    if "transfer-encoding" in headers:
        raise MalformedReply(f"Transfer-Encoding {headers['transfer-encoding']!r} is not read: send Content-Length")
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise MalformedReply(f"Content-Length is {length!r}: the end of the body is unknown")
    return int(length)


def error_text(body: bytes) -> str:
    """The `error` member of a V2 error body, or the start of the body as text."""
    try:
        found = orjson.loads(body)["error"]
    except (ValueError, KeyError, TypeError, IndexError):
        return body[:200].decode(errors="replace")
    return str(found)


def decode(status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Array]:
    """The outputs of a V2 infer answer by name, in the answer's order; JSON and binary outputs may be mixed.

    `headers` has lower-case names. Raises ServerError for a status other than 200, MalformedReply for anything that
    is no V2 answer.
    """
    if status != 200:
        raise ServerError(status, error_text(body))
    n_json = _json_length(headers, len(body))
    try:
        outputs = orjson.loads(memoryview(body)[:n_json])["outputs"]
        blobs = _Blobs(memoryview(body)[n_json:])
        found = {one["name"]: _output(one, blobs) for one in outputs}
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedReply(f"not a V2 answer: {type(error).__name__} {error}") from error
    if blobs.rest:
        raise MalformedReply(f"{len(blobs.rest)} bytes behind the last binary output")
    return found


def _json_length(headers: Mapping[str, str], n_body: int) -> int:
    text = headers.get(LENGTH_HEADER)
    if text is None:
        return n_body
    if not (text.isascii() and text.isdigit()) or int(text) > n_body:
        raise MalformedReply(f"{LENGTH_HEADER} is {text!r} for a body of {n_body} bytes")
    return int(text)


class _Blobs:
    """What is left of the binary part of an answer."""

    def __init__(self, rest: memoryview) -> None:
        self.rest = rest

    def take(self, size: object) -> memoryview:
        if type(size) is not int or not 0 <= size <= len(self.rest):
            raise MalformedReply(f"binary_data_size {size!r}, but {len(self.rest)} bytes are left")
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken


def _output(one: dict[str, Any], blobs: _Blobs) -> Array:
    if "data" in one:
        return from_json(one["datatype"], one["shape"], one["data"])
    return from_bytes(one["datatype"], one["shape"], blobs.take(one["parameters"]["binary_data_size"]))
