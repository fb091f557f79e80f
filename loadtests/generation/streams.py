"""A light client of streamed completions: it notes when bytes come, and reads them only when all is over."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import orjson

from loadtests.child import HOST
from loadtests.errors import MalformedReply

_EVENT = b"data: "
_DONE = b"[DONE]"
_END = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its prompt as ids and how many tokens its answer has, whatever they are. `counts`: each event shall say how many tokens
    there are by now, because one without text of its own (half a character) comes with the next."""

    prompt: Sequence[int]
    new_tokens: int
    counts: bool = False

    def body(self, model: str) -> bytes:
        """OpenAI's form, greedy."""
        return orjson.dumps({
            "model": model, "prompt": list(self.prompt), "max_tokens": self.new_tokens, "temperature": 0, "ignore_eos": True,
            "stream": True,
            **({"stream_options": {"include_usage": True, "continuous_usage_stats": True}} if self.counts else {}),
        })  # fmt: skip


@dataclass(slots=True)
class Answer:
    """What came: status, text, when it was asked and when each event with text came (seconds of `time.perf_counter`).

    `n_said`: characters of the text that had come with each such event; `n_tokens`: tokens, where that was asked for.
    """

    asked_at: float
    status: int = 0
    text: str = ""
    token_at: list[float] = field(default_factory=list)
    n_said: list[int] = field(default_factory=list)
    finish: str | None = None
    retry_after: str | None = None
    n_tokens: list[int] = field(default_factory=list)

    @property
    def first_s(self) -> float:
        """Until the first token."""
        return self.token_at[0] - self.asked_at

    @property
    def gaps_s(self) -> list[float]:
        """Between one event and the next; of one with several tokens, between each of them on the average."""
        passed = [later - sooner for sooner, later in zip(self.token_at, self.token_at[1:], strict=False)]
        if len(self.n_tokens) < len(self.token_at):  # the server does not say
            return passed
        tokens = [later - sooner for sooner, later in zip(self.n_tokens, self.n_tokens[1:], strict=False)]
        return [gap_s / max(1, n) for gap_s, n in zip(passed, tokens, strict=True)]

    def said_at(self, text: str) -> float:
        """When the whole of `text`, with which it begins, had come."""
        return self.token_at[min(bisect_left(self.n_said, len(settled(text))), len(self.token_at) - 1)]


def settled(text: str) -> str:
    """An answer's text without what stands at its end for half a character: with one token more it may be a whole one."""
    return text.rstrip("\N{REPLACEMENT CHARACTER}")


class _Reply(asyncio.Protocol):
    """One connection for one request; the bytes and when they came."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.asked_at = 0.0
        self.pieces: list[tuple[float, bytes]] = []
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.asked_at = time.perf_counter()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.perf_counter(), data))
        if data.endswith(_END):
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)


async def ask(port: int, model: str, asked: Asked) -> Answer:
    """Send one request and wait for the end of its answer. Raises OSError, MalformedReply."""
    body = asked.body(model)
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reply: _Reply
    _, reply = await asyncio.get_running_loop().create_connection(lambda: _Reply(head.encode() + body), HOST, port)
    await reply.over
    return read(reply.asked_at, reply.pieces)


def read(asked_at: float, pieces: Sequence[tuple[float, bytes]]) -> Answer:
    """The answer in these bytes: each event counts from when its last byte came. Raises MalformedReply for what is no HTTP."""
    answer, buffer = Answer(asked_at), b""
    events: list[tuple[float, bytes]] = []
    in_head = True
    for at, piece in pieces:
        buffer += piece
        if in_head:
            head, mark, rest = buffer.partition(b"\r\n\r\n")
            if not mark:
                continue
            answer.status, answer.retry_after = _status(head)
            in_head, buffer = False, rest
        *whole, buffer = buffer.split(b"\n")
        events += [(at, line[len(_EVENT) :].strip()) for line in whole if line.startswith(_EVENT)]
    if in_head:
        raise MalformedReply("the connection ended before a whole head came")
    for at, event in events:
        if event != _DONE:
            _note(answer, at, orjson.loads(event))
    return answer


def _status(head: bytes) -> tuple[int, str | None]:
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        raise MalformedReply(f"a reply began with {first[:80]!r}")
    headers = dict(line.lower().split(":", 1) for line in lines if ":" in line)
    return int(words[1]), headers.get("retry-after", "").strip() or None


def _note(answer: Answer, at: float, event: dict[str, object]) -> None:
    if "error" in event:
        raise MalformedReply(f"the stream says {event['error']}")
    choices = event.get("choices")
    if not isinstance(choices, list) or not choices:
        return
    choice = choices[0]
    answer.finish = choice.get("finish_reason") or answer.finish
    answer.text += choice.get("text") or ""
    if choice.get("text") is not None:
        answer.token_at.append(at)
        answer.n_said.append(len(answer.text))
        if isinstance(usage := event.get("usage"), dict):
            answer.n_tokens.append(usage["completion_tokens"])


Ask = Callable[[Asked], Awaitable[Answer]]
