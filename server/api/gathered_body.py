"""A request body of known length that comes in many reads: its parts are kept as they come and joined once."""

from __future__ import annotations

from server.api.infer_head import InferHead


class GatheredBody:
    """What has come of one request so far."""

    __slots__ = ("_n_missing", "_parts", "head")

    def __init__(self, head: InferHead, first: bytes) -> None:
        """`first`: the part that came with the head, less than the whole."""
        assert head.content_length is not None
        self.head = head
        self._parts = [first]
        self._n_missing = head.content_length - len(first)

    @property
    def is_whole(self) -> bool:
        return not self._n_missing

    def add(self, data: bytes) -> bytes:
        """Take what is missing from `data`; returns what is beyond, which belongs to the next request."""
        part, rest = (data, b"") if len(data) <= self._n_missing else (data[: self._n_missing], data[self._n_missing :])
        self._parts.append(part)
        self._n_missing -= len(part)
        return rest

    def join(self) -> bytes:
        return b"".join(self._parts)
