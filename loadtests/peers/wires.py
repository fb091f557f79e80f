"""The same tensors in the words of each server: whole requests out, outputs in. No sockets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import orjson

from loadtests.child import HOST
from loadtests.errors import MalformedReply, ServerError
from loadtests.tensors import Array
from loadtests.wire import decode, infer_request


class Wire(Protocol):
    """How one model of one server is asked."""

    def request(self, row: Mapping[str, Array]) -> bytes:
        """A whole HTTP request for one row."""

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Array]:
        """The outputs by name. Raises ServerError for a status other than 200, MalformedReply."""


@dataclass(frozen=True, slots=True)
class V2:
    """The V2 protocol, JSON or binary tensors."""

    model: str
    binary: bool = False

    def request(self, row: Mapping[str, Array]) -> bytes:
        return infer_request(HOST, self.model, row, binary=self.binary)

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Array]:
        return decode(status, headers, body)


@dataclass(frozen=True, slots=True)
class PlainJson:
    """`{input: [[values]]}` to a path; back comes `{output: [[values]]}`, or the first output alone as a list."""

    path: str
    outputs: Sequence[str]

    def request(self, row: Mapping[str, Array]) -> bytes:
        lists = {name: np.ascontiguousarray(array).reshape(len(array), -1) for name, array in row.items()}
        body = orjson.dumps(lists, option=orjson.OPT_SERIALIZE_NUMPY)
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode() + body

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Array]:
        if status != 200:
            raise ServerError(status, body[:300].decode(errors="replace"))
        try:
            found = orjson.loads(body)
            named = found if isinstance(found, dict) else {self.outputs[0]: found}
            return {name: np.array(named[name], np.float32) for name in self.outputs}
        except (ValueError, KeyError, TypeError) as error:
            raise MalformedReply(f"not an answer with {', '.join(self.outputs)}: {type(error).__name__} {error}") from error
