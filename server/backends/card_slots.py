"""Batches on a card: shapes, pinned buffers beside those on the card, one thread and one stream for each batch in flight. What
calculates between the two copies is the library's affair."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import LifoQueue
from typing import NamedTuple, Protocol

import numpy as np

from server.backends.base import NUMPY_TYPES, Array, BatchError, LoadError
from server.backends.cuda_memory import DeviceLost, DeviceMemory, OutOfDeviceMemory
from server.contract.tensors import DataType, TensorSpec

log = logging.getLogger(__name__)

N_SLOTS = 2
"""Batches in flight: one is copied while the other one is calculated."""

N_SEEN = 2
"""A shape that comes for the so-manieth time gets buffers of its own, and a graph where the library records graphs."""

MAX_KEPT = 64
"""So many shapes get that; others share buffers that grow, and are launched operator by operator. Recorded graphs are never let go."""

MOST_FAILED = 3
"""So many recordings of a slot may fail: one may be for want of memory, which passes."""

_ALIGNED = 256

Shape = tuple[int, ...]


class Place(NamedTuple):
    """A tensor in a block: `offset` in bytes from its beginning."""

    name: str
    dtype: np.dtype[np.generic]
    shape: Shape
    offset: int

    @property
    def n_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape))


class Block:
    """Memory on the card and as much pinned memory beside it, so that one copy moves all tensors in it."""

    def __init__(self, memory: DeviceMemory, n_bytes: int) -> None:
        self._memory = memory
        self.host = memory.pin(n_bytes)
        try:
            self.address = memory.allocate(n_bytes)
        except BaseException:  # the pinned half must not stay behind, whatever happened
            memory.unpin(self.host)
            raise

    def view(self, place: Place) -> Array:
        """The pinned half of a tensor."""
        return self.host[place.offset : place.offset + place.n_bytes].view(place.dtype).reshape(place.shape)

    def close(self) -> None:
        self._memory.unpin(self.host)
        self._memory.free(self.address)


class Bucket:
    """The buffers of one set of shapes. `number`: from 1, of shapes whose buffers stay where they are and that may be recorded; None:
    of those that may not."""

    def __init__(
        self, inputs: Sequence[Place], outputs: Sequence[Place], into: Block, out_of: Block, number: int | None
    ) -> None:
        self.inputs, self.outputs, self.into, self.out_of, self.number = inputs, outputs, into, out_of, number
        self.n_in, self.n_out = _n_bytes(inputs), _n_bytes(outputs)
        self.is_recorded = False
        self._filled = [into.view(place) for place in inputs]
        self._read = [out_of.view(place) for place in outputs]

    def fill(self, arrays: Mapping[str, Array]) -> None:
        """Put a batch into pinned memory."""
        for place, view in zip(self.inputs, self._filled, strict=True):
            np.copyto(view, arrays[place.name])

    def take(self) -> list[Array]:
        """The answers, out of pinned memory."""
        return [view.copy() for view in self._read]


class Calculation(Protocol):
    """One execution context of a library. All methods are called by the thread of its slot."""

    def enqueue(self, bucket: Bucket) -> None:
        """Put the calculation on the slot's stream, from `bucket.into` to `bucket.out_of`; need not wait for it. A bucket with a
        number may be recorded as a graph: its addresses and shapes are always the same. Any exception fails the batch."""

    def close(self) -> None:
        """Give the memory back."""


Open = Callable[[int], Calculation]
"""Makes the calculation that goes to this stream."""


class Sizes:
    """What the tensors of a batch must look like, and how large its outputs will be."""

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        """Raises LoadError for strings, and for outputs whose size does not follow from the inputs'."""
        self._inputs, self._outputs = inputs, outputs
        texts = [spec.name for spec in (*inputs, *outputs) if spec.datatype is DataType.BYTES]
        if texts:
            raise LoadError(f"tensor {texts[0]!r} is a string, which a card does not calculate with")
        known = {dim for spec in inputs for dim in spec.shape[1:]}
        for spec in outputs:
            unknown = [dim for dim in spec.shape[1:] if isinstance(dim, str) and dim not in known]
            if unknown:
                raise LoadError(
                    f"output {spec.name!r} has the axis {unknown[0]!r}, which no input has: how large it is must be known before it is "
                    "calculated; export the model with that axis named as the input's is, or serve it by onnxruntime"
                )

    def of(self, arrays: Mapping[str, Array]) -> tuple[list[Place], list[Place]]:
        """Where each tensor goes. Raises BatchError when an input is not what the model declares: addresses are not checked by anyone
        else."""
        sizes: dict[str, int] = {}
        rows = 0
        for spec in self._inputs:
            array = arrays.get(spec.name)
            if array is None:
                raise BatchError(f"input {spec.name!r} is missing")
            dtype = NUMPY_TYPES[spec.datatype.value]
            fits = array.ndim == len(spec.shape) and all(
                dim == size if isinstance(dim, int) else sizes.setdefault(dim, size) == size
                for dim, size in zip(spec.shape, array.shape, strict=True)
            )
            if array.dtype != dtype or not fits:
                raise BatchError(
                    f"input {spec.name!r} is {array.dtype} {list(array.shape)}, the model declares {dtype} {list(spec.shape)}"
                )
            rows = array.shape[0]
        shapes_out = [
            (rows, *(sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape[1:])) for spec in self._outputs
        ]
        return _places(self._inputs, [arrays[spec.name].shape for spec in self._inputs]), _places(self._outputs, shapes_out)


class Slot:
    """One batch at a time, by a thread of its own: libraries keep what they recorded for the thread that recorded it."""

    def __init__(self, memory: DeviceMemory, sizes: Sizes, open_: Open) -> None:
        """Raises what `open_` raises."""
        self._memory, self._sizes = memory, sizes
        self._kept: dict[tuple[Shape, ...], Bucket] = {}
        self._n_seen: dict[tuple[Shape, ...], int] = {}
        self._spare: tuple[Block, Block] | None = None
        self._numbers = itertools.count(1)
        self._n_failed = 0
        with memory.gate.shared():
            self._stream = memory.stream()
        self._thread = ThreadPoolExecutor(1, "card-slot")
        try:
            self._calculation = self._thread.submit(self._opened, open_).result()
        except BaseException:  # whatever it was, neither may stay behind
            self._thread.shutdown()
            with memory.gate.shared():
                memory.end_stream(self._stream)
            raise

    def run(self, arrays: Mapping[str, Array]) -> list[Array]:
        """Raises BatchError, DeviceLost."""
        return self._thread.submit(self._run, arrays).result()

    def close(self) -> None:
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def _opened(self, open_: Open) -> Calculation:
        with self._memory.gate.shared():
            return open_(self._stream)

    def _run(self, arrays: Mapping[str, Array]) -> list[Array]:
        places_in, places_out = self._sizes.of(arrays)
        gate = self._memory.gate
        try:
            with gate.shared():
                bucket = self._bucket(places_in, places_out)
            if bucket.number is None or bucket.is_recorded or not self._record(bucket, arrays):
                with gate.shared():
                    self._calculate(bucket, arrays)
        except OutOfDeviceMemory as error:
            raise BatchError(str(error)) from None
        return bucket.take()

    def _record(self, bucket: Bucket, arrays: Mapping[str, Array]) -> bool:
        """Calculate with these shapes so that they are recorded. False if that failed: they are launched, this time and later."""
        try:
            with self._memory.gate.alone():
                self._calculate(bucket, arrays)
        except (BatchError, OutOfDeviceMemory) as error:
            bucket.number = None
            self._n_failed += 1
            rest = "" if self._n_failed < MOST_FAILED else "; from now on new shapes are launched operator by operator"
            log.warning("a graph could not be recorded: %s%s", error, rest)
            return False
        bucket.is_recorded = True
        return True

    def _calculate(self, bucket: Bucket, arrays: Mapping[str, Array]) -> None:
        """Raises BatchError, DeviceLost, OutOfDeviceMemory."""
        memory, stream = self._memory, self._stream
        try:
            bucket.fill(arrays)
            memory.copy_in(bucket.into.address, bucket.into.host[: bucket.n_in], stream)
            self._calculation.enqueue(bucket)
            memory.copy_out(bucket.out_of.host[: bucket.n_out], bucket.out_of.address, stream)
            memory.wait(stream)
        except (DeviceLost, OutOfDeviceMemory):
            raise
        except Exception as error:  # the library raises whatever its parts raise; what it broke is asked of the card
            memory.check()
            raise BatchError(" ".join(str(error).split())) from None

    def _bucket(self, inputs: list[Place], outputs: list[Place]) -> Bucket:
        """Of these shapes, by how often they came."""
        shapes = tuple(place.shape for place in inputs)
        kept = self._kept.get(shapes)
        if kept is not None:
            return kept
        if self._n_failed < MOST_FAILED and len(self._kept) < MAX_KEPT:
            self._n_seen[shapes] = self._n_seen.get(shapes, 0) + 1
            if self._n_seen[shapes] >= N_SEEN:
                del self._n_seen[shapes]
                blocks = _two_blocks(self._memory, _n_bytes(inputs), _n_bytes(outputs))
                self._kept[shapes] = Bucket(inputs, outputs, *blocks, next(self._numbers))
                return self._kept[shapes]
        return Bucket(inputs, outputs, *self._room(_n_bytes(inputs), _n_bytes(outputs)), None)

    def _room(self, n_in: int, n_out: int) -> tuple[Block, Block]:
        """The shared buffers, large enough."""
        spare = self._spare
        if spare is not None and spare[0].host.nbytes >= n_in and spare[1].host.nbytes >= n_out:
            return spare
        if spare is not None:
            n_in, n_out = max(n_in, spare[0].host.nbytes), max(n_out, spare[1].host.nbytes)
            self._spare = None
            for block in spare:
                block.close()
        self._spare = _two_blocks(self._memory, n_in, n_out)
        return self._spare

    def _close(self) -> None:
        with self._memory.gate.shared(), ExitStack() as stack:  # all of it, even if a part fails
            stack.callback(self._memory.end_stream, self._stream)
            for block in (*(self._spare or ()), *(one for kept in self._kept.values() for one in (kept.into, kept.out_of))):
                stack.callback(block.close)
            stack.callback(self._calculation.close)
        self._kept.clear()
        self._spare = None


class CardSession:
    """A model on a card. `run` may be called from several threads; more than there are slots wait."""

    def __init__(
        self, memory: DeviceMemory, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], open_: Open
    ) -> None:  # fmt: skip
        """Raises what `open_` raises, and LoadError when the tensors cannot be served from a card."""
        self.inputs, self.outputs = inputs, outputs
        sizes = Sizes(inputs, outputs)
        self._slots: list[Slot] = []
        try:
            for _ in range(N_SLOTS):
                self._slots.append(Slot(memory, sizes, open_))
        except OutOfDeviceMemory as error:
            self._close_slots()
            raise LoadError(str(error)) from None
        except BaseException:  # whatever it was, the first slot must not stay behind
            self._close_slots()
            raise
        self._idle: LifoQueue[Slot] = LifoQueue()  # the slot that was used last knows most shapes
        for slot in self._slots:
            self._idle.put(slot)

    def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        assert self._slots, "run after close"
        slot = self._idle.get()
        try:
            return slot.run(inputs)
        finally:
            self._idle.put(slot)

    def close(self) -> None:
        """Waits for batches in flight."""
        for _ in self._slots:
            self._idle.get()
        self._close_slots()

    def _close_slots(self) -> None:
        while self._slots:
            self._slots.pop().close()


def _places(specs: Sequence[TensorSpec], shapes: Sequence[Shape]) -> list[Place]:
    """One after the other, each on an address that cards read fast."""
    places, offset = [], 0
    for spec, shape in zip(specs, shapes, strict=True):
        place = Place(spec.name, NUMPY_TYPES[spec.datatype.value], shape, offset)
        offset += -(-max(1, place.n_bytes) // _ALIGNED) * _ALIGNED
        places.append(place)
    return places


def _n_bytes(places: Sequence[Place]) -> int:
    last = places[-1]
    return max(1, last.offset + last.n_bytes)


def _two_blocks(memory: DeviceMemory, n_in: int, n_out: int) -> tuple[Block, Block]:
    into = Block(memory, n_in)
    try:
        return into, Block(memory, n_out)
    except BaseException:  # the first one must not stay behind, whatever happened
        into.close()
        raise
