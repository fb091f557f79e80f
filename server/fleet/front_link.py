"""The engine's end of the connection to one front end: its requests come in, their outcomes go out."""

from __future__ import annotations

import asyncio
import logging
import math
import mmap
from typing import Any, Protocol

from server.backends.base import Array
from server.core.types import Refusal
from server.errors import FerryError, Refused
from server.fleet import frames
from server.fleet.frames import AnswerBatch, Ask, Kind, Note
from server.fleet.link import Link
from server.fleet.packing import Packing
from server.fleet.slots import BrokenLink
from server.runtime.engine import Engine
from server.runtime.served import ServedModel
from server.runtime.work import WorkRequest

log = logging.getLogger(__name__)


class Served:
    """A model with what its requests' and answers' bytes look like."""

    __slots__ = ("input_names", "inputs", "model", "outputs")

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self.inputs = Packing(model.manifest.inputs)
        self.outputs = Packing(model.manifest.outputs)
        self.input_names = [spec.name for spec in model.manifest.inputs]


class Books(Protocol):
    """What all links share."""

    def served(self, load: int) -> Served | None:
        """A model by its load number; None when it is retired."""

    def news(self, link: FrontLink) -> None:
        """A front end has heard something, or is gone."""


class FarAnswer:
    """Stands for a client of a front end: the outcome goes back to where the request came from."""

    __slots__ = ("_is_done", "_link", "_number", "_outputs")

    def __init__(self, link: FrontLink, number: int, outputs: Packing) -> None:
        self._link = link
        self._number = number
        self._outputs = outputs
        self._is_done = False

    def done(self) -> bool:
        return self._is_done

    def set_result(self, outputs: list[Array], /) -> None:
        self._is_done = True
        self._link.answer(self._number, outputs, self._outputs)

    def set_exception(self, error: FerryError, /) -> None:
        self._is_done = True
        self._link.fail(self._number, error)


class FrontLink(Link):
    """One front end. When it dies, whatever it asked for is cancelled."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        outgoing: mmap.mmap,
        incoming: mmap.mmap,
        books: Books,
        engine: Engine,
    ) -> None:
        super().__init__(loop, outgoing, incoming)
        self._books = books
        self._engine = engine
        self._open: dict[int, WorkRequest] = {}
        self._names: dict[int, str] = {}
        self._answers = AnswerBatch()
        self._failures: list[tuple[int, FerryError]] = []
        self._models: list[bytes] = []
        self.heard = 0
        self.is_lost = False

    @property
    def n_open(self) -> int:
        """Requests without an outcome."""
        return len(self._open)

    def tell_models(self, number: int, rows: list[dict[str, Any]]) -> None:
        """The table of models, by its number."""
        self._models.append(frames.json_frame(Kind.MODELS, (number, rows)))
        self.flush_soon()

    def answer(self, number: int, outputs: list[Array], packing: Packing) -> None:
        """The outputs of a request."""
        try:
            if self.is_full:
                raise Refused("the front end does not read its answers; try again", Refusal.QUEUE_FULL.value, 1.0)
            slot, n_bytes, data = self.place(packing, outputs)
        except FerryError as error:
            self.fail(number, error)
            return
        except Exception:  # a bug, or a model whose outputs are not what it declares: the others of its batch get theirs
            log.exception("an answer could not be packed: a bug in ferry")
            self.fail(number, FerryError("internal error; the server's log has the details"))
            return
        self._open.pop(number, None)
        self._answers.add(number, slot, n_bytes, data)
        self.flush_soon()

    def fail(self, number: int, error: FerryError) -> None:
        """A request has come to another end."""
        self._open.pop(number, None)
        self._failures.append((number, error))
        self.flush_soon()

    def outgoing(self) -> list[bytes]:
        parts = self._models
        self._models = []
        if self._answers:
            parts += self._answers.frames()
            self._answers = AnswerBatch()
        if self._failures:
            parts.append(frames.failures_frame(self._failures))
            self._failures = []
        return parts

    def received(self, kind: Kind, body: memoryview) -> None:
        if kind is Kind.ASKS:
            self._asked(body)
        elif kind is Kind.NAMES:
            self._names = dict(frames.read_json(body))  # of the requests in the frames that follow at once
        elif kind is Kind.CANCELS:
            for number in frames.read_numbers(body):
                request = self._open.get(number)
                if request is not None:
                    self._engine.cancel(request)
        elif kind is Kind.NOTES:
            self._noted([Note(*note) for note in frames.read_json(body)])
        elif kind is Kind.HEARD:
            self.heard = frames.read_numbers(body)[-1]
            self._books.news(self)
        else:
            raise BrokenLink(f"a front end sent {kind.name}, which is for the engine to send")

    def lost(self) -> None:
        self.is_lost = True
        for request in list(self._open.values()):
            self._engine.cancel(request)
        self._open.clear()
        self._books.news(self)

    def _asked(self, body: memoryview) -> None:
        asks, at = frames.read_asks(body)
        for ask in asks:
            buffer, place, at = self.find(ask.slot, ask.n_bytes, body, at)
            served = self._books.served(ask.load)
            if served is None:
                why = "the model was unloaded or replaced while the request was on its way; try again"
                self.fail(ask.id, Refused(why, Refusal.DRAINING.value, None))
                continue
            arrays = served.inputs.unpack(buffer, place, ask.n_bytes)
            self._submit(served, dict(zip(served.input_names, arrays, strict=True)), ask)

    def _submit(self, served: Served, inputs: dict[str, Array], ask: Ask) -> None:
        timeout_s = None if math.isnan(ask.timeout_s) else ask.timeout_s
        answer = FarAnswer(self, ask.id, served.outputs)
        name = self._names.pop(ask.id, None) if self._names else None
        try:
            request = self._engine.submit(
                served.model, inputs, ask.rows, ask.length, answer, timeout_s, ask.arrived_at, ask.priority, ask.client
            )
        except Refused as error:
            self.fail(ask.id, error)
            return
        self._open[ask.id] = request
        if name:
            self._engine.named(request.id, name)

    def _noted(self, notes: list[Note]) -> None:
        for load, label, n, waited_s in notes:
            served = self._books.served(load)
            if served is not None:  # otherwise its counters have ended with it
                served.model.stats.turned_away(label, n, waited_s)
