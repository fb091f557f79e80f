"""A card that is the host's own memory: streams are numbers, copies are done at once, and everything is counted. Streams keep the order
of what they were given, so that tests can see that nothing was read before it was copied."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from server.backends.base import Array, CardMemory
from server.backends.cuda_memory import DeviceLost, OutOfDeviceMemory
from server.backends.onnx_cuda import CudaPrecision, OnnxCudaBackend
from server.backends.record_gate import RecordGate


class HostCard:
    """`room`: bytes in all. `is_lost`: every question is answered with DeviceLost."""

    kind = "cpu"

    def __init__(self, room: int = 10**9) -> None:
        self.gate = RecordGate()
        self.room = self.total = room
        self.is_lost = False
        self.streams: list[int] = []
        self.pinned: dict[int, Array] = {}
        self.allocated: dict[int, Array] = {}
        self.graphs: dict[int, Callable[[], None]] = {}
        self.did: list[str] = []

    def stream(self) -> int:
        self.streams.append(len(self.streams) + 1)
        return self.streams[-1]

    def end_stream(self, stream: int) -> None:
        self.streams.remove(stream)

    def pin(self, n_bytes: int) -> Array:
        array = np.zeros(n_bytes, np.uint8)
        self.pinned[array.ctypes.data] = array
        return array

    def unpin(self, array: Array) -> None:
        del self.pinned[array.ctypes.data]

    def allocate(self, n_bytes: int) -> int:
        if n_bytes > self.room:
            raise OutOfDeviceMemory("the card has no memory left (out of memory)")
        self.room -= n_bytes
        array = np.zeros(n_bytes, np.uint8)
        self.allocated[array.ctypes.data] = array
        return array.ctypes.data

    def free(self, address: int) -> None:
        self.room += self.allocated.pop(address).nbytes

    def copy_in(self, address: int, array: Array, stream: int) -> None:
        assert array.ctypes.data in self.pinned
        self.did.append(f"in {stream}")
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def copy_out(self, array: Array, address: int, stream: int) -> None:
        assert array.ctypes.data in self.pinned
        self.did.append(f"out {stream}")
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def wait(self, stream: int) -> None:
        self.check()
        self.did.append(f"wait {stream}")

    def record(self, stream: int, enqueue: Callable[[], None]) -> int:
        """A graph is what it would do."""
        self.graphs[len(self.graphs) + 1] = enqueue
        self.did.append(f"graph {len(self.graphs)}")
        return len(self.graphs)

    def launch(self, graph: int, stream: int) -> None:
        self.did.append(f"launch graph {graph}")
        self.graphs[graph]()

    def forget(self, graph: int) -> None:
        del self.graphs[graph]

    def check(self) -> None:
        if self.is_lost:
            raise DeviceLost("the card does not answer any more (unspecified launch failure); start the server again")

    def memory(self) -> CardMemory:
        return CardMemory(self.room, self.total)

    @property
    def is_empty(self) -> bool:
        return not (self.streams or self.pinned or self.allocated or self.graphs)


class OnTheHost(OnnxCudaBackend):
    """The real backend and the real library, on a card that is the host. `graphs`: whether the library says that it can record them."""

    def __init__(self, card: HostCard, graphs: bool = True) -> None:
        super().__init__(CudaPrecision.F32)
        self.card, self.graphs = card, graphs
        self.asked: list[dict[str, str]] = []

    @property
    def _provider(self) -> str:
        return "CPUExecutionProvider"

    def _memory(self) -> Any:
        return self.card

    def _providers(self, more: Mapping[str, str]) -> Sequence[Any]:
        self.asked.append(dict(more))
        if "enable_cuda_graph" in more and not self.graphs:
            return ["nosuch", 7]
        return ["CPUExecutionProvider"]
