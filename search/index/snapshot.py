"""A consistent copy of an index: immutable files are linked, the logs are copied up to their size at that moment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from core.errors import BadInputError, UnavailableError
from core.files import sync_folder
from search.index.manifest import Manifest, write_manifest

__all__ = ["write_snapshot"]


def write_snapshot(source: Path, target: Path, manifest: Manifest, logs: Mapping[str, int]) -> None:
    """Makes the copy; it survives a crash of the machine once this returns.

    Args:
        source: The folder of the index; the files that the manifest names must stay there meanwhile.
        target: The new folder, on the same file system.
        manifest: The manifest of the moment to copy.
        logs: For each log, by name, how many bytes belong to that moment.

    Raises:
        BadInputError: The folder exists.
        UnavailableError: It could not be written; nothing is left of it.
    """
    try:
        target.mkdir(parents=True)
    except FileExistsError as error:
        raise BadInputError(f"{target} exists already: choose another name for the snapshot") from error
    try:
        for name in (*manifest.segments, *([manifest.hidden] if manifest.hidden else [])):
            os.link(source / name, target / name)
        for name, size in logs.items():
            _copy(source / name, target / name, size)
        shutil.copyfile(source / "index.json", target / "index.json")
        write_manifest(target, manifest)
        sync_folder(target.parent)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise UnavailableError(f"cannot write the snapshot {target}: {error.strerror}") from error


def _copy(source: Path, target: Path, size: int) -> None:
    """Copies the first `size` bytes of a file, and waits for the disk."""
    with source.open("rb") as reader, target.open("wb") as writer:
        while size > 0:
            chunk = reader.read(min(size, 2**20))
            if not chunk:
                raise OSError(5, f"{source} is shorter than it was")
            writer.write(chunk)
            size -= len(chunk)
        writer.flush()
        os.fsync(writer.fileno())
