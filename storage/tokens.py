"""Page tokens: where a listing of members or of changes continues. They are opaque to the caller and valid for one id.

A token is URL-safe base64 of: u8 format, u8 order (0 oldest first, 1 newest first), u64 sequence of the last item seen
(big-endian), u32 CRC-32 of the id, u32 CRC-32 of all before. The checksums detect tokens that are shortened, invented
or of another id, and tell the last from the others. They are no secret.

A token holds no state of the server, so it outlives restarts. Sequences only grow and an item keeps its own, so pages
repeat nothing and skip nothing that was there from the first page to the last, whatever is written between them. An
image that leaves and joins again has a new sequence, so it may be listed at both.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib

from core.errors import BadInputError
from core.types import ImageId

__all__ = ["OtherIdError", "decode_token", "encode_token"]

_BODY = struct.Struct(">BBQI")
_CHECKSUM = struct.Struct(">I")
_FORMAT = 2


class OtherIdError(BadInputError):
    """The token is a good one, of another id."""


def encode_token(listed: ImageId, sequence: int, *, newest_first: bool = False) -> str:
    """A token for what follows `sequence` in the listing of an id."""
    body = _BODY.pack(_FORMAT, newest_first, sequence, _checksum(listed))
    return base64.urlsafe_b64encode(body + _CHECKSUM.pack(zlib.crc32(body))).decode("ascii").rstrip("=")


def decode_token(listed: ImageId, token: str, *, newest_first: bool = False) -> int:
    """The sequence in a token for the listing of an id.

    Raises:
        OtherIdError: It belongs to another id.
        BadInputError: It is invalid, or of the other order.
    """
    what = f"{token[:64]!r} is not a page token of {listed!r}"
    refusal = BadInputError(f"{what}: take it from the page before")
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise refusal from None
    body, checksum = packed[: _BODY.size], packed[_BODY.size :]
    if len(body) != _BODY.size or checksum != _CHECKSUM.pack(zlib.crc32(body)):
        raise refusal
    form, order, sequence, of = _BODY.unpack(body)
    if form != _FORMAT:
        raise refusal
    if of != _checksum(listed):
        raise OtherIdError(f"{what}: it belongs to another id")
    if order != newest_first:
        raise BadInputError(f"{what} in this order: ask in the order of the page before")
    return int(sequence)


def _checksum(listed: ImageId) -> int:
    return zlib.crc32(listed.encode("utf-8", "surrogatepass"))
