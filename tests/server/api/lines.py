"""The HTTP protocol over connections whose other end is the test, in front of a scripted world."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import orjson
import uvicorn
from uvicorn.server import ServerState

from server.api.codecs import Codecs
from server.api.fast_lane import FastLane
from server.api.http_protocol import FerryProtocol
from server.api.known_heads import KnownHeads
from server.api.load_shedding import LoadShedder
from server.api.patience import Patience
from server.runtime.clock import busy_clock, monotonic_clock
from tests.child_server import Reply
from tests.server.runtime.scripted_world import World, publish_fake, world

DATE = b"Sat, 21 Nov 2026 09:28:00 GMT"


def post(*numbers: float, path: str = "/v2/models/fake/infer", **more: Any) -> bytes:
    """One request of so many rows; the model doubles them."""
    tensor = {"name": "x", "shape": [len(numbers), 1], "datatype": "FP32", "data": list(numbers)}
    body = orjson.dumps({"inputs": [tensor], **more})
    return f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body):4}\r\n\r\n".encode() + body


class Line(asyncio.Transport):
    """A connection whose other end is the test."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False
        self.reads = True
        self.protocol: asyncio.BaseProtocol | None = None

    @staticmethod
    def pieces(data: bytes, random: Random) -> Iterator[bytes]:
        """Cut somewhere, in pieces of very different sizes."""
        while data:
            size = random.choice([1, 7, 50, 150, 400])
            yield data[:size]
            data = data[size:]

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def receive(self, data: bytes) -> None:
        """What the client sends, handed to the protocol in the way of its kind."""
        while data:
            if isinstance(self.protocol, asyncio.BufferedProtocol):
                room = self.protocol.get_buffer(65536)
                n_bytes = min(len(room), len(data))
                room[:n_bytes] = data[:n_bytes]
                self.protocol.buffer_updated(n_bytes)
                data = data[n_bytes:]
            else:
                assert isinstance(self.protocol, asyncio.Protocol)
                self.protocol.data_received(data)
                data = b""

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def write_eof(self) -> None:
        """Whatever is written can be read."""

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def replies(self) -> list[Reply]:
        found, rest = [], self.written
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            status, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            length = int(headers["content-length"])
            found.append(Reply(int(status.split()[1]), headers, rest[:length]))
            rest = rest[length:]
        return found

    def numbers(self) -> list[float]:
        """The answers, all of which must be good."""
        assert {reply.status for reply in self.replies()} <= {200}, self.written
        return [number for reply in self.replies() for number in reply.json["outputs"][0]["data"]]


class Bench:
    """A server's protocol over lines, all of whose heads are known."""

    def __init__(self, w: World) -> None:
        self.world = w
        self.shedder = LoadShedder(asyncio.get_running_loop(), monotonic_clock, busy_clock)
        heads = KnownHeads(1 << 20, compresses=False)
        self.lane = FastLane(heads, w.engine, w.registry, Codecs(), self.shedder)
        self.patience = Patience(30)
        self._config = uvicorn.Config(w.infer, access_log=False, log_config=None)
        self._config.load()
        self._state = ServerState()
        self._state.default_headers = [(b"date", DATE)]

    def connect(self) -> tuple[FerryProtocol, Line]:
        line, protocol = Line(), FerryProtocol(self.patience, lambda: self.lane, self._config, self._state, {})
        line.set_protocol(protocol)
        protocol.connection_made(line)
        return protocol, line

    async def teach(self, *requests: bytes) -> None:
        """Let each of them go the long way once."""
        for request in requests:
            protocol, line = self.connect()
            before = self.lane.heads.n_known
            protocol.data_received(request)
            await self.world.reaches(lambda: len(line.replies()) == 1)  # noqa: B023
            assert self.lane.heads.n_known == before + 1
            protocol.connection_lost(None)


@asynccontextmanager
async def bench(repository: Path, slo_s: float = 20.0) -> AsyncIterator[Bench]:
    publish_fake(repository, slo_s=slo_s)
    async with world(repository) as w:
        yield Bench(w)
