"""HTTP as ferry speaks it: uvicorn's protocol, with bounds on what a client may send, and on the time it may take.

Whatever is refused here gets V2's error body, after the answers to the requests before it on the same connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.api.arrival import ARRIVED_AT, Arrivals
from server.api.errors_http import Reply, error_reply
from server.api.fast_lane import FastLane, Ticket
from server.api.gathered_body import IN_PLACE_BYTES, GatheredBody, InPlace
from server.api.one_write import JoiningTransport
from server.api.patience import Patience
from server.api.responses import response_bytes
from server.errors import BadRequest, FerryError, HeadTooLarge, TooSlow

MOST_HEAD_BYTES = 65536
"""Of request line and headers, and of trailers; checked after each read, so one read (256 KiB) may come on top."""

MOST_PIPELINED = 256
"""Requests on one connection that wait for the answers before theirs."""

LINGER_S = 1.0
"""After an error that ends the connection: time for the client to read it before what it still sends resets the connection."""


class FerryProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, patience: Patience, lane: Callable[[], FastLane | None], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience = patience
        self._lane = lane()
        self._gathered: GatheredBody | None = None
        self._is_stood_in_for = False
        self._ticket: Ticket | None = None
        self._held = b""
        self._is_leaving = False
        self._arrivals = Arrivals(None)
        self._arrived_at = 0.0
        self._was_active = False
        self._whole: object = None  # scope of the last request that is complete
        self._owed: object = None  # scope of the request that is known to be incomplete
        self._had_body = False
        self._n_quiet = 0
        self._n_beside = 0  # bytes to come of a body that the parser does not take for one
        self.n_received = 0
        self._last_words: FerryError | None = None
        self._is_deaf = False

    # What the transport tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn says the same
        self._arrivals = Arrivals(transport.get_extra_info("socket"))
        super().connection_made(JoiningTransport(transport, self.loop))  # type: ignore[arg-type]  # delegates the rest
        self.flow = _PipelineFlow(self.transport, self.pipeline)
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrivals.forget()
        if self._ticket is not None:
            self._ticket.cancel()
        self._patience.has_sent(self)
        self._patience.has_read(self)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        if self._n_beside:
            self._take_beside(data)
            return
        if self._ticket is not None:
            self._hold(data)
            return
        if self._gathered is not None:
            if beyond := self._gathered.add(data):
                self._hold(beyond)
            self.body_received(len(data))
            return
        owes_nothing = self.scope is self._whole and (self.cycle is None or self.cycle.response_complete)
        can_read = not self.flow.write_paused  # who does not read its answers goes the long way, which waits for it
        if owes_nothing and can_read and self._lane is not None and (found := self._lane.heads.find(data)):
            head, start = found
            self._was_active = True
            if len(data) - start == head.content_length:
                self._ticket = self._lane.take(self, head, data[start:], self._arrivals)
            else:
                self._gathered = GatheredBody(head, memoryview(data)[start:])
                if self._gathered.n_missing >= IN_PLACE_BYTES:
                    self._hand_reading_to(InPlace(self._gathered, self))
                self._await_more()
        else:
            self._arrived_at = self._arrivals.latest_at()
            self._parse(data, owes_nothing)

    def _rest(self) -> None:
        """Idle from now on, for a while."""
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def body_received(self, n_bytes: int) -> None:
        """So many bytes more of the body that is gathered."""
        self.n_received += n_bytes
        gathered = self._gathered
        if gathered is not None and not gathered.n_missing and self._lane is not None:
            self._stop_gathering()
            self._patience.has_sent(self)
            ticket = self._lane.take(self, gathered.head, gathered.whole(), self._arrivals)
            self._ticket = ticket or self._ticket  # one that was answered at once may have been followed by another

    def _stop_gathering(self) -> None:
        self._gathered = None
        if self._is_stood_in_for:
            self._hand_reading_to(self)

    def _hand_reading_to(self, protocol: asyncio.BaseProtocol) -> None:
        """A transport looks at the kind of its protocol when it begins to read."""
        self._is_stood_in_for = protocol is not self
        self.transport.set_protocol(protocol)
        self.transport.pause_reading()
        self.transport.resume_reading()

    def _parse(self, data: bytes, is_new: bool) -> None:
        """The long way. `is_new`: whether a request begins with this data."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._unset_keepalive_if_required()
            self._refuse(self._last_words or BadRequest(f"this is not HTTP that can be served: {_reason(error)}"))
        except httptools.HttpParserUpgrade as upgrade:
            self._unset_keepalive_if_required()
            if self._n_beside:
                self._take_beside(data[upgrade.args[0] :])
                return
            self._is_deaf = True  # whatever follows is not HTTP/1.1; the request itself is answered
            self.cycle.keep_alive = False
        else:
            if self.scope is not self._whole or not (self.cycle is None or self.cycle.response_complete):
                self._unset_keepalive_if_required()  # not for the empty lines that a parser skips
            if self.scope is not self._whole:
                self._note_unfinished(len(data))
            elif self._owed is not None:
                self._owed = None
                self._patience.has_sent(self)
            is_only_one = is_new and not self.pipeline  # of two in one read, what the parser knows is the second
            if is_only_one and self._lane is not None and _is_known_from_now_on(self.cycle, self.scope):
                self._lane.heads.learn(data, self.scope)  # type: ignore[arg-type]  # a TypedDict

    def _take_beside(self, data: bytes) -> None:
        """More of the body of a request that asks for another protocol, which it does not get (Java's own client asks for HTTP/2 so)."""
        body, rest = data[: self._n_beside], data[self._n_beside :]
        self._n_beside -= len(body)
        self.on_body(body)
        if self._n_beside:
            self._note_unfinished(len(data))
            return
        self.parser = httptools.HttpRequestParser(self)  # the old one takes all that follows for the other protocol
        self._message_complete()
        self._owed = None
        self._patience.has_sent(self)
        if rest:
            self._parse(rest, False)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._patience.expect_reading(self, self.transport.get_write_buffer_size(), self.loop)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._patience.has_read(self)

    def shutdown(self) -> None:
        """The server drains: what was accepted is answered, then the connection ends."""
        if self._ticket is None and self._gathered is None:
            super().shutdown()
        else:
            self._is_leaving = True

    # What the fast lane tells

    def respond(self, reply: Reply) -> None:
        """Write the answer to a request that the fast lane took."""
        if self._is_leaving:
            status, headers, body = reply
            reply = status, [*headers, (b"connection", b"close")], body
        self._ticket = None
        if self.transport.is_closing():
            return
        assert self._lane is not None, "it is the lane that asks"
        response = self._lane.responses.encode(reply, self.server_state.default_headers)
        self.transport.write_whole(response)  # type: ignore[attr-defined]  # a JoiningTransport
        if self._is_leaving:
            self.transport.close()
        elif self._held:
            held, self._held = self._held, b""
            self.flow.resume_reading()
            self.data_received(held)

    def _hold(self, data: bytes) -> None:
        """A client that sends the next request before it has its answer is read again when it has."""
        self._held += data
        self.flow.pause_reading()

    # What the parser tells

    def timeout_keep_alive_handler(self) -> None:
        """The fast lane leaves this timer alone: idle is who used it neither since the timer was set nor now."""
        if (self._was_active or self._ticket is not None or self._gathered is not None) and not self.transport.is_closing():
            self._was_active = False
            self._rest()
        else:
            super().timeout_keep_alive_handler()

    def on_body(self, body: bytes) -> None:
        self._had_body = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A parser that is asked for another protocol leaves the body out."""
        self._n_beside = _n_body(self.headers) if self.parser.should_upgrade() else 0
        if not self._n_beside:
            self._message_complete()

    def _message_complete(self) -> None:
        super().on_message_complete()
        self.scope[ARRIVED_AT] = self._arrived_at  # type: ignore[literal-required]  # not ASGI's but ours
        self._whole = self.scope
        if len(self.pipeline) > MOST_PIPELINED:
            self._last_words = BadRequest(
                f"more than {MOST_PIPELINED} requests wait on this connection; read some answers before you send more"
            )
            raise self._last_words

    # What the application tells

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        super().on_response_complete()
        if self._last_words is not None and is_last:
            self._say_and_close(self._last_words)

    # What patience asks and says

    @property
    def is_held_up(self) -> bool:
        return self.flow.read_paused

    def give_up(self) -> None:
        self._stop_gathering()
        self._refuse(TooSlow("the request did not come in within its time; send it faster, or raise receive_timeout_s"))

    def abandon(self) -> None:
        self.transport.abort()

    def _note_unfinished(self, size: int) -> None:
        if self._owed is not self.scope:
            self._owed = self.scope
            self._await_more()
        elif self._had_body:
            self._n_quiet = 0
            if not self.cycle.response_complete:  # who was answered already gains no time by sending on
                self.n_received += size
        else:
            self._n_quiet += size
        self._had_body = False
        if self._n_quiet > MOST_HEAD_BYTES:
            self._refuse(HeadTooLarge(f"the headers have more than {MOST_HEAD_BYTES} bytes"))

    def _await_more(self) -> None:
        """The rest of a request, in bounded time."""
        self._n_quiet = self.n_received = 0
        self._patience.expect_request(self, self.loop)

    def _refuse(self, error: FerryError) -> None:
        """Nothing more is read; the error goes out when the requests before this one are answered."""
        self._is_deaf = True
        self._patience.has_sent(self)
        cycle = self.cycle
        if self.scope is not self._whole and cycle is not None and cycle.scope is self.scope:  # its body is what is wrong
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()
            else:
                cycle.disconnected = True
                cycle.message_event.set()
                self._say_and_close(None if cycle.response_started else error)
                return
        elif cycle is None or cycle.response_complete:
            self._say_and_close(error)
            return
        self._last_words = error

    def _say_and_close(self, error: FerryError | None) -> None:
        self._unset_keepalive_if_required()
        if error is None or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write(response_bytes(error_reply(error), [(b"connection", b"close")]))
        self.transport.write_eof()
        self._was_active = False  # what comes next is the end, not another spell of rest
        self.timeout_keep_alive_task = self.loop.call_later(LINGER_S, self.timeout_keep_alive_handler)


class _PipelineFlow(FlowControl):
    """Reads nothing more while a request waits for the answers before its own."""

    def __init__(self, transport: asyncio.Transport, pipeline: deque[Any]) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


def _is_known_from_now_on(cycle: Any, scope: Any) -> bool:
    """Whether the parser has just read a head after which the connection stays open, and which asks for nothing in between."""
    return cycle is not None and cycle.scope is scope and cycle.keep_alive and not cycle.waiting_for_100_continue


def _n_body(headers: list[tuple[bytes, bytes]]) -> int:
    """What the parser has found to be a number."""
    return next((int(value) for name, value in headers if name == b"content-length"), 0)


def _reason(error: httptools.HttpParserError) -> str:
    """Of a callback's failure the parser tells nothing of use: all that callbacks refuse is the target of the request."""
    return "the path cannot be read" if isinstance(error, httptools.HttpParserCallbackError) else str(error)
