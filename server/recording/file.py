"""A recording as a file of JSON lines: a header, then chunks, each with the scheduler's state and the lines that follow it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import orjson

from server.contract.errors import ContractError
from server.core.types import InferRequest
from server.recording.facts import Facts
from server.recording.known import read_costs
from server.recording.ring import NAME, Chunk
from server.recording.state import Saved

FORMAT = 1


class BadRecording(ValueError):
    """A file is no recording that this ferry can read; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Header:
    """`why` it was written, by which `ferry`; `now`: the scheduler's clock, in seconds, at `written_ms` of the calendar (since 1970);
    `reply_s`, `reply_share`: how much of the time that is allowed is kept for the reply at least, and as a share."""

    ferry: str
    why: str
    now: float
    written_ms: int
    reply_s: float
    reply_share: float = 0.0

    def allowed_s(self, within_s: float) -> float:
        """What a request was allowed whose batch had to end so long after its arrival."""
        return max(within_s + self.reply_s, within_s / (1 - self.reply_share))

    def left_s(self, request: InferRequest[None], at: float) -> float:
        """How much of what it was allowed is left at that time; negative: it is late."""
        return request.arrived_at + self.allowed_s(request.deadline_at - request.arrived_at) - at


class Line(NamedTuple):
    """One event: when it was handled, what it was, and what was decided."""

    at: float
    event: Facts
    actions: list[Facts]


class Part(NamedTuple):
    """A chunk as read: the state before the first of its lines."""

    saved: Saved
    lines: Sequence[Line]


class Recording(NamedTuple):
    """A whole file, of at least one part. `names`: what clients call the requests of some numbers."""

    header: Header
    parts: Sequence[Part]
    names: dict[int, str]

    @property
    def n_events(self) -> int:
        return sum(len(part.lines) for part in self.parts)


def pieces(header: Header, chunks: Iterable[Chunk]) -> Iterator[bytes]:
    """The bytes of the file."""
    yield orjson.dumps({"recording": FORMAT, **asdict(header)}, option=orjson.OPT_APPEND_NEWLINE)
    for chunk in chunks:
        yield from chunk.pieces()


def read(data: bytes) -> Recording:
    """Raises BadRecording."""
    lines = data.split(b"\n")
    header = _header(lines[0])
    parts: list[tuple[Saved, list[Line]]] = []
    names: dict[int, str] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        try:
            found = orjson.loads(line)
            if isinstance(found, dict):
                parts.append((_saved(found), []))
            elif found[0] == NAME:
                names[found[1]] = found[2]
            else:
                parts[-1][1].append(Line(*found))
        except (ValueError, TypeError, LookupError) as error:
            raise BadRecording(f"line {number} is no line of a recording ({error}); was the file cut off or edited?") from None
    if not parts:
        raise BadRecording("the recording holds no state to begin with")
    return Recording(header, [Part(saved, events) for saved, events in parts], names)


def _header(line: bytes) -> Header:
    try:
        fields: dict[str, Any] = orjson.loads(line)
        version = fields.pop("recording")
    except (ValueError, TypeError, LookupError, AttributeError):
        raise BadRecording("the first line is not the header of a recording by ferry") from None
    if version != FORMAT:
        raise BadRecording(f"the recording has format {version}, this ferry reads {FORMAT}: use the ferry that wrote it")
    try:
        return Header(**fields)
    except TypeError as error:
        raise BadRecording(f"the header of the recording is not whole: {error}") from None


def _saved(fields: dict[str, Any]) -> Saved:
    requests, tree = fields["state"]
    try:
        return Saved(tree, requests, [read_costs(one) for one in fields["costs"]])
    except ContractError as error:
        raise ValueError(str(error)) from None
