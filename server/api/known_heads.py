"""Request heads that the HTTP parser has read before: the same bytes again mean the same, and need no parsing."""

from __future__ import annotations

from server.api.clients import Clients
from server.api.infer_head import IDENTITY, InferHead, Scope, is_infer_path, read_head
from server.api.keys import Keys
from server.errors import FerryError

MOST_HEADS = 8192
LONGEST_HEAD = 2048

_END = b"\r\n\r\n"


class KnownHeads:
    """Heads of infer requests of the plainest kind, by their bytes. Clients send the same few over and over; who sends a
    different one each time is served all the same, the long way."""

    def __init__(
        self, max_body_bytes: int, compresses: bool, clients: Clients | None = None, keys: Keys | None = None
    ) -> None:  # fmt: skip
        """`compresses`: whether replies may be; then who accepts it goes the long way. `clients`: as for read_head. `keys`: heads without
        one of them are not learnt, so the others need no second look."""
        self._max_body_bytes = max_body_bytes
        self._compresses = compresses
        self._clients = clients
        self._keys = keys
        self._heads: dict[bytes, InferHead] = {}

    @property
    def n_known(self) -> int:
        return len(self._heads)

    def find(self, data: bytes) -> tuple[InferHead, int] | None:
        """The head and where its body begins, if `data` begins one request with a known head and has nothing beyond it."""
        end = data.find(_END) + len(_END)
        head = self._heads.get(data[:end])
        if head is None or len(data) - end > (head.content_length or 0):
            return None
        return head, end

    def learn(self, data: bytes, scope: Scope) -> None:
        """`scope` is what the parser made of the only request that begins in `data`; the connection stays open after it. Whether the request
        is the first thing there is seen to here: a parser skips empty lines before it."""
        end = data.find(_END) + len(_END)
        if end > LONGEST_HEAD or not data.startswith(b"POST ") or not is_infer_path(scope["path"]):
            return
        if self._keys is not None and not self._keys.allow(scope["headers"]):
            return
        try:
            head = read_head(scope, self._max_body_bytes, self._clients)
        except FerryError:
            return  # whoever is asked to serve it says so
        if not self._is_plain(head, scope) or len(data) - end > (head.content_length or 0):
            return
        if len(self._heads) >= MOST_HEADS:
            self._heads.clear()
        self._heads[data[:end]] = head

    def _is_plain(self, head: InferHead, scope: Scope) -> bool:
        if head.encoding != IDENTITY or head.content_length is None:
            return False
        if head.header_length is not None and head.header_length > head.content_length:
            return False
        if any(name == b"connection" and value.lower() != b"keep-alive" for name, value in scope["headers"]):
            return False
        return not (self._compresses and any(name == b"accept-encoding" for name, _ in scope["headers"]))
