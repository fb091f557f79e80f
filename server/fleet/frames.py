"""What travels between a front end and the engine, as bytes: frames of many requests, answers, failures … No I/O here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from struct import Struct
from struct import error as StructError
from typing import Any, ClassVar, NamedTuple

import orjson

from server import errors
from server.errors import FerryError, Refused
from server.fleet.slots import BrokenLink

MOST_FRAME_BYTES = (1 << 31) - 8
"""No frame is larger, so no request and no answer either."""

FULL_FRAME_BYTES = 1 << 20
"""A frame with more inline tensors than this takes no more requests or answers."""

INLINE = -1
"""In place of a slot: the tensors follow in the frame."""


class Kind(IntEnum):
    """Which of the two sends it, and what it holds."""

    ASKS = 1  # front end: requests
    CANCELS = 2  # front end: numbers of requests that nobody waits for
    NOTES = 3  # front end: requests that it refused itself
    HEARD = 4  # front end: the number of the last table of models that it has
    ANSWERS = 5  # engine
    FAILURES = 6  # engine
    MODELS = 7  # engine: the table of models
    RELEASES = 8  # both: slots that the other may use again
    NAMES = 9  # front end: what clients call requests that are asked next


class Ask(NamedTuple):
    """A request. `load` is the model's load number, `timeout_s` NaN without one, `n_bytes` the size of its tensors, which lie
    in the slots from `slot` on, or INLINE. `client`: who asks, where somebody rations, else 0."""

    id: int
    load: int
    rows: int
    length: int
    slot: int
    n_bytes: int
    arrived_at: float
    timeout_s: float
    client: int
    priority: int


class Note(NamedTuple):
    """So many requests for a model were refused by a front end for one reason, after `waited_s` in all."""

    load: int
    label: str
    n: int
    waited_s: float


class Batch:
    """A frame in the making that holds heads of one size and, after them, what belongs to each. When much belongs to them
    it becomes several frames."""

    kind: ClassVar[Kind]

    def __init__(self) -> None:
        self._heads: list[bytes] = []
        self._data: list[bytes] = []
        self._n_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._heads)

    def _add(self, head: bytes, data: bytes) -> None:
        self._heads.append(head)
        self._data.append(data)
        self._n_bytes += len(data)

    def frames(self) -> list[bytes]:
        """All of it."""
        if self._n_bytes <= FULL_FRAME_BYTES:
            return [frame(self.kind, _NUMBER.pack(len(self._heads)), *self._heads, *self._data)]
        made, first, size = [], 0, 0
        for place, data in enumerate(self._data, 1):
            size += len(data)
            if size > FULL_FRAME_BYTES or place == len(self._data):
                heads = self._heads[first:place]
                made.append(frame(self.kind, _NUMBER.pack(len(heads)), *heads, *self._data[first:place]))
                first, size = place, 0
        return made


Frame = tuple[int, memoryview]
_HEAD = Struct("<II")
_ASK = Struct("<QIIIiQddQi4x")
_ANSWER = Struct("<Qi4xQ")
_NUMBER = Struct("<Q")


def frame(kind: Kind, *parts: bytes) -> bytes:
    """One frame. Its body should be a multiple of 8 bytes long, so that tensors lie well."""
    size = sum(map(len, parts))
    assert size <= MOST_FRAME_BYTES, "who submits looks at the size first"
    return b"".join((_HEAD.pack(size, kind), *parts))


class AskBatch(Batch):
    """An ASKS frame in the making: requests with their inline tensors."""

    kind = Kind.ASKS

    def add(
        self, number: int, load: int, rows: int, length: int, slot: int, n_bytes: int, arrived_at: float, timeout_s: float,
        client: int, priority: int, data: bytes,
    ) -> None:  # fmt: skip
        """An Ask, field by field, and its inline tensors: empty for tensors in slots."""
        self._add(_ASK.pack(number, load, rows, length, slot, n_bytes, arrived_at, timeout_s, client, priority), data)


class AnswerBatch(Batch):
    """An ANSWERS frame in the making."""

    kind = Kind.ANSWERS

    def add(self, number: int, slot: int, n_bytes: int, data: bytes) -> None:
        """The answer to request `number`: where its tensors are, how many bytes, and they themselves when they are inline."""
        self._add(_ANSWER.pack(number, slot, n_bytes), data)


def read_asks(body: memoryview) -> tuple[Iterator[Ask], int]:
    """The requests, and where their inline tensors begin. Raises BrokenLink."""
    heads, at = _batch(body, _ASK)
    return map(Ask._make, heads), at


def read_answers(body: memoryview) -> tuple[Iterator[tuple[int, int, int]], int]:
    """Of each answer (request, slot, bytes), and where their inline tensors begin. Raises BrokenLink."""
    return _batch(body, _ANSWER)


def numbers_frame(kind: Kind, numbers: Sequence[int]) -> bytes:
    """CANCELS, RELEASES or HEARD."""
    return frame(kind, Struct(f"<{len(numbers)}Q").pack(*numbers))


def read_numbers(body: memoryview) -> list[int]:
    """Raises BrokenLink."""
    if len(body) % _NUMBER.size:
        raise BrokenLink("a list of numbers that is cut off")
    return [number for (number,) in _NUMBER.iter_unpack(body)]


def json_frame(kind: Kind, content: object) -> bytes:
    """MODELS, NOTES, NAMES or FAILURES."""
    return frame(kind, orjson.dumps(content))


def read_json(body: memoryview) -> Any:
    """Raises BrokenLink."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as wrong:
        raise BrokenLink(f"a frame that should be JSON: {wrong}") from wrong


def failures_frame(failures: Iterable[tuple[int, FerryError]]) -> bytes:
    """What went wrong, by request."""
    rows = [(number, type(e).__name__, str(e), e.label, e.retry_after_s) for number, e in failures]
    return json_frame(Kind.FAILURES, rows)


def read_failures(body: memoryview) -> list[tuple[int, FerryError]]:
    """Errors of our tree, as the engine raised them. Raises BrokenLink."""
    try:
        return [(number, _error(kind, text, label, retry)) for number, kind, text, label, retry in read_json(body)]
    except (TypeError, ValueError, KeyError) as wrong:
        raise BrokenLink(f"a failure that cannot be read: {wrong}") from wrong


class FrameReader:
    """Bytes as they come in → whole frames. Holds at most one frame that is not complete yet."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._held = 0
        self._wanted = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now; views on `data` where possible. Raises BrokenLink for one that is too large."""
        if self._parts:
            self._parts.append(data)
            self._held += len(data)
            if self._held < self._wanted:
                return []
            data = b"".join(self._parts)
            self._parts, self._held = [], 0
        frames: list[Frame] = []
        view, at, end = memoryview(data), 0, len(data)
        self._wanted = _HEAD.size
        while end - at >= _HEAD.size:
            size, kind = _HEAD.unpack_from(data, at)
            if size > MOST_FRAME_BYTES:
                raise BrokenLink(f"a frame of {size} bytes; {MOST_FRAME_BYTES} are allowed")
            if end - at - _HEAD.size < size:
                self._wanted = _HEAD.size + size
                break
            at += _HEAD.size
            frames.append((kind, view[at : at + size]))
            at += size
        if at < end:
            self._parts, self._held = [data[at:] if at else data], end - at
        return frames


_ERRORS: dict[str, type[FerryError]] = {
    kind.__name__: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FerryError)
}


def _error(kind: str, text: str, label: str, retry_after_s: float | None) -> FerryError:
    error = _ERRORS[kind]
    return error(text, label, retry_after_s) if issubclass(error, Refused) else error(text)


def _batch(body: memoryview, head: Struct) -> tuple[Iterator[Any], int]:
    try:
        (n,) = _NUMBER.unpack_from(body)
    except StructError as wrong:
        raise BrokenLink(f"a frame that is cut off: {wrong}") from wrong
    end = _NUMBER.size + n * head.size
    if end > len(body):
        raise BrokenLink(f"a frame of {len(body)} bytes that should hold {n} entries")
    return head.iter_unpack(body[_NUMBER.size : end]), end
