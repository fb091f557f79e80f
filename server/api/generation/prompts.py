"""Texts and conversations → token ids. What is short is done at once, what is long in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from server.api.openai_errors import BadParameter
from server.errors import BadRequest
from server.generation.serving import GeneratingModel

AT_ONCE = 4096
"""Characters of one call that are tokenised on the event loop: within a millisecond or two."""

T = TypeVar("T")

_CHARACTERS_PER_TOKEN = 32
_MARGIN = 16


async def text_ids(model: GeneratingModel, text: str, param: str) -> list[int]:
    """Of a text as it is, with the tokenizer's own special tokens around it. Raises BadParameter, naming `param`."""
    return await _done(partial(_encode, model, text, True, param), len(text), param)


async def all_ids(model: GeneratingModel, given: Sequence[str | list[int]], param: str) -> list[list[int]]:
    """Of several texts, or of ids as they are. Raises BadParameter, naming `param`."""
    size = sum(len(one) for one in given if isinstance(one, str))

    def encode() -> list[list[int]]:
        return [_encode(model, one, True, param) if isinstance(one, str) else one for one in given]

    return await _done(encode, size, param)


async def chat_ids(model: GeneratingModel, messages: Sequence[Mapping[str, str]], param: str) -> list[int]:
    """Of a conversation by the model's template. Raises BadParameter, naming `param`."""
    if not model.codec.chats:
        raise BadParameter(
            "model", f"{model.key.name} has no chat template, so it cannot be talked to; ask with POST /v1/completions"
        )
    size = sum(len(message["content"]) for message in messages)

    def encode() -> list[int]:
        return _encode(model, model.codec.chat(messages), False, param)

    return await _done(encode, size + 16 * len(messages), param)


async def _done(encode: Callable[[], T], size: int, param: str) -> T:
    try:
        return encode() if size <= AT_ONCE else await asyncio.to_thread(encode)
    except BadParameter:
        raise
    except BadRequest as error:
        raise BadParameter(param, str(error), error.label) from None


def _encode(model: GeneratingModel, text: str, special: bool, param: str) -> list[int]:
    """A text that is far too long is not tokenised to its end, only to be refused then."""
    longest = model.generation.longest
    most = (longest + _MARGIN) * _CHARACTERS_PER_TOKEN
    if len(text) > most:
        n_first = len(model.codec.encode(text[:most], special))
        if n_first > longest + _MARGIN:
            raise BadParameter(
                param,
                f"{model.key.name} takes {longest} tokens at most, prompt and answer together; '{param}' has more than "
                f"{n_first - _MARGIN}: shorten it",
                "context_length_exceeded",
            )
    return model.codec.encode(text, special)
