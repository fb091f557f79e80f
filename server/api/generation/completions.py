"""POST /v1/completions in OpenAI's form: its body, checked, and its reply, whole or in events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from server.api.generation.answer import News
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
from server.api.generation.logprob_forms import completion_logprobs, prompt_tokens
from server.api.generation.running import Running, Usage
from server.api.generation.wishes import OTHER_NAMES, WISHES, Wishes, most_tokens_name, read_wishes
from server.errors import FerryError
from server.generation.options import MOST_LOGPROBS
from server.generation.texts import TextCodec

USUAL_TOKENS = 16
"""As many as OpenAI gives to whom says nothing."""

MOST_ANSWERS = 128
"""To one call: prompts times `n`."""

FIELDS = (
    *WISHES,
    *NOT_LOOKED_AT,
    "best_of",
    "echo",
    "logprobs",
    "max_completion_tokens",
    "model",
    "n",
    "prompt",
    "stream",
    "stream_options",
)
"""OpenAI's form of this route has no `max_completion_tokens`; load generators send one body to both routes."""

_REFUSED = {
    "suffix": "no model here is asked to fill in a gap",
    "prompt_logprobs": "those of a prompt come with 'logprobs' where 'echo' is true",
    "stop_token_ids": "the model's own ids end answers, and 'stop' takes texts",
    **OTHER_NAMES,
}


@dataclass(frozen=True, slots=True)
class CompletionCall:
    """A request, as far as it can be read without its model. `prompts`: texts, or ids of each."""

    model: str
    prompts: Sequence[str | list[int]]
    wishes: Wishes
    n: int
    echo: bool
    streams: bool
    tells_usage: TellsUsage


def read_completion(fields: BodyFields) -> CompletionCall:
    """Raises BadParameter."""
    fields.only(FIELDS, _REFUSED)
    model = fields.text("model")
    if not model:
        raise fields.wrong("model", "must be the name of a model; GET /v1/models lists them")
    n = fields.integer("n", 1, 1, MOST_ANSWERS)
    check_harmless(fields, {"best_of": (1, n)}, {"best_of": "every answer is returned; leave it out"})
    logprobs = fields.integer("logprobs", 0, 0, MOST_LOGPROBS) if fields.has("logprobs") else None
    echo = fields.flag("echo")
    prompts = _prompts(fields)
    if len(prompts) * n > MOST_ANSWERS:
        raise fields.wrong(
            "prompt", f"and 'n' ask for {len(prompts) * n} answers; {MOST_ANSWERS} are possible: send several calls"
        )
    wishes = read_wishes(fields, logprobs, most_tokens_name(fields))
    if echo and logprobs is not None:
        wishes = replace(wishes, sampling=replace(wishes.sampling, scores=True))
    return CompletionCall(model, prompts, wishes, n, echo, fields.flag("stream"), read_tells_usage(fields))


def _prompts(fields: BodyFields) -> Sequence[str | list[int]]:
    """A text, texts, the ids of one text, or the ids of several."""
    value = fields.value("prompt")
    found = [value] if isinstance(value, str) else value
    if isinstance(found, list) and found and all(type(item) is int for item in found):
        found = [found]
    if isinstance(found, list) and 0 < len(found) <= MOST_ANSWERS and all(found):
        if all(isinstance(item, str) for item in found):
            return found
        if all(isinstance(item, list) and all(type(token) is int for token in item) for item in found):
            return found
    raise fields.wrong(
        "prompt",
        f"must be a text, token ids, or a list of up to {MOST_ANSWERS} of either, none of them empty; found {shown(value)}",
    )


class Echo(NamedTuple):
    """What goes before an answer: the text of its prompt, and its token ids; nothing where it is not wanted."""

    text: str = ""
    ids: Sequence[int] = ()


class CompletionForm:
    """One call's replies. `echoes`: of each answer."""

    def __init__(self, frame: OpenAiFrame, codec: TextCodec, echoes: Sequence[Echo], tells_logprobs: bool) -> None:
        self._frame = frame
        self._codec = codec
        self._echoes = echoes
        self._tells_logprobs = tells_logprobs
        self._fresh = set(range(len(echoes)))
        self._running: Running | None = None

    def follow(self, running: Running) -> None:
        self._running = running
        self._frame.follow(running)

    def whole(self, news: Iterable[News], usage: Usage) -> bytes:
        choices = [self._choice(index, self._echoed(index, one)) for index, one in enumerate(news)]
        return orjson.dumps({**self._frame.head, "choices": choices, "usage": usage_json(usage)})

    def first(self) -> bytes:
        return b""

    def event(self, index: int, news: News) -> bytes:
        if not (news.text or news.tokens or news.finish):
            return b""
        return self._frame.event([self._choice(index, self._echoed(index, news))])

    def last(self, usage: Usage) -> bytes:
        return self._frame.last(usage)

    def failed(self, error: FerryError) -> bytes:
        return openai_failure(error)

    def _echoed(self, index: int, news: News) -> News:
        """With the prompt before the first of it, and places counted from there."""
        text, ids = self._echoes[index]
        tokens = [one._replace(offset=len(text) + one.offset) for one in news.tokens] if text else news.tokens
        if index not in self._fresh:
            return news._replace(tokens=tokens)
        self._fresh.discard(index)
        if ids and self._tells_logprobs:
            assert self._running is not None, "answers come from what runs"
            tokens = [*prompt_tokens(self._codec, ids, self._running.answers[index].scores), *tokens]
        return news._replace(text=text + news.text, tokens=tokens)

    def _choice(self, index: int, news: News) -> dict[str, Any]:
        logprobs = completion_logprobs(self._codec, news.tokens) if self._tells_logprobs else None
        return {
            "index": index, "text": news.text, "logprobs": logprobs,
            "finish_reason": news.finish.value if news.finish else None,
        }  # fmt: skip
