"""Memory, streams and copies of the card that this process uses, by the CUDA runtime. What calculates there is not known here."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from server.backends.base import Array, CardMemory
from server.backends.nvidia import EXTRA, Card, find_cards
from server.backends.record_gate import RecordGate

_BUS_ID_LENGTH = 32
_SPOILED = range(900, 909)
"""CUDA's statuses of a recording that something spoiled: the batch has failed, the card is well."""


class DeviceLost(Exception):
    """The process has lost the card: nothing that it has there can be used any more."""


class OutOfDeviceMemory(Exception):
    """The card has not so much memory left."""


class DeviceMemory(Protocol):
    """A card, as far as slots use it. Addresses and streams are plain numbers, as libraries take them. Every method may raise
    DeviceLost; those that allocate, OutOfDeviceMemory."""

    kind: str
    """What inference libraries call such memory."""

    gate: RecordGate
    """Entered by whoever uses any of the methods below, but for `memory`."""

    def stream(self) -> int:
        """A new stream that waits for no other one."""

    def end_stream(self, stream: int) -> None:
        """Give it back."""

    def pin(self, n_bytes: int) -> Array:
        """Host memory that the card can read by itself: uint8 [n_bytes]."""

    def unpin(self, array: Array) -> None:
        """Give it back; no view on it may be used afterwards."""

    def allocate(self, n_bytes: int) -> int:
        """Memory on the card: its address."""

    def free(self, address: int) -> None:
        """Give it back."""

    def copy_in(self, address: int, array: Array, stream: int) -> None:
        """Begin to copy pinned memory to the card."""

    def copy_out(self, array: Array, address: int, stream: int) -> None:
        """Begin to copy from the card to pinned memory."""

    def wait(self, stream: int) -> None:
        """Until all that the stream was given is done. Other threads run meanwhile."""

    def record(self, stream: int, enqueue: Callable[[], None]) -> int:
        """A graph of what `enqueue` puts on the stream, none of which is calculated now. Raises what `enqueue` raises, and RuntimeError
        when it did what no graph can hold."""

    def launch(self, graph: int, stream: int) -> None:
        """Put all that was recorded on the stream."""

    def forget(self, graph: int) -> None:
        """Give a graph back."""

    def check(self) -> None:
        """Raises DeviceLost if so."""

    def memory(self) -> CardMemory:
        """What is free on the card now, and all of it."""


class CudaMemory:
    """The first card that CUDA shows to this process."""

    kind = "cuda"

    def __init__(self, runtime: Any) -> None:
        self._cuda = runtime
        self._not_enough = runtime.cudaError_t.cudaErrorMemoryAllocation
        self.gate = RecordGate()

    def stream(self) -> int:
        return int(self._call(self._cuda.cudaStreamCreateWithFlags(self._cuda.cudaStreamNonBlocking)))

    def end_stream(self, stream: int) -> None:
        self._call(self._cuda.cudaStreamDestroy(stream))

    def pin(self, n_bytes: int) -> Array:
        address = int(self._call(self._cuda.cudaHostAlloc(n_bytes, self._cuda.cudaHostAllocDefault)))
        return np.ctypeslib.as_array((ctypes.c_uint8 * n_bytes).from_address(address))

    def unpin(self, array: Array) -> None:
        self._call(self._cuda.cudaFreeHost(array.ctypes.data))

    def allocate(self, n_bytes: int) -> int:
        return int(self._call(self._cuda.cudaMalloc(n_bytes)))

    def free(self, address: int) -> None:
        self._call(self._cuda.cudaFree(address))

    def copy_in(self, address: int, array: Array, stream: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._cuda.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, stream))

    def copy_out(self, array: Array, address: int, stream: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(self._cuda.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, stream))

    def wait(self, stream: int) -> None:
        self._call(self._cuda.cudaStreamSynchronize(stream))

    def record(self, stream: int, enqueue: Callable[[], None]) -> int:
        cuda = self._cuda
        self._call(cuda.cudaStreamBeginCapture(stream, cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal))
        try:
            enqueue()
        finally:
            status, *given = cuda.cudaStreamEndCapture(stream)
        if status != cuda.cudaError_t.cudaSuccess:
            raise RuntimeError(self._reason(status))
        (graph,) = given
        try:
            status, *given = cuda.cudaGraphInstantiate(graph, 0)
        finally:
            self._call(cuda.cudaGraphDestroy(graph))
        if status != cuda.cudaError_t.cudaSuccess:
            raise RuntimeError(self._reason(status))
        return int(given[0])

    def launch(self, graph: int, stream: int) -> None:
        self._call(self._cuda.cudaGraphLaunch(graph, stream))

    def forget(self, graph: int) -> None:
        self._call(self._cuda.cudaGraphExecDestroy(graph))

    def check(self) -> None:
        self._call(self._cuda.cudaDeviceSynchronize())

    def memory(self) -> CardMemory:
        free_bytes, total_bytes = self._given(self._cuda.cudaMemGetInfo())
        return CardMemory(int(free_bytes), int(total_bytes))

    def _call(self, returned: tuple[Any, ...]) -> Any:
        """The one thing that the function gave besides its status; None where it gives nothing."""
        given = self._given(returned)
        return given[0] if given else None

    def _given(self, returned: tuple[Any, ...]) -> list[Any]:
        """All that it gave. Any status but those of memory and of recordings means that the card is lost: the arguments are ours."""
        status, *given = returned
        if status == self._cuda.cudaError_t.cudaSuccess:
            return given
        reason = self._reason(status)
        if status == self._not_enough:
            raise OutOfDeviceMemory(
                f"the card has no memory left ({reason}); unload a model, or lower max_rows in its model.toml"
            )
        if int(status) in _SPOILED:
            raise RuntimeError(f"a graph could not be recorded ({reason})")
        raise DeviceLost(f"the card does not answer any more ({reason}); start the server again")

    def _reason(self, status: Any) -> str:
        reason: bytes = self._cuda.cudaGetErrorString(status)[1]
        return reason.decode()


@cache
def find_memory() -> CudaMemory | str:
    """The memory of the card, or why there is none and what to do. The CUDA runtime is loaded only where the driver has a card."""
    cards = find_cards()
    if cards.reason:
        return cards.reason
    runtime = _library()
    if runtime is None:
        return f"cuda-bindings is not installed: pip install 'ferry-serving[{EXTRA}]'"
    status, n_cards = runtime.cudaGetDeviceCount()
    if status != runtime.cudaError_t.cudaSuccess or not n_cards:
        reason = runtime.cudaGetErrorString(status)[1].decode()
        return f"CUDA shows this process no card ({reason}); look at CUDA_VISIBLE_DEVICES and at the driver's version"
    return CudaMemory(runtime)


@cache
def find_card() -> Card | None:
    """The card whose memory that is; None where there is none, or where the driver does not know it."""
    if isinstance(find_memory(), str):
        return None
    runtime = _library()
    assert runtime is not None, "there is memory"
    status, bus_id = runtime.cudaDeviceGetPCIBusId(_BUS_ID_LENGTH, 0)
    if status != runtime.cudaError_t.cudaSuccess:
        return None
    return find_cards().at(bus_id.split(b"\0", 1)[0].decode())  # the rest of its room holds whatever it held


def _library() -> ModuleType | None:
    try:
        from cuda.bindings import runtime
    except ImportError:
        return None
    return runtime  # type: ignore[no-any-return]  # it has no types
