"""Known heads, as far as this front end serves what they ask for: the engine tells in its own words what becomes of the others."""

from __future__ import annotations

from server.api.clients import Clients
from server.api.infer_head import InferHead
from server.api.keys import Keys
from server.api.known_heads import KnownHeads
from server.fleet.table import ModelTable


class ServedHeads(KnownHeads):
    """Requests for other models go the long way, which passes them on."""

    def __init__(
        self, table: ModelTable, max_body_bytes: int, compresses: bool, clients: Clients | None = None, keys: Keys | None = None
    ) -> None:  # fmt: skip
        super().__init__(max_body_bytes, compresses, clients, keys)
        self._table = table

    def find(self, data: bytes) -> tuple[InferHead, int] | None:
        found = super().find(data)
        if found is None or not self._table.has(found[0].name, found[0].version):
            return None
        return found
