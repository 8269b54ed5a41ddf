"""A checksum behind each value that our operators keep in Flink's state.

Flink's files have checksums of their own in most places, but not in all (savepoints have none). A value that was
changed fails its task by name. The task then fails again at each restart from the same checkpoint, so the job's runner
takes an older one.
"""

from __future__ import annotations

import struct

from crc32c import crc32c

from core.errors import NeardupError

__all__ = ["StateDamagedError", "seal", "unseal"]

_CHECKSUM = struct.Struct(">I")


class StateDamagedError(NeardupError):
    """A value in the job's state is not what was written. The task must fail, and an older checkpoint be taken."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"{what} is damaged: {reason}. The runner starts the job from an older snapshot, in the end from none; "
            "then the job reads the waiting records again"
        )


def seal(data: bytes) -> bytes:
    """The value with its CRC-32C behind it, big-endian."""
    return data + _CHECKSUM.pack(crc32c(data))


def unseal(sealed: bytes, what: str) -> bytes:
    """The value without its checksum.

    Args:
        sealed: What `seal` made.
        what: Names the value in the message.

    Raises:
        StateDamagedError: It was cut or changed.
    """
    data = sealed[: -_CHECKSUM.size]
    if len(sealed) < _CHECKSUM.size:
        raise StateDamagedError(what, f"it has {len(sealed)} bytes")
    (written,) = _CHECKSUM.unpack_from(sealed, len(data))
    found = int(crc32c(data))
    if found != written:
        raise StateDamagedError(what, f"its {len(data)} bytes have the checksum {found:08x}, not {written:08x}")
    return data
