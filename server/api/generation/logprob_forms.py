"""Log probabilities in the two forms that OpenAI has: one of chats, one of completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.api.generation.answer import KeptToken
from server.generation.texts import TextCodec

LEAST = -9999.0
"""JSON has no infinity; this is what OpenAI says for what is impossible."""


def chat_logprobs(codec: TextCodec, tokens: Sequence[KeptToken]) -> dict[str, Any]:
    """With each token the likeliest ones, as many as were asked for."""
    content = [
        {**_told(codec, one.token, one.logprob.chosen), "top_logprobs": [_told(codec, *other) for other in one.logprob.top]}
        for one in tokens
    ]
    return {"content": content, "refusal": None}


def _told(codec: TextCodec, token: int, logprob: float) -> dict[str, Any]:
    piece = codec.piece(token)
    return {"token": piece.decode(errors="replace"), "logprob": max(logprob, LEAST), "bytes": list(piece)}


def completion_logprobs(codec: TextCodec, tokens: Sequence[KeptToken]) -> dict[str, Any]:
    """The chosen token is always among the likeliest."""
    return {
        "tokens": [_name(codec, one.token) for one in tokens],
        "token_logprobs": [max(one.logprob.chosen, LEAST) for one in tokens],
        "top_logprobs": [
            {_name(codec, token): max(value, LEAST) for token, value in (*one.logprob.top, (one.token, one.logprob.chosen))}
            for one in tokens
        ],
        "text_offset": [one.offset for one in tokens],
    }


def _name(codec: TextCodec, token: int) -> str:
    """Part of a character is written as its bytes, so that it stays apart from others."""
    piece = codec.piece(token)
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
