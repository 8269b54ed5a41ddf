"""What may become of a small file: cut at any length, or any of its bits turned."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["damages"]


def damages(content: bytes) -> Iterator[bytes]:
    """Each beginning of the content, then the content with each of its bits turned."""
    for length in range(len(content)):
        yield content[:length]
    for at, byte in enumerate(content):
        for bit in range(8):
            yield content[:at] + bytes([byte ^ 1 << bit]) + content[at + 1 :]
