"""What OpenAI's two generating routes have in common: usage, the frame of a reply and of the events of a stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import orjson

from server.api.generation.answer import News
from server.api.generation.fields import BodyFields
from server.api.generation.running import Running, Usage
from server.api.openai_errors import openai_error
from server.errors import FerryError

DONE = b"data: [DONE]\n\n"

NOT_LOOKED_AT = ("metadata", "prompt_cache_key", "safety_identifier", "user")
"""Fields that change nothing about an answer."""


class Form(Protocol):
    """How one call wants to be answered."""

    def whole(self, news: Iterable[News], usage: Usage) -> bytes:
        """The body of a reply that is not streamed; `news`: everything of each answer."""

    def first(self) -> bytes:
        """What a stream begins with."""

    def event(self, index: int, news: News) -> bytes:
        """Of one answer that has grown or ended; b"" where there is nothing to say."""

    def last(self, usage: Usage) -> bytes:
        """What a stream ends with."""

    def failed(self, error: FerryError) -> bytes:
        """What it ends with instead when an answer fails."""


class TellsUsage(NamedTuple):
    """When a stream tells the usage: in an event of its own at the end; as it stands, in each event."""

    at_end: bool
    in_each: bool


class OpenAiForm(Form, Protocol):
    """Of a call to OpenAI's routes."""

    def follow(self, running: Running) -> None:
        """Whose usage the events tell; before the first one is made. A form is there before its call runs: it says how to run it."""


class OpenAiFrame:
    """What every event of a stream says, and a reply too: which call, which model, when."""

    def __init__(self, kind: str, id: str, created: int, model: str, fingerprint: str, tells_usage: TellsUsage) -> None:
        """`kind`: `object` of each event. `tells_usage.at_end` alone: all events before the last say null, as OpenAI's do."""
        self.head = {"id": id, "object": kind, "created": created, "model": model, "system_fingerprint": fingerprint}
        self._tells_usage = tells_usage
        self._running: Running | None = None

    def follow(self, running: Running) -> None:
        """Counting costs as much as making an event, so who does not ask for it does not pay."""
        if self._tells_usage.in_each:
            self._running = running

    def event(self, choices: list[dict[str, Any]]) -> bytes:
        content = {**self.head, "choices": choices}
        if self._running is not None:
            content["usage"] = usage_json(self._running.usage)
        elif self._tells_usage.at_end:
            content["usage"] = None
        return sse(orjson.dumps(content))

    def last(self, usage: Usage) -> bytes:
        if not self._tells_usage.at_end:
            return DONE
        return sse(orjson.dumps({**self.head, "choices": [], "usage": usage_json(usage)})) + DONE


def sse(data: bytes) -> bytes:
    """One server-sent event; JSON has no line breaks of its own."""
    return b"data: %b\n\n" % data


def openai_failure(error: FerryError) -> bytes:
    """Without a word that the stream is done: it is not."""
    return sse(openai_error(error)[2])


def usage_json(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.n_prompt,
        "completion_tokens": usage.n_completion,
        "total_tokens": usage.n_prompt + usage.n_completion,
        "prompt_tokens_details": {"cached_tokens": usage.n_cached},
    }


def read_tells_usage(fields: BodyFields) -> TellsUsage:
    """`stream_options`: OpenAI's `include_usage`, and vLLM's `continuous_usage_stats`, by which load generators count tokens. Raises
    BadParameter."""
    options = fields.child("stream_options")
    options.only(("include_usage", "continuous_usage_stats", "include_obfuscation"), {})
    if fields.has("stream_options") and not fields.flag("stream"):
        raise fields.wrong("stream_options", "is for streams; set 'stream' to true, or leave it out")
    if options.flag("include_obfuscation"):
        raise options.wrong("include_obfuscation", "is not supported: nothing is obfuscated here", "unsupported_parameter")
    return TellsUsage(options.flag("include_usage"), options.flag("continuous_usage_stats"))


def check_harmless(fields: BodyFields, harmless: dict[str, tuple[object, ...]], why: dict[str, str]) -> None:
    """Refuse fields that are not supported, unless their value asks for nothing. Raises BadParameter."""
    for name, values in harmless.items():
        value = fields.value(name)
        if value is not None and not any(type(value) is type(one) and value == one for one in values):
            raise fields.wrong(name, f"is not supported: {why[name]}", "unsupported_parameter")
