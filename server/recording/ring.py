"""The last of what the scheduler was told and decided, in memory, as the very lines of the file that it may become."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from server.core.events import Action, Event
from server.core.scheduler import Scheduler
from server.recording.facts import Costs, action_facts, costs_facts, event_facts, plain
from server.recording.state import Saved, save

log = logging.getLogger(__name__)

CHUNK_BYTES = 4 << 20
N_CHUNKS = 8
"""So many chunks are kept; each begins with the scheduler's whole state, so that the oldest can go at any time."""

PAGE_BYTES = 64 << 10
"""Lines are written into pages: one large buffer would be moved again and again while it grows."""

NAME = "name"
"""First word of a line that gives a client's name for a request."""

_LINE = orjson.OPT_APPEND_NEWLINE


class Chunk(NamedTuple):
    """`state` is JSON, `costs` the tables that it names by their place, `pages` hold the lines that followed."""

    state: bytes
    costs: Sequence[Costs]
    pages: Sequence[bytes | bytearray]

    def pieces(self) -> Iterator[bytes]:
        """As in a file."""
        yield b'{"costs":%b,"state":%b}\n' % (orjson.dumps([costs_facts(one) for one in self.costs]), self.state)
        yield from map(bytes, self.pages)


class Ring:
    """Sees every event of one scheduler, after it was handled. Holds no request, no payload: numbers only, as text.

    At most `n_chunks` times `chunk_bytes`, and what the states at their beginnings take.
    """

    def __init__(
        self, scheduler: Scheduler[Any], chunk_bytes: int = CHUNK_BYTES, n_chunks: int = N_CHUNKS, state: Saved | None = None
    ) -> None:
        """`state`: the scheduler's before the first event that is noted; by default what it is now."""
        self._scheduler = scheduler
        self._page_bytes = min(PAGE_BYTES, chunk_bytes)
        self._n_pages = chunk_bytes // self._page_bytes
        self._chunks: deque[Chunk] = deque(maxlen=n_chunks)
        self._has_stopped = False
        self._begin(state or save(scheduler))

    @property
    def n_bytes(self) -> int:
        """Memory that it takes."""
        return sum(len(chunk.state) + sum(map(len, chunk.pages)) for chunk in self._chunks)

    def note(self, event: Event[Any], actions: Sequence[Action[Any]], now: float) -> None:
        """`actions` are what the scheduler made of `event` at `now`; it has seen nothing since. A bug in here costs the rest of the recording,
        never what was decided."""
        if self._has_stopped:
            return
        try:
            self._note(event, actions, now)
        except Exception:  # whatever is wrong with the recording, those who wait get their answers
            self._has_stopped = True
            log.exception("a bug in ferry: the flight recorder stops here, and the server goes on without it")

    def _note(self, event: Event[Any], actions: Sequence[Action[Any]], now: float) -> None:
        self._page += orjson.dumps((now, event_facts(event), [action_facts(action) for action in actions]), option=_LINE)
        if len(self._page) >= self._page_bytes:
            self._turn()

    def name(self, number: int, name: str) -> None:
        """The request of this number has a name of its client's."""
        if self._has_stopped:
            return
        self._page += orjson.dumps((NAME, number, plain(name)), option=_LINE)

    def chunks(self) -> list[Chunk]:
        """What it holds now, oldest first. It does not change any more, so another thread may write it."""
        *done, last = self._chunks
        return [*done, last._replace(pages=[*last.pages[:-1], bytes(self._page)])]

    def _turn(self) -> None:
        if len(self._pages) == self._n_pages:
            self._begin(save(self._scheduler))
        else:
            self._page = bytearray()
            self._pages.append(self._page)

    def _begin(self, state: Saved) -> None:
        self._page = bytearray()
        self._pages: list[bytes | bytearray] = [self._page]
        self._chunks.append(Chunk(orjson.dumps((state.requests, state.tree)), state.costs, self._pages))
