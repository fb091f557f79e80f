"""POST /v1/chat/completions in OpenAI's form: its body, checked, and its reply, whole or in events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from server.api.generation.answer import News
from server.api.generation.completions import MOST_ANSWERS
from server.api.generation.fields import BodyFields, shown
from server.api.generation.forms import (
    NOT_LOOKED_AT,
    OpenAiFrame,
    TellsUsage,
    check_harmless,
    openai_failure,
    read_tells_usage,
    usage_json,
)
from server.api.generation.logprob_forms import chat_logprobs
from server.api.generation.running import Running, Usage
from server.api.generation.wishes import OTHER_NAMES, WISHES, Wishes, most_tokens_name, read_wishes
from server.errors import FerryError
from server.generation.options import MOST_LOGPROBS
from server.generation.texts import TextCodec

MOST_MESSAGES = 4096

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""As clients call them, and as chat templates do."""

_NO_TOOLS = "the models here are not told of tools; 'response_format' holds an answer to a schema"
HARMLESS: dict[str, tuple[object, ...]] = {
    "audio": (), "function_call": ("none",), "functions": ([],), "modalities": (["text"],), "parallel_tool_calls": (True, False),
    "prediction": (), "reasoning_effort": ("none",), "service_tier": ("auto", "default"),
    "store": (False,), "tool_choice": ("none", "auto"), "tools": ([],), "verbosity": (), "web_search_options": (),
}  # fmt: skip
"""Fields that are not supported, and their values that ask for nothing."""

_WHY = {
    "audio": "answers are texts",
    "function_call": _NO_TOOLS,
    "functions": _NO_TOOLS,
    "modalities": "answers are texts",
    "parallel_tool_calls": _NO_TOOLS,
    "prediction": "answers are not predicted",
    "reasoning_effort": "effort cannot be chosen",
    "service_tier": "there is one tier; a header X-Request-Priority names a class",
    "store": "nothing is stored",
    "tool_choice": _NO_TOOLS,
    "tools": _NO_TOOLS,
    "verbosity": "ask for brevity in a message",
    "web_search_options": _NO_TOOLS,
}
FIELDS = (
    *WISHES, *NOT_LOOKED_AT, *HARMLESS, "logprobs", "max_completion_tokens", "messages", "model", "n", "stream",
    "stream_options", "top_logprobs",
)  # fmt: skip


_SAID = ("role", "content", "name", "type")
_TYPES = ("text", "message")
"""What lm-eval-harness and OpenAI's newer form call a message; it changes nothing."""

_OF_ANSWERS = ("annotations", "parsed", "provider_specific_fields", "reasoning", "reasoning_content")
"""What clients hang on an answer, and send back with it as the next call's message: not looked at, since `content` says it all."""

_NOTHING: dict[str, tuple[object, ...]] = {
    "audio": (), "function_call": (), "refusal": ("",), "tool_call_id": (), "tool_calls": ([],),
}  # fmt: skip
"""Also of answers: only with values that say nothing."""

_NOT_SAID = {
    "audio": "answers are texts",
    "function_call": _NO_TOOLS,
    "refusal": "models here refuse in their text; put it into 'content'",
    "tool_call_id": _NO_TOOLS,
    "tool_calls": _NO_TOOLS,
}


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A request, as far as it can be read without its model."""

    model: str
    messages: list[dict[str, str]]
    wishes: Wishes
    n: int
    streams: bool
    tells_usage: TellsUsage


def read_chat(fields: BodyFields) -> ChatCall:
    """Raises BadParameter."""
    fields.only(FIELDS, OTHER_NAMES)
    check_harmless(fields, HARMLESS, _WHY)
    model = fields.text("model")
    if not model:
        raise fields.wrong("model", "must be the name of a model; GET /v1/models lists them")
    wishes = read_wishes(fields, _logprobs(fields), most_tokens_name(fields))
    n = fields.integer("n", 1, 1, MOST_ANSWERS)
    return ChatCall(model, _messages(fields), wishes, n, fields.flag("stream"), read_tells_usage(fields))


def _logprobs(fields: BodyFields) -> int | None:
    if fields.flag("logprobs"):
        return fields.integer("top_logprobs", 0, 0, MOST_LOGPROBS)
    if fields.has("top_logprobs"):
        raise fields.wrong("top_logprobs", "needs 'logprobs' to be true")
    return None


def _messages(fields: BodyFields) -> list[dict[str, str]]:
    value = fields.value("messages")
    if not isinstance(value, list) or not 0 < len(value) <= MOST_MESSAGES:
        raise fields.wrong("messages", f"must be a list of 1 to {MOST_MESSAGES} messages, found {shown(value)}")
    return [_message(fields, place, item) for place, item in enumerate(value)]


def _message(fields: BodyFields, place: int, item: object) -> dict[str, str]:
    if not isinstance(item, dict):
        raise fields.wrong("messages", f"[{place}] must be an object with 'role' and 'content', found {shown(item)}")
    message = BodyFields(item, f"messages[{place}].")
    if message.value("role") == "assistant":
        message.only((*_SAID, *_OF_ANSWERS, *_NOTHING), {})
        check_harmless(message, _NOTHING, _NOT_SAID)
    else:
        message.only(_SAID, _NOT_SAID)
    role = ROLES.get(message.text("role"))
    if role is None:
        raise message.wrong("role", f"must be one of {', '.join(ROLES)}, found {shown(message.value('role'))}")
    if message.value("type") not in (None, *_TYPES):
        raise message.wrong("type", f"must be {' or '.join(map(repr, _TYPES))}, found {shown(message.value('type'))}")
    named = {"name": message.text("name")} if message.has("name") else {}
    return {"role": role, "content": _content(message), **named}


def _content(message: BodyFields) -> str:
    """A text, or parts that are texts: these are put together with line breaks between them."""
    value = message.value("content")
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise message.wrong("content", f"must be a text or a list of parts of type 'text', found {shown(value)}")
    texts = []
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str) or len(part) > 2:
            raise message.wrong("content", f"may have parts like {{'type': 'text', 'text': '…'}} only, found {shown(part)}")
        texts.append(part["text"])
    return "\n".join(texts)


class ChatForm:
    """One call's replies."""

    def __init__(self, frame: OpenAiFrame, codec: TextCodec, n: int, tells_logprobs: bool) -> None:
        """`frame`: of the events of a stream, or of the reply."""
        self._frame = frame
        self._codec = codec
        self._n = n
        self._tells_logprobs = tells_logprobs

    def follow(self, running: Running) -> None:
        self._frame.follow(running)

    def whole(self, news: Iterable[News], usage: Usage) -> bytes:
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": one.text, "refusal": None},
                "logprobs": self._logprobs(one),
                "finish_reason": one.finish.value if one.finish else None,
            }
            for index, one in enumerate(news)
        ]
        return orjson.dumps({**self._frame.head, "choices": choices, "usage": usage_json(usage)})

    def first(self) -> bytes:
        delta = {"role": "assistant", "content": "", "refusal": None}
        return b"".join(self._frame.event([_part(index, delta, None, None)]) for index in range(self._n))

    def event(self, index: int, news: News) -> bytes:
        told = b""
        if news.text or news.tokens:
            told = self._frame.event([_part(index, {"content": news.text}, self._logprobs(news), None)])
        if news.finish:
            told += self._frame.event([_part(index, {}, None, news.finish.value)])
        return told

    def last(self, usage: Usage) -> bytes:
        return self._frame.last(usage)

    def failed(self, error: FerryError) -> bytes:
        return openai_failure(error)

    def _logprobs(self, news: News) -> dict[str, Any] | None:
        return chat_logprobs(self._codec, news.tokens) if self._tells_logprobs else None


def _part(index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None, finish: str | None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
