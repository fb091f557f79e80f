"""A front end's end of one connection to the engine: requests go out, their outcomes come in, every one exactly once."""

from __future__ import annotations

import asyncio
import logging
import math
import mmap
from collections.abc import Callable

from server.errors import EngineLost
from server.fleet import frames
from server.fleet.frames import AskBatch, Kind, Note
from server.fleet.link import Link
from server.fleet.slots import BrokenLink
from server.fleet.table import ModelTable, RemoteModel
from server.recording.facts import LONGEST_TEXT
from server.runtime.work import WorkRequest

log = logging.getLogger(__name__)

NOTE_EVERY_S = 0.1


class EngineLink(Link):
    """The front end's end of one connection. Every request asked here gets its one outcome here."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, outgoing: mmap.mmap, incoming: mmap.mmap, table: ModelTable,
        ended: Callable[[], None],
    ) -> None:  # fmt: skip
        super().__init__(loop, outgoing, incoming)
        self._table = table
        self._ended = ended
        self._open: dict[int, tuple[WorkRequest, RemoteModel]] = {}
        self._asks = AskBatch()
        self._cancels: list[int] = []
        self._names: list[tuple[int, str]] = []
        self._notes: dict[tuple[int, str], tuple[int, float]] = {}
        self._heard: list[int] = []
        self._notes_timer: asyncio.TimerHandle | None = None
        self.knows_models = asyncio.Event()

    @property
    def n_open(self) -> int:
        """Requests without an outcome."""
        return len(self._open)

    def ask(self, request: WorkRequest, model: RemoteModel, timeout_s: float | None, priority: int, client: int) -> None:
        """`priority` is the class, as the model's `classes` number them. Raises TooLarge."""
        inputs = request.payload.inputs
        slot, n_bytes, data = self.place(model.inputs, [inputs[name] for name in model.input_names])
        timeout = math.nan if timeout_s is None else timeout_s
        self._asks.add(
            request.id, model.key.load, request.rows, request.length, slot, n_bytes, request.arrived_at, timeout, client,
            priority, data,
        )  # fmt: skip
        self._open[request.id] = request, model
        self.flush_soon()

    def name(self, number: int, name: str) -> None:
        """What its client calls a request that was asked just now."""
        if number in self._open:
            self._names.append((number, name[:LONGEST_TEXT]))
            self.flush_soon()

    def cancel(self, request: WorkRequest) -> None:
        self._cancels.append(request.id)
        self.flush_soon()

    def note(self, model: RemoteModel, label: str, waited_s: float) -> None:
        """A request was refused here; the engine's counters hear of it soon."""
        key = model.key.load, label
        n, so_far_s = self._notes.get(key, (0, 0.0))
        self._notes[key] = n + 1, so_far_s + waited_s
        if self._notes_timer is None:
            self._notes_timer = self._loop.call_later(NOTE_EVERY_S, self._note_now)

    def outgoing(self) -> list[bytes]:
        parts = [frames.json_frame(Kind.NAMES, self._names)] if self._names else []
        self._names = []
        parts += self._asks.frames() if self._asks else []
        self._asks = AskBatch()
        if self._cancels:
            parts.append(frames.numbers_frame(Kind.CANCELS, self._cancels))
            self._cancels = []
        if self._notes and self._notes_timer is None:
            notes = [tuple(Note(load, label, *told)) for (load, label), told in self._notes.items()]
            parts.append(frames.json_frame(Kind.NOTES, notes))
            self._notes = {}
        if self._heard:
            parts.append(frames.numbers_frame(Kind.HEARD, self._heard[-1:]))
            self._heard = []
        return parts

    def close(self) -> None:
        if self._notes_timer is not None:
            self._notes_timer.cancel()
            self._notes_timer = None
        super().close()

    def received(self, kind: Kind, body: memoryview) -> None:
        if kind is Kind.ANSWERS:
            self._answered(body)
        elif kind is Kind.FAILURES:
            for number, error in frames.read_failures(body):
                work = self._close(number)[0].payload
                if not work.answer.done():
                    work.answer.set_exception(error)
        elif kind is Kind.MODELS:
            number, rows = frames.read_json(body)
            self._table.replace(rows)
            self.knows_models.set()
            self._heard.append(number)
            self.flush_soon()
        else:
            raise BrokenLink(f"the engine sent {kind.name}, which is for front ends to send")

    def lost(self) -> None:
        """Fails whatever has no outcome yet."""
        if self._notes_timer is not None:
            self._notes_timer.cancel()
        if self._open:
            log.error("the engine is gone: %d requests fail", len(self._open))
        for request, _ in self._open.values():
            if not request.payload.answer.done():
                request.payload.answer.set_exception(
                    EngineLost(f"the engine that ran this request for model {request.model} died; it is restarted, try again")
                )
        self._open.clear()
        self._ended()

    def _answered(self, body: memoryview) -> None:
        answers, at = frames.read_answers(body)
        for number, slot, n_bytes in answers:
            request, model = self._close(number)
            buffer, place, at = self.find(slot, n_bytes, body, at)
            outputs = model.outputs.unpack(buffer, place, n_bytes)
            work = request.payload
            if not work.answer.done():
                work.answer.set_result(outputs)

    def _close(self, number: int) -> tuple[WorkRequest, RemoteModel]:
        found = self._open.pop(number, None)
        if found is None:
            raise BrokenLink(f"an outcome for request {number}, which has none to come")
        return found

    def _note_now(self) -> None:
        self._notes_timer = None
        self.flush_soon()
