"""Compressed bodies: requests are unpacked within a bound; replies are packed only where the operator asked for it."""

from __future__ import annotations

import zlib

from server.errors import BadRequest, TooLarge, UnknownEncoding

_WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_LEVEL = 1
"""Tensors shrink little at any level; higher ones only cost more."""


def unpack_body(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Raises UnknownEncoding, BadRequest for damage, TooLarge as soon as the limit is passed."""
    bits = _WINDOW_BITS.get(encoding)
    if bits is None:
        raise UnknownEncoding(f"Content-Encoding {encoding.decode('latin-1')!r} is not supported; use gzip, deflate or none")
    stream = zlib.decompressobj(bits)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is not valid {encoding.decode()}: {error}") from None
    if len(plain) > limit:
        raise too_large("unpacks to more", limit)
    if not stream.eof:
        raise BadRequest(f"the {encoding.decode()} body is cut off")
    if stream.unused_data:
        raise BadRequest(f"{len(stream.unused_data)} bytes follow the {encoding.decode()} body; send it as one stream")
    return plain


def too_large(what: str, limit: int) -> TooLarge:
    """The error for a body over the limit; `what` is "has more" or "unpacks to more"."""
    return TooLarge(f"the body {what} than {limit} bytes; send fewer rows or raise the server's max_body_bytes")


def choose_encoding(accept: bytes) -> bytes | None:
    """gzip or deflate, whichever the client likes better than a plain reply and better than the other; None: plain.

    A header that cannot be read means plain, which everybody understands.
    """
    wishes: dict[bytes, float] = {}
    for part in accept.lower().split(b","):
        name, _, rest = part.partition(b";")
        wishes[name.strip()] = _quality(rest)
    anything = wishes.get(b"*", 0.0)
    plain = wishes.get(b"identity", 0.0)
    best, encoding = max((wishes.get(name, anything), name) for name in (b"deflate", b"gzip"))
    return encoding if best > 0.0 and best >= plain else None


def pack_body(body: bytes, encoding: bytes) -> bytes:
    """Blocking: milliseconds for a large tensor."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS[encoding])
    return packer.compress(body) + packer.flush()


def _quality(parameters: bytes) -> float:
    name, _, value = parameters.partition(b"=")
    if name.strip() != b"q":
        return 1.0
    try:
        quality = float(value)
    except ValueError:
        return 0.0
    return quality if 0.0 <= quality <= 1.0 else 0.0
