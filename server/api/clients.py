"""Tells clients apart, for who rations: by the key in a header, and those without one by their address. Keys themselves are not kept."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from hashlib import blake2b
from urllib.parse import unquote

FROM_FRONT_END = b"x-ferry-client"
"""Between a front end and its engine: who the client is. Nobody else is believed."""


class Clients:
    """A client is a number, from 1 on; the same key or address is the same number in every process."""

    def __init__(self, header: str, behind_front_ends: bool = False) -> None:
        """`behind_front_ends`: HTTP comes from this server's own front ends alone, which say who their client is."""
        self._header = header.lower().encode()
        self._name = header.lower()
        self._behind_front_ends = behind_front_ends

    def by_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> int:
        """0 when no header tells."""
        wanted = FROM_FRONT_END if self._behind_front_ends else self._header
        value = next((value for name, value in headers if name == wanted), b"")
        if not value:
            return 0
        return int(value, 16) if self._behind_front_ends else _number(b"key:" + value)

    def by_metadata(self, metadata: Iterable[tuple[str, str | bytes]], peer: str) -> int:
        """Of a gRPC call, `peer` as the library writes it: ipv4:127.0.0.1:5000, ipv6:%5B::1%5D:5000, unix:…"""
        value = next((value for name, value in metadata if name == self._name), "")
        if value:
            return _number(b"key:" + (value.encode() if isinstance(value, str) else value))
        return self.by_address(unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]"))

    def known(self, by_headers: int, peer: tuple[str, int] | None) -> int:
        """The number that the headers gave, or that of the connection's other end."""
        return by_headers or self.by_address(peer[0] if peer else None)

    def by_address(self, host: str | None) -> int:
        """An IPv6 address stands for its /64 network, all of which one client usually has; None: where addresses mean nothing."""
        return _number(b"address:" + _network(host or ""))


def _network(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # a Unix socket has none
        return host.encode()
    if isinstance(address, ipaddress.IPv6Address):
        return address.packed[:8] if address.ipv4_mapped is None else address.ipv4_mapped.packed
    return address.packed


def _number(secret: bytes) -> int:
    return int.from_bytes(blake2b(secret, digest_size=8).digest(), "little") or 1
