"""What a server says of itself after a soak, beside what its clients saw: what was left behind, in words. Nothing is sent but a GET."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from http.client import HTTPConnection

from loadtests.call import call
from loadtests.child import HOST, Child
from loadtests.cpu import memory
from loadtests.errors import LoadTestError
from loadtests.wire import get_request

MOST_GROWTH = 8 * 2**20
"""Bytes that a server may grow by after the first tenth: what an allocator does with pieces of all sizes, not a part for each request."""

_PATIENCE_S = 30.0
_LINE = re.compile(r"^(\w+)\{([^}]*)\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Books:
    """A generating model's counters and gauges."""

    answered: int
    cancelled: int
    failed: int
    refused: int
    in_flight: int
    slots_used: int
    waiting: int

    @property
    def is_at_rest(self) -> bool:
        return not (self.in_flight or self.slots_used or self.waiting)

    @property
    def accepted(self) -> int:
        """Those that have their outcome."""
        return self.answered + self.cancelled + self.failed


@dataclass(frozen=True, slots=True)
class Look:
    """After so many requests: resident bytes, and those of them that the flight recorder fills until it has its 32 MiB."""

    n_done: int
    rss: int
    recorded: int


@dataclass(frozen=True, slots=True)
class Left:
    """What clients saw. `left`: they went when their reply had begun; `left_early`: before, so the server may not know of them.
    `memory`: by progress, the last one at rest. `changed`: questions whose answers differed."""

    answered: int
    left: int
    left_early: int
    failed: int
    changed: Sequence[str]
    memory: Sequence[Look]

    @property
    def growth(self) -> int:
        """Bytes, from the first tenth of the run to its end, without what the recorder took."""
        last = self.memory[-1]
        first = next(one for one in self.memory if one.n_done >= last.n_done / 10)
        return last.rss - last.recorded - (first.rss - first.recorded)


def look(server: Child, n_done: int) -> Look:
    """Raises OSError, and LoadTestError where the recorder is closed to us."""
    with closing(HTTPConnection(HOST, server.port, timeout=_PATIENCE_S)) as connection:
        connection.request("GET", "/admin/recording")
        reply = connection.getresponse()
        recorded = len(reply.read())
    if reply.status != 200:
        raise LoadTestError(f"GET /admin/recording has status {reply.status}: serve with the admin routes open to this machine")
    return Look(n_done, memory(server.pid).rss, recorded)


def read_books(port: int, model: str) -> Books:
    """From /metrics. Raises CannotConnect."""
    text = call(HOST, port, get_request(f"{HOST}:{port}", "/metrics")).body.decode()
    return books(text, model)


def books(text: str, model: str) -> Books:
    """All versions of a model together; what is not there has not been counted."""
    found: dict[str, float] = {}
    for name, labels, value in _LINE.findall(text):
        if f'model="{model}"' in labels.split(","):
            found[name] = found.get(name, 0.0) + float(value)
    names = {
        "answered": "ferry_request_seconds_count", "cancelled": "ferry_cancelled_total", "failed": "ferry_failed_total",
        "refused": "ferry_refused_total", "in_flight": "ferry_in_flight", "slots_used": "ferry_slots_used", "waiting": "ferry_waiting",
    }  # fmt: skip
    return Books(**{field: int(found.get(name, 0)) for field, name in names.items()})


def leaks(server: Books, clients: Left) -> list[str]:
    """What was left behind; nothing, as it should be."""
    found = [
        f"{n} {what} at rest, should be 0"
        for what, n in (("slots used", server.slots_used), ("waiting", server.waiting), ("in flight", server.in_flight))
        if n
    ]
    least = clients.answered + clients.left
    if not least <= server.accepted <= least + clients.left_early:
        found.append(
            f"the counters do not add up: answered + cancelled + failed is {server.accepted} ({asdict(server)}), clients had "
            f"{clients.answered} answers and left {clients.left}, and {clients.left_early} more perhaps unseen"
        )
    if server.answered < clients.answered:
        found.append(f"{server.answered} answers counted, {clients.answered} came")
    if server.failed or server.refused or clients.failed:
        found.append(f"{server.failed} failed and {server.refused} refused, of clients {clients.failed}: nobody should be")
    if clients.growth > MOST_GROWTH:
        found.append(
            f"memory grew by {clients.growth / 2**20:.1f} MiB after the first tenth, allowed are {MOST_GROWTH / 2**20:.0f}"
        )
    if clients.changed:
        found.append(
            f"{len(clients.changed)} answers differ from an earlier one to the same question, first: {clients.changed[0]}"
        )
    return found
