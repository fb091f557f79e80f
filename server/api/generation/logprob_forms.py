"""Log probabilities in the two forms that OpenAI has: one of chats, one of completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.api.generation.answer import KeptToken
from server.generation.options import LogProb
from server.generation.texts import TextCodec

LEAST = -9999.0
"""JSON has no infinity; this is what OpenAI says for what is impossible."""


def chat_logprobs(codec: TextCodec, tokens: Sequence[KeptToken]) -> dict[str, Any]:
    """With each token the likeliest ones, as many as were asked for."""
    content = [
        {**_told(codec, one.token, one.logprob.chosen), "top_logprobs": [_told(codec, *other) for other in one.logprob.top]}
        for one in tokens
        if one.logprob is not None
    ]
    return {"content": content, "refusal": None}


def _told(codec: TextCodec, token: int, logprob: float) -> dict[str, Any]:
    piece = codec.piece(token)
    return {"token": piece.decode(errors="replace"), "logprob": max(logprob, LEAST), "bytes": list(piece)}


def completion_logprobs(codec: TextCodec, tokens: Sequence[KeptToken]) -> dict[str, Any]:
    """The chosen token is always among the likeliest. Where nothing is known, as of the first token of a prompt, it is null."""
    names = _Names(codec)
    return {
        "tokens": [names[one.token] for one in tokens],
        "token_logprobs": [None if one.logprob is None else max(one.logprob.chosen, LEAST) for one in tokens],
        "top_logprobs": [None if one.logprob is None else _likeliest(names, one.token, one.logprob) for one in tokens],
        "text_offset": [one.offset for one in tokens],
    }


def prompt_tokens(codec: TextCodec, ids: Sequence[int], scores: Sequence[LogProb]) -> list[KeptToken]:
    """Those of a prompt that goes before its answer. `scores`: of all but the first."""
    stream, offset = codec.stream(), 0
    found = []
    for token, score in zip(ids, (None, *scores), strict=True):
        found.append(KeptToken(token, score, offset))
        offset += len(stream.add(token))
    return found


def _likeliest(names: _Names, token: int, logprob: LogProb) -> dict[str, float]:
    return {names[one]: max(value, LEAST) for one, value in (*logprob.top, (token, logprob.chosen))}


class _Names(dict[int, str]):
    """Of tokens, each made once for a reply. Part of a character is written as its bytes, so that it stays apart from others."""

    def __init__(self, codec: TextCodec) -> None:
        super().__init__()
        self._codec = codec

    def __missing__(self, token: int) -> str:
        piece = self._codec.piece(token)
        try:
            name = piece.decode()
        except UnicodeDecodeError:
            name = "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
        self[token] = name
        return name
