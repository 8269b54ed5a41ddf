"""Replaces files atomically: writes a draft beside the file, syncs it, renames it, and syncs the folder.

A reader sees the old content or the new content, never a part of it, also after a power cut. A draft that a killed
process left behind ends in `.tmp` and may be removed.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing", "sync_folder", "write_bytes", "write_text"]


@contextmanager
def replacing(path: Path, *, mode: int | None = None, sync: bool = True) -> Iterator[Path]:
    """Gives a path to write to. After the block that file replaces `path`; after an error it is removed.

    Args:
        path: The file to create or replace. Its folder must exist.
        mode: The permissions; None: the default of the process.
        sync: Whether file and folder are on disk on return. Without it a power cut may lose the new content.
    """
    # A name of its own, as others may replace the same file; its permissions from the start, as it may hold a secret.
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else mode))
    try:
        yield draft
        if mode is not None:
            draft.chmod(mode)
        if sync:
            _sync(draft, os.O_RDONLY)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    if sync:
        sync_folder(path.parent)


def write_bytes(path: Path, content: bytes, *, mode: int | None = None, sync: bool = True) -> None:
    """Replaces a file by this content. The arguments are those of `replacing`."""
    with replacing(path, mode=mode, sync=sync) as draft:
        draft.write_bytes(content)


def write_text(path: Path, content: str, *, mode: int | None = None, sync: bool = True) -> None:
    """Replaces a file by this text in UTF-8. The arguments are those of `replacing`."""
    write_bytes(path, content.encode("utf-8"), mode=mode, sync=sync)


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
