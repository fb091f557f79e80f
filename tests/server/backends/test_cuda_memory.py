"""The CUDA runtime as it is called, and what each of its statuses becomes; and why there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import IntEnum
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from server.backends import cuda_memory
from server.backends.base import CardMemory
from server.backends.cuda_memory import CudaMemory, DeviceLost, OutOfDeviceMemory, find_card, find_memory
from server.backends.nvidia import Card, Cards
from server.contract.accelerator import Accelerator

CARD = Card(Accelerator("A card", "9.0", "570.1", "12.8"), 80 * 10**9, "00000000:17:00.0")


class Status(IntEnum):
    """As the real one."""

    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorNoDevice = 100
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureInvalidated = 901


class Runtime(ModuleType):
    """Stands for the module: notes each call and answers with `status`. Pinned memory is an array that it keeps."""

    cudaError_t = Status
    cudaStreamNonBlocking = 1
    cudaHostAllocDefault = 0

    class cudaMemcpyKind(IntEnum):
        """As the real one."""

        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    class cudaStreamCaptureMode(IntEnum):
        """As the real one."""

        cudaStreamCaptureModeThreadLocal = 1

    def __init__(self, status: Status = Status.cudaSuccess, n_cards: int = 1) -> None:
        super().__init__("runtime")
        self.status, self.n_cards = status, n_cards
        self.spoiled, self.n_ended = Status.cudaSuccess, 0
        self.calls: list[tuple[Any, ...]] = []
        self.block = np.zeros(64, np.uint8)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Status, Any]:
        self.n_ended += 1
        return self.spoiled, "draft"

    def cudaGraphInstantiate(self, graph: str, flags: int) -> tuple[Status, Any]:
        return self.status, 9

    def cudaGetErrorString(self, status: Status) -> tuple[Status, bytes]:
        return Status.cudaSuccess, {2: b"out of memory", 100: b"no CUDA-capable device is detected"}.get(
            status, b"illegal access"
        )

    def cudaGetDeviceCount(self) -> tuple[Status, int | None]:
        return self.status, self.n_cards

    def cudaDeviceGetPCIBusId(self, length: int, device: int) -> tuple[Status, bytes]:
        return self.status, b"0000:17:00.0\0".ljust(length)

    def cudaHostAlloc(self, n_bytes: int, flags: int) -> tuple[Status, Any]:
        self.calls.append(("cudaHostAlloc", n_bytes, flags))
        return self.status, self.block.ctypes.data

    def cudaMalloc(self, n_bytes: int) -> tuple[Status, Any]:
        return self.status, 4096

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Status, Any]:
        return self.status, 7

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cuda"):
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[Status]:
            self.calls.append((name, *arguments))
            return (self.status,)

        return call


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    for found in (find_memory, find_card):
        found.cache_clear()
    yield
    for found in (find_memory, find_card):
        found.cache_clear()


def use(monkeypatch: pytest.MonkeyPatch, runtime: Runtime | None, cards: Cards) -> None:
    monkeypatch.setattr(cuda_memory, "_library", lambda: runtime)
    monkeypatch.setattr(cuda_memory, "find_cards", lambda: cards)


def test_pinned_memory_is_an_array_on_what_the_runtime_gave() -> None:
    runtime = Runtime()
    memory = CudaMemory(runtime)
    array = memory.pin(16)
    array[:] = 5
    assert (array.dtype, array.shape, runtime.block[15], runtime.block[16]) == (np.uint8, (16,), 5, 0)
    memory.unpin(array)
    assert runtime.calls == [("cudaHostAlloc", 16, 0), ("cudaFreeHost", runtime.block.ctypes.data)]


def test_copies_go_both_ways_on_their_stream() -> None:
    runtime = Runtime()
    memory = CudaMemory(runtime)
    array, stream = np.zeros(8, np.uint8), memory.stream()
    memory.copy_in(memory.allocate(8), array, stream)
    memory.copy_out(array[:4], 4096, stream)
    memory.wait(stream)
    memory.end_stream(stream)
    memory.free(4096)
    assert runtime.calls == [
        ("cudaMemcpyAsync", 4096, array.ctypes.data, 8, 1, 7), ("cudaMemcpyAsync", array.ctypes.data, 4096, 4, 2, 7),
        ("cudaStreamSynchronize", 7), ("cudaStreamDestroy", 7), ("cudaFree", 4096),
    ]  # fmt: skip


def test_a_graph_is_recorded_by_the_stream_and_kept_without_its_draft() -> None:
    runtime = Runtime()
    memory = CudaMemory(runtime)
    graph = memory.record(7, lambda: runtime.calls.append(("enqueue",)))
    memory.launch(graph, 7)
    memory.forget(graph)
    assert runtime.calls == [
        ("cudaStreamBeginCapture", 7, 1), ("enqueue",), ("cudaGraphDestroy", "draft"), ("cudaGraphLaunch", 9, 7), ("cudaGraphExecDestroy", 9),
    ]  # fmt: skip


def test_what_no_graph_can_hold_is_no_lost_card() -> None:
    runtime = Runtime()
    memory = CudaMemory(runtime)
    with pytest.raises(ZeroDivisionError):
        memory.record(7, lambda: print(1 / 0))
    assert runtime.n_ended == 1
    runtime.spoiled = Status.cudaErrorStreamCaptureInvalidated
    with pytest.raises(RuntimeError, match="illegal access"):
        memory.record(7, lambda: None)
    runtime.status = Status.cudaErrorStreamCaptureInvalidated
    with pytest.raises(RuntimeError, match="a graph could not be recorded"):
        memory.wait(7)


def test_what_does_not_fit_is_not_a_lost_card() -> None:
    memory = CudaMemory(Runtime(Status.cudaErrorMemoryAllocation))
    with pytest.raises(OutOfDeviceMemory, match="unload a model, or lower max_rows"):
        memory.allocate(1)


def test_any_other_status_is_a_lost_card() -> None:
    memory = CudaMemory(Runtime(Status.cudaErrorIllegalAddress))
    with pytest.raises(DeviceLost, match=r"\(illegal access\); start the server again"):
        memory.check()


@pytest.mark.parametrize(
    ("runtime", "cards", "reason"),
    [
        (Runtime(), Cards((), "the NVIDIA driver has no card"), "the NVIDIA driver has no card"),
        (None, Cards((CARD,)), "cuda-bindings is not installed: pip install 'ferry-serving[gpu]'"),
        (
            Runtime(Status.cudaErrorNoDevice),
            Cards((CARD,)),
            "no card (no CUDA-capable device is detected); look at CUDA_VISIBLE_DEVICES",
        ),
    ],
)
def test_says_why_there_is_none(runtime: Runtime | None, cards: Cards, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, runtime, cards)
    assert reason in str(find_memory())
    assert find_card() is None


def test_the_card_in_use_is_the_one_that_cuda_shows_first(monkeypatch: pytest.MonkeyPatch) -> None:
    other = CARD._replace(bus_id="00000000:16:00.0")
    use(monkeypatch, Runtime(), Cards((other, CARD)))
    assert isinstance(find_memory(), CudaMemory)
    assert find_card() == CARD


def test_a_card_that_the_driver_does_not_know_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Runtime(), Cards((CARD._replace(bus_id="00000000:16:00.0"),)))
    assert find_card() is None


def test_free_memory_is_asked_of_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime()
    runtime.cudaMemGetInfo = lambda: (runtime.status, 3, 8)  # type: ignore[attr-defined]
    memory = CudaMemory(runtime)
    assert memory.memory() == CardMemory(free_bytes=3, total_bytes=8)
    runtime.status = Status.cudaErrorIllegalAddress
    with pytest.raises(DeviceLost, match="illegal access"):
        memory.memory()


def test_the_library_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setattr(cuda_memory, "find_cards", lambda: Cards((CARD,)))
    assert find_memory() == "cuda-bindings is not installed: pip install 'ferry-serving[gpu]'"
