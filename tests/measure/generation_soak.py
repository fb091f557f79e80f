"""Thousands of streamed answers, a third of them left by their clients at random moments: `python -m tests.measure.generation_soak`.

Nothing may be left behind: no slot, no request without an outcome, no connection, no memory, no answer that another one changed. Ends with
status 1 and what it was otherwise. Lives here because the decoder that is served by default is the tests' own.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path

from loadtests.child import HOST, Child, free_port, running
from loadtests.environment import heading
from loadtests.errors import LoadTestError
from loadtests.flags import count
from loadtests.generation.streams import Asked, read
from loadtests.report import write_json
from tests.measure.generation_leaks import Books, Left, Look, leaks, look, read_books
from tests.talker import publish_talker

LEAVES = 0.5
"""Of the clients mean to leave: some find their answer complete before."""

_LENGTHS, _NEW_TOKENS, _N_PROMPTS = (3, 64, 70, 150), (1, 8, 30, 60), 12
_LOWEST_ID, _HIGHEST_ID = 10, 250
_LONGEST_STAY_S = 0.15
_SETTLE_S = 20.0
_POLL_S = 0.05


class End(Enum):
    """What became of a request, as its client sees it."""

    ANSWERED = "answered"
    LEFT = "left after its reply began"
    LEFT_EARLY = "left before its reply began"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request. `stays_s`: its client leaves after so long; `sees`: or when so many pieces of its answer have come."""

    asked: Asked
    stays_s: float | None
    sees: int | None


@dataclass(slots=True)
class Seen:
    """What clients saw: ends, the answer to each question, those that were not always the same, memory by progress."""

    ends: Counter[End] = field(default_factory=Counter)
    answers: dict[tuple[tuple[int, ...], int], str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    memory: list[Look] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak; 0, or 1 after a message on stderr that names what was left behind."""
    parser = argparse.ArgumentParser("python -m tests.measure.generation_soak", description=__doc__)
    parser.add_argument("--requests", type=count, default=6000)
    parser.add_argument("--at-once", type=count, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("loadtests/results"))
    parser.add_argument("--repository", type=Path, help="of published models (default: one with a tiny decoder)")
    parser.add_argument("--model", default="talker", help="one that generates")
    serve = f"{sys.executable} -m server.cli serve --metrics-port 0 --grpc-port off"
    parser.add_argument("--server", default=serve, help="takes --repository, --port")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            repository = options.repository or Path(scratch)
            if options.repository is None:
                publish_talker(repository, options.model)
            port = free_port()
            command = [*shlex.split(options.server), "--repository", str(repository), "--host", HOST, "--port", str(port)]
            with running(command, port, ready_path="/v2/health/ready") as server:
                found = soak(server, options.model, options.requests, options.at_once, options.seed)
    except LoadTestError as error:
        print(f"generation-soak: {error}", file=sys.stderr)
        return 1
    content = heading("tests.measure.generation_soak", sys.argv[1:], vars(options))
    print(f"written: {write_json(options.out, 'generation-soak', {**content, **found.told})}")
    for one in found.leaks:
        print(f"generation-soak: {one}", file=sys.stderr)
    return 1 if found.leaks else 0


@dataclass(frozen=True, slots=True)
class Soaked:
    """`told`: values for JSON."""

    leaks: Sequence[str]
    told: dict[str, object]


def soak(server: Child, model: str, n: int, at_once: int, seed: int) -> Soaked:
    """Send everything, wait until the server is at rest, and compare. Raises LoadTestError."""
    began_at = time.perf_counter()
    before = look(server, 0)
    seen = asyncio.run(_all(server, model, [visit(seed, number) for number in range(n)], at_once))
    took_s = time.perf_counter() - began_at
    books = _settled(server, model)
    seen.memory.append(look(server, n))
    left = Left(
        answered=seen.ends[End.ANSWERED], left=seen.ends[End.LEFT], left_early=seen.ends[End.LEFT_EARLY],
        failed=seen.ends[End.FAILED], changed=tuple(seen.changed), memory=tuple(seen.memory),
    )  # fmt: skip
    found = leaks(books, left)
    told = {
        "seconds": took_s, "server": asdict(books), "clients": {end.value: seen.ends[end] for end in End},
        "memory": [asdict(one) for one in (before, *seen.memory)], "grew_beyond_the_recorder": left.growth, "changed": seen.changed,
        "leaks": found,
    }  # fmt: skip
    print(f"{n} requests in {took_s:.0f} s: {told['clients']}; {books}; memory grew by {left.growth / 2**20:.1f} MiB")
    return Soaked(found, told)


def visit(seed: int, number: int) -> Visit:
    """The request of this number: prompts have beginnings in common, so that slots are copied too."""
    base = random.Random(f"{seed} prompt {number % _N_PROMPTS}")
    ids = [base.randint(_LOWEST_ID, _HIGHEST_ID) for _ in range(max(_LENGTHS))]
    rnd = random.Random(f"{seed} visit {number}")
    prompt = ids[: rnd.choice(_LENGTHS)]
    if rnd.random() >= LEAVES:
        return Visit(Asked(prompt, rnd.choice(_NEW_TOKENS)), None, None)
    asked = Asked(prompt, max(_NEW_TOKENS))
    if rnd.random() < 0.5:
        return Visit(asked, rnd.random() * _LONGEST_STAY_S, None)
    return Visit(asked, None, rnd.randint(1, asked.new_tokens // 2))


async def _all(server: Child, model: str, visits: Sequence[Visit], at_once: int) -> Seen:
    seen, places, n_done = Seen(), asyncio.Semaphore(at_once), 0
    every = max(1, len(visits) // 10)

    async def one(asked: Visit) -> None:
        nonlocal n_done
        async with places:
            end, text = await _pay(server.port, model, asked)
        seen.ends[end] += 1
        key = (tuple(asked.asked.prompt), asked.asked.new_tokens)
        if end is End.ANSWERED and seen.answers.setdefault(key, text) != text:
            seen.changed.append(f"{len(key[0])} tokens, {key[1]} new ones: {seen.answers[key]!r} and {text!r}")
        n_done += 1
        if n_done % every == 0:
            seen.memory.append(look(server, n_done))

    await asyncio.gather(*map(one, visits))
    return seen


class _Guest(asyncio.Protocol):
    """One connection; it leaves when it has seen so many pieces."""

    def __init__(self, request: bytes, sees: int | None) -> None:
        self._request, self._sees = request, sees
        self.pieces: list[tuple[float, bytes]] = []
        self.has_left = False
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.pieces.append((0.0, data))
        if self._sees is not None and len(self.pieces) >= self._sees:
            self.leave()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def leave(self) -> None:
        """Whatever has come."""
        self.has_left = not self.over.done()
        self._transport.close()


async def _pay(port: int, model: str, asked: Visit) -> tuple[End, str]:
    body = asked.asked.body(model)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    loop = asyncio.get_running_loop()
    guest: _Guest
    _, guest = await loop.create_connection(lambda: _Guest(head.encode() + body, asked.sees), HOST, port)
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(guest.over), asked.stays_s)
    if not guest.over.done():
        guest.leave()
        await guest.over
    with suppress(LoadTestError):
        answer = read(0.0, guest.pieces)
        if answer.status == 200 and answer.finish is not None:
            return End.ANSWERED, answer.text
        if guest.has_left and answer.status == 200:
            return End.LEFT, ""
        return End.FAILED, ""
    return (End.LEFT_EARLY if guest.has_left else End.FAILED), ""


def _settled(server: Child, model: str) -> Books:
    """The server's books when it is at rest, or when it has had long enough to come there."""
    until = time.perf_counter() + _SETTLE_S
    while True:
        books = read_books(server.port, model)
        if books.is_at_rest or time.perf_counter() > until:
            return books
        time.sleep(_POLL_S)


if __name__ == "__main__":
    sys.exit(main())
