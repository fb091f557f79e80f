"""Several texts that were asked for as one: each is a request of its own to the engine, with its own length; their answers are
put together again here."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from server.backends.base import Array
from server.errors import FerryError
from server.runtime.served import ServedModel
from server.runtime.serving import ServingEngine, ServingModel
from server.runtime.text_stage import TextRequest, read_ids
from server.runtime.work import Outcome, WorkRequest

BYTES_PER_TOKEN = 4
"""Of English prose, about: what texts are charged by, since that happens before they are tokenised."""


class Gathering:
    """Tells `answer` the outputs [rows, …] when all rows have theirs, or the first error, and then cancels the other rows.

    Outputs whose place is not in `wanted` need not fit together: the first row's stands for all.
    """

    def __init__(self, engine: ServingEngine[Any], answer: Outcome, wanted: Collection[int], n_rows: int) -> None:
        self._engine = engine
        self._answer = answer
        self._wanted = wanted
        self._outputs: list[list[Array]] = [[]] * n_rows
        self._n_left = n_rows
        self.rows: list[WorkRequest | TextRequest] = []

    @property
    def id(self) -> int:
        """The number of the first row's request."""
        return self.rows[0].id

    @property
    def n_tokens(self) -> int:
        """Of all rows, special tokens included; complete when the answer is there."""
        return sum(row.n_tokens if isinstance(row, TextRequest) else row.length for row in self.rows)

    def name(self, name: str) -> None:
        """Note what the client calls all of it."""
        for row in self.rows:
            self._engine.named(row.id, name)

    def cancel(self) -> None:
        """Nobody waits for the answer any more. Harmless when it is there."""
        for row in self.rows:
            self._engine.cancel(row)

    def row_done(self, place: int, outputs: list[Array]) -> None:
        """One more row has its outputs."""
        self._outputs[place] = outputs
        self._n_left -= 1
        if not self._n_left and not self._answer.done():
            self._answer.set_result(self._joined())

    def row_failed(self, error: FerryError) -> None:
        """One row has no answer, so there is none for all. The others are cancelled when the engine is through with this one."""
        if not self._answer.done():
            self._answer.set_exception(error)
            asyncio.get_running_loop().call_soon(self.cancel)

    def _joined(self) -> list[Array]:
        if len(self._outputs) == 1:
            return self._outputs[0]
        columns = zip(*self._outputs, strict=True)
        return [np.concatenate(column) if place in self._wanted else column[0] for place, column in enumerate(columns)]


class _Row:
    """The outcome of one row."""

    __slots__ = ("_gathering", "_is_done", "_place")

    def __init__(self, gathering: Gathering, place: int) -> None:
        self._gathering = gathering
        self._place = place
        self._is_done = False

    def done(self) -> bool:
        return self._is_done

    def set_result(self, outputs: list[Array], /) -> None:
        self._is_done = True
        self._gathering.row_done(self._place, outputs)

    def set_exception(self, error: FerryError, /) -> None:
        self._is_done = True
        self._gathering.row_failed(error)


def submit_texts(
    engine: ServingEngine[Any], model: ServingModel, texts: Sequence[str], truncate: bool, wanted: Collection[int], answer: Outcome,
    timeout_s: float | None = None, arrived_at: float | None = None, priority: int = 0, client: int = 0,
) -> Gathering:  # fmt: skip
    """Queue texts, at least one; `answer` will have the outputs whose places are in `wanted`, a row for each text, or raise a
    FerryError. All come in one turn of the event loop, so they can share batches. Raises Refused, and queues none, when `client`
    may not have them all."""
    if client:
        engine.charge(model, client, len(texts), _about_length(model, texts))
    gathering = Gathering(engine, answer, wanted, len(texts))
    for place, text in enumerate(texts):
        row = _Row(gathering, place)
        gathering.rows.append(engine.submit_text(model, text, truncate, row, timeout_s, arrived_at, priority))
    return gathering


def submit_ids(
    engine: ServingEngine[Any], model: ServedModel, all_ids: Sequence[Sequence[int]], wanted: Collection[int], answer: Outcome,
    timeout_s: float | None = None, arrived_at: float | None = None, priority: int = 0, client: int = 0,
) -> Gathering:  # fmt: skip
    """The same for texts that the client tokenised itself. Raises BadText too, and queues none, when one has ids that are not the
    model's, or too many."""
    reads = [read_ids(model, ids) for ids in all_ids]
    if client:
        engine.charge(model, client, len(reads), sum(read.n_tokens for read in reads) // len(reads))
    gathering = Gathering(engine, answer, wanted, len(reads))
    for place, read in enumerate(reads):
        row = _Row(gathering, place)
        gathering.rows.append(engine.submit(model, read.inputs, 1, read.n_tokens, row, timeout_s, arrived_at, priority))
    return gathering


def _about_length(model: ServingModel, texts: Sequence[str]) -> int:
    """How many tokens the texts will have on average, before anybody has counted."""
    ragged = model.manifest.ragged
    assert ragged is not None, "models that take text have an axis of tokens"
    tokens = sum(len(text.encode()) for text in texts) // len(texts) // BYTES_PER_TOKEN
    return min(max(tokens, ragged.shortest), ragged.longest)
