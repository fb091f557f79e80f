"""Requests of several texts: each is a request of its own to the engine, with its own length; here they are put together again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from server.api.infer_call import TextCall
from server.backends.base import Array
from server.runtime.engine import Engine, WorkRequest
from server.runtime.served import ServedModel
from server.runtime.text_stage import TextRequest

Submitted = WorkRequest | TextRequest


def submit_call(
    engine: Engine, model: ServedModel, call: TextCall, timeout_s: float | None, arrived_at: float | None
) -> list[TextRequest]:
    """All texts of a V2 request. They come in one turn of the event loop, so they can share batches."""
    return [engine.submit_text(model, text, call.truncate, timeout_s, arrived_at) for text in call.texts]


def cancel_all(engine: Engine, requests: Sequence[Submitted]) -> None:
    """Nobody waits for these any more; harmless for those that have their outcome."""
    for request in requests:
        engine.cancel(request)


async def all_answers(engine: Engine, requests: Sequence[Submitted]) -> list[list[Array]]:
    """The outputs of each, in order. When one fails, or the awaiting task is cancelled, the others are cancelled.

    Raises the FerryError of the first that failed.
    """
    try:  # shielded: a cancelled future would look to the engine as if the request had its outcome
        return list(await asyncio.gather(*(asyncio.shield(request.payload.answer) for request in requests)))
    except BaseException:  # raised again: whatever ends the wait, nobody wants the rest
        cancel_all(engine, requests)
        raise


def joined(answers: Sequence[list[Array]]) -> list[Array]:
    """Outputs of one row each → outputs [rows, …], in model order."""
    if len(answers) == 1:
        return answers[0]
    return [np.concatenate(column) for column in zip(*answers, strict=True)]
