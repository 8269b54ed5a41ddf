"""What may become of a file: cut at any length, any of its bits turned, or pages that were never written."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PAGE_BYTES", "damages", "zero_pages"]

PAGE_BYTES = 4_096
"""The page of the system's cache, which reaches the disk whole or not at all."""


def damages(content: bytes) -> Iterator[bytes]:
    """Each beginning of the content, then the content with each of its bits turned."""
    for length in range(len(content)):
        yield content[:length]
    for at, byte in enumerate(content):
        for bit in range(8):
            yield content[:at] + bytes([byte ^ 1 << bit]) + content[at + 1 :]


def zero_pages(file: Path, durable: int, choice: random.Random) -> None:
    """Loses some pages of what a file holds after its first `durable` bytes, at least one: they read as zeros."""
    size = file.stat().st_size
    pages = range(durable // PAGE_BYTES, (size - 1) // PAGE_BYTES + 1)
    lost = [page for page in pages if choice.random() < 0.5] or [choice.choice(pages)]
    with file.open("r+b") as opened:
        for page in lost:
            start, end = max(durable, page * PAGE_BYTES), min(size, (page + 1) * PAGE_BYTES)
            opened.seek(start)
            opened.write(bytes(end - start))
