"""The server under test and what it says about a model: addresses, V2 metadata, one request that must not be wrong."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from loadtests.call import call, get_json
from loadtests.data import InputMeta
from loadtests.errors import BadInput, CannotConnect, MalformedReply, ServerError
from loadtests.grpc_wire import metadata_request, read_metadata
from loadtests.protocols import Protocol
from loadtests.wire import Response, error_text

_BUSY = (408, 425, 429)
_ENCRYPTED = ("https", "grpcs")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a model is served. `host` is an address already: no name is looked up under load. `key`: goes along with every request."""

    host: str
    port: int
    model: str
    version: str | None
    protocol: Protocol = Protocol.HTTP
    key: str | None = field(default=None, repr=False)

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def target(url: str, model: str, version: str | None = None, key: str | None = None) -> Target:
    """A target from `http://host:port` or `grpc://host:port`. Raises BadInput, CannotConnect for a name without an address."""
    protocol, name, port = _split(url)
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise CannotConnect(f"--url {url}: no address for {name}: {error.strerror or error}") from error
    host = next((one[4][0] for one in found if one[0] == socket.AF_INET), found[0][4][0])
    return Target(str(host), port, model, version, protocol, key)


def _split(url: str) -> tuple[Protocol, str, int]:
    try:
        parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
        port = parts.port
    except ValueError as error:
        raise BadInput(f"--url {url}: {error}") from error
    if parts.scheme in _ENCRYPTED:
        raise BadInput(
            f"--url {url}: TLS is not spoken, its cost would be in every figure; measure the server behind whatever ends TLS, "
            "as http://HOST:PORT or grpc://HOST:PORT"
        )
    known = [one for one in Protocol if one.value == parts.scheme]
    if not known or not parts.hostname or parts.path not in ("", "/"):
        raise BadInput(f"--url {url}: use http://HOST:PORT or grpc://HOST:PORT")
    return known[0], parts.hostname, port or known[0].default_port


def metadata(to: Target) -> list[InputMeta]:
    """The model's inputs. Raises CannotConnect, ServerError for a model the server does not know, MalformedReply."""
    try:
        return _grpc_inputs(to) if to.protocol is Protocol.GRPC else _http_inputs(to)
    except ServerError as error:
        raise ServerError(error.status, f"model {to.model!r}: {error.text}") from error


def _grpc_inputs(to: Target) -> list[InputMeta]:
    request = metadata_request(to.authority, to.model, to.version, to.key)
    found = read_metadata(call(to.host, to.port, request, protocol=to.protocol))
    return [InputMeta(name, datatype, tuple(shape)) for name, datatype, shape in found]


def _http_inputs(to: Target) -> list[InputMeta]:
    path = f"/v2/models/{quote(to.model, safe='')}" + (f"/versions/{to.version}" if to.version else "")
    return _inputs(get_json(to.host, to.port, path, to.key))


def _inputs(found: Any) -> list[InputMeta]:
    try:
        return [InputMeta(one["name"], one["datatype"], tuple(map(int, one["shape"]))) for one in found["inputs"]]
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedReply(f"the model's metadata is not V2: {type(error).__name__} {error}") from error


def try_out(to: Target, request: bytes, timeout_s: float) -> Response:
    """Ask once before the load. A server that is busy may refuse; one that says the request is wrong ends the test."""
    response = call(to.host, to.port, request, timeout_s=timeout_s, protocol=to.protocol)
    if 400 <= response.status < 500 and response.status not in _BUSY:
        raise ServerError(response.status, f"model {to.model!r} refuses the first request: {error_text(response.body)}")
    return response


def post(to: Target, path: str, body: bytes = b"{}", token: str | None = None) -> Response:
    """POST a JSON body over HTTP, for the repository actions of a scenario; `token` goes along as a bearer token."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {to.authority}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return call(to.host, to.port, "\r\n".join([*lines, "", ""]).encode() + body)


def by_name(inputs: list[InputMeta]) -> Mapping[str, InputMeta]:
    """Inputs by their names."""
    return {one.name: one for one in inputs}
