"""Turns away at the door the infer requests that have waited too long already: before they are parsed, at a fraction of
what serving them costs.

When more comes in than the event loop can read, requests grow old in the kernel's buffers. Parsing and decoding each of
them only to find that it is late would take the time in which younger ones could be answered.
"""

from __future__ import annotations

import re
from typing import Any

from server.api.errors_http import error_reply
from server.core.types import ModelKey
from server.errors import Refused
from server.runtime.lateness import read_too_late
from server.runtime.serving import M, ServingEngine, ServingModel, ServingModels

_MOST_REPLIES = 4096

_START = b"POST /v2/models/"
_PLAIN = re.compile(rb"/infer HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,18})\r\n", re.IGNORECASE)
_UNUSUAL = re.compile(rb"\r\n(?:transfer-encoding|expect|upgrade|connection: *close)", re.IGNORECASE)


class Door:
    """Looks at what has just been read on a connection that owes nothing."""

    def __init__(self) -> None:
        self._engine: ServingEngine[Any] | None = None
        self._registry: ServingModels[Any] | None = None
        self._replies: dict[tuple[ModelKey, int], tuple[Refused, bytes]] = {}

    def open(self, engine: ServingEngine[M], registry: ServingModels[M]) -> None:
        """From now on; before, everything is let in."""
        self._engine, self._registry = engine, registry

    def refusal(self, data: bytes, waited: float) -> bytes | None:
        """A whole HTTP response for a request that has waited so many seconds and is too late, None for whatever should take
        its normal course.

        Only the usual form is recognised: one whole infer request for a model's default version, in one piece. All else,
        and whatever is not quite right about a request, is left to those who explain it.
        """
        if self._engine is None or self._registry is None or not data.startswith(_START):
            return None
        name_end = data.find(b"/", len(_START))
        if not _PLAIN.match(data, name_end) or not _is_whole(data):
            return None
        model = self._registry.serving_now(data[len(_START) : name_end])
        if model is None or (late_s := self._engine.late_s(model, waited)) <= 0:
            return None
        error, response = self._reply(model, waited, late_s)
        self._engine.turned_away(model, waited, error)
        return response

    def _reply(self, model: ServingModel, waited: float, late_s: float) -> tuple[Refused, bytes]:
        """One for each millisecond of waiting: under overload it is asked for tens of thousands of times a second."""
        key = (model.key, round(waited * 1e3))
        reply = self._replies.get(key)
        if reply is None:
            if len(self._replies) >= _MOST_REPLIES:
                self._replies.clear()
            error = read_too_late(model, waited, late_s)
            reply = self._replies[key] = error, _response(error)
        return reply


def _is_whole(data: bytes) -> bool:
    head_end = data.find(b"\r\n\r\n")
    length = _LENGTH.search(data, 0, head_end + 2)
    if head_end < 0 or length is None or _UNUSUAL.search(data, 0, head_end):
        return False
    return len(data) == head_end + 4 + int(length[1])


def _response(error: Refused) -> bytes:
    _, headers, body = error_reply(error)
    lines = b"".join([b"%s: %s\r\n" % header for header in headers])
    return b"HTTP/1.1 503 Service Unavailable\r\n%s\r\n%s" % (lines, body)
