"""Page tokens: where a listing of members or of changes continues. They are opaque to the caller and valid for one id.

A token is URL-safe base64 of: u8 format, u64 sequence of the last item seen (big-endian), u32 CRC-32 of the head's id
and these nine bytes. The checksum detects tokens that are shortened, of another cluster, or invented. It is no secret.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib

from core.errors import BadInputError
from core.types import ImageId

__all__ = ["decode_token", "encode_token"]

_BODY = struct.Struct(">BQ")
_CHECKSUM = struct.Struct(">I")
_FORMAT = 1


def _checksum(head: ImageId, body: bytes) -> bytes:
    return _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(head.encode("utf-8", "surrogatepass"))))


def encode_token(head: ImageId, sequence: int) -> str:
    """A token for the members of `head` after `sequence`."""
    body = _BODY.pack(_FORMAT, sequence)
    return base64.urlsafe_b64encode(body + _checksum(head, body)).decode("ascii").rstrip("=")


def decode_token(head: ImageId, token: str) -> int:
    """The sequence in a token for the members of `head`.

    Raises:
        BadInputError: The token is invalid, or belongs to another cluster.
    """
    refusal = BadInputError(f"{token[:64]!r} is not a page token of {head!r}: take it from the page before")
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise refusal from None
    body, checksum = packed[: _BODY.size], packed[_BODY.size :]
    if len(body) != _BODY.size or checksum != _checksum(head, body):
        raise refusal
    version, sequence = _BODY.unpack(body)
    if version != _FORMAT:
        raise refusal
    return int(sequence)
