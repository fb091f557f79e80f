"""The short way of an infer request: from the bytes of one read to the scheduler, and from the batch's answer to one write.

No parser, no task, no coroutine, for whole requests with a known head on a connection that owes nothing; all others go the
long way, through parser and ASGI, to the same decoder, engine and encoder. Here too, what has waited too long to be read is
turned away before anything is spent on it; and under overload some are whatever their age.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

from server.api.arrival import TICK_S, Arrivals
from server.api.clients import Clients
from server.api.codecs import Codec, Codecs
from server.api.errors_http import INTERNAL, Reply, error_reply
from server.api.infer_call import InferCall, TextCall, submit_text_call
from server.api.infer_head import Body, InferHead
from server.api.known_heads import KnownHeads
from server.api.load_shedding import LoadShedder
from server.api.responses import Responses
from server.api.terms import HeadTerms, head_priority, says_priority, together
from server.backends.base import Array
from server.core.types import Refusal
from server.errors import Cancelled, FerryError, Refused
from server.runtime.clock import monotonic_clock
from server.runtime.gathering import Gathering
from server.runtime.refusals import MOST_KNOWN, KnownRefusals, read_too_late, shed
from server.runtime.serving import M, ServingEngine, ServingModel, ServingModels
from server.runtime.work import WorkRequest

log = logging.getLogger(__name__)


class Connection(Protocol):
    """Where an answer goes. `client`: the address of the other end, where it has one."""

    client: tuple[str, int] | None

    def respond(self, reply: Reply) -> None:
        """Write it. Called exactly once for each request that the lane takes; from within `take` when that returns None."""


class Ticket:
    """A request on its way; the engine gives it its outcome as it would give it to a future."""

    __slots__ = ("_call", "_codec", "_connection", "_engine", "request")

    request: WorkRequest | Gathering
    """What cancels it; let go with the outcome, or the two would keep each other until the garbage collector comes."""

    def __init__(self, connection: Connection, codec: Codec, call: InferCall | TextCall, engine: ServingEngine[Any]) -> None:
        self._connection: Connection | None = connection
        self._codec = codec
        self._call = call
        self._engine = engine

    def done(self) -> bool:
        return self._connection is None

    def set_result(self, outputs: list[Array]) -> None:
        try:
            reply: Reply = 200, *self._codec.encoder.encode(self._call.id, outputs, self._call.outputs)
        except FerryError as error:
            reply = error_reply(error)
        except Exception:  # one bug must not take the answers of the batch-mates along
            log.exception("an answer could not be encoded: a bug in ferry")
            reply = error_reply(FerryError(INTERNAL))
        self._respond(reply)

    def set_exception(self, error: FerryError) -> None:
        if isinstance(error, Cancelled):
            self._connection = None  # nobody is left to read an answer
            del self.request
        else:
            self._respond(error_reply(error))

    def cancel(self) -> None:
        """The client is gone."""
        if isinstance(self.request, Gathering):
            self.request.cancel()
        else:
            self._engine.cancel(self.request)

    def _respond(self, reply: Reply) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None, "one outcome each"
        del self.request
        connection.respond(reply)


class FastLane:
    """One for all connections."""

    def __init__(
        self, heads: KnownHeads, engine: ServingEngine[M], registry: ServingModels[M], codecs: Codecs, shedder: LoadShedder,
        clients: Clients | None = None,
    ) -> None:  # fmt: skip
        """`clients`: where somebody rations."""
        self.heads = heads
        self.responses = Responses()
        self._shedder = shedder
        self._clients = clients
        self._engine: ServingEngine[Any] = engine
        self._registry: ServingModels[Any] = registry
        self._codecs = codecs
        self._refusals = KnownRefusals()
        self._replies: dict[Refused, Reply] = {}

    def take(self, connection: Connection, head: InferHead, body: Body, arrivals: Arrivals) -> Ticket | None:
        """A ticket for a request that is on its way now, None for one that has its answer already."""
        try:
            model = self._registry.find(head.name, head.version)
            is_shed = self._shedder.sheds(model.slo_s)
            if head.terms is not None:
                return self._by_terms(connection, model, head, head.terms, body, arrivals, is_shed)
            if is_shed:
                connection.respond(self._turn_away(model, 0.0, self._shed(model)))
                return None
            waited_s = arrivals.waited_s()
            arrived_at = monotonic_clock() - waited_s
            late_s = self._engine.late_s(model, waited_s + TICK_S) if waited_s else 0.0
            refused = self._engine.crowded_out(model, arrived_at) if late_s <= 0 else None
            if (late_s <= 0 and refused is None) or says_priority(body, head.header_length):
                return self._submit(connection, model, head, body, arrived_at)
            connection.respond(self._turn_away(model, waited_s, refused or self._too_late(model, waited_s, late_s)))
        except FerryError as error:
            connection.respond(error_reply(error))
        except Exception:  # a client always gets an answer, and one bug must not end its connection
            log.exception("infer failed: a bug in ferry")
            connection.respond(error_reply(FerryError(INTERNAL)))
        return None

    def _by_terms(
        self, connection: Connection, model: ServingModel, head: InferHead, terms: HeadTerms, body: Body, arrivals: Arrivals,
        is_shed: bool,
    ) -> Ticket | None:  # fmt: skip
        """For a head that has something to say of time, class or client. `is_shed`: refuse it unless its class is more urgent than
        the default. Raises FerryError."""
        priority = head_priority(terms, model.classes, str(model.key))
        if is_shed and model.classes.urgency(priority) >= 0:
            connection.respond(self._turn_away(model, 0.0, self._shed(model)))
            return None
        client = self._clients.known(terms.client, connection.client) if self._clients is not None else 0
        arrived_at = monotonic_clock() - arrivals.waited_s()
        if not says_priority(body, head.header_length):
            self._engine.arrival(model, arrived_at, priority, client)
        return self._submit(connection, model, head, body, arrived_at, priority, client)

    def _submit(
        self, connection: Connection, model: ServingModel, head: InferHead, body: Body, arrived_at: float, priority: int = 0,
        client: int = 0,
    ) -> Ticket:  # fmt: skip
        """`priority`: that of the head."""
        codec = self._codecs.of(model)
        call = codec.decoder.decode(body, head.header_length)
        terms = call.terms if head.terms is None else together(head.terms, priority, call.terms)
        ticket = Ticket(connection, codec, call, self._engine)
        if isinstance(call, TextCall):
            ticket.request = submit_text_call(self._engine, model, call, ticket, terms, arrived_at, client)
        else:
            ticket.request = self._engine.submit(
                model, call.inputs, call.rows, call.length, ticket, terms.timeout_s, arrived_at, terms.priority, client
            )
            if call.id:
                self._engine.named(ticket.request.id, call.id)
        return ticket

    def _too_late(self, model: ServingModel, waited_s: float, late_s: float) -> Refused:
        key = (model.key, Refusal.DEADLINE, round(waited_s * 1e3))
        return self._refusals.find(key) or self._refusals.keep(key, read_too_late(model, waited_s, late_s))

    def _shed(self, model: ServingModel) -> Refused:
        share, retry_after_s = self._shedder.share, self._shedder.retry_after_s
        key = (model.key, Refusal.OVERLOAD, round(share * 100), round(retry_after_s * 1e3))
        return self._refusals.find(key) or self._refusals.keep(key, shed(model, share, retry_after_s))

    def _turn_away(self, model: ServingModel, waited_s: float, refused: Refused) -> Reply:
        self._engine.turned_away(model, waited_s, refused)
        reply = self._replies.get(refused)
        if reply is None:
            if len(self._replies) >= MOST_KNOWN:
                self._replies.clear()
            reply = self._replies[refused] = error_reply(refused)
        return reply
