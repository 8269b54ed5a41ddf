"""Consistent copies of an index in a folder of their own.

Immutable files are linked, or copied where links cannot be: to another volume, for example. The logs are always
copied, up to their size at the moment of the snapshot. `snapshot.json` describes the whole: position, time, size and
checksum of each file. A copy is made under another name and gets its own at the end, so what has its name is whole.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from crc32c import crc32c

from core.checked_json import read_checked, write_checked
from core.errors import BadInputError, MismatchError, UnavailableError
from core.files import sync_folder
from core.types import LogPosition
from search.index.errors import IndexDamagedError
from search.index.folder import HEADER
from search.index.manifest import MANIFEST, Manifest, read_manifest, write_manifest

__all__ = ["SnapshotInfo", "SnapshotWriter", "check_snapshot", "copy_file", "link_or_copy", "snapshots"]

_DESCRIPTION = "snapshot.json"
_FORMAT = 1
_UNFINISHED = ".unfinished"

_HEAD_BYTES = 2**16
"""Of a sealed file the checksum covers its beginning: its header, which holds the checksums of all its sections."""

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)
"""Another volume, a file system without links, or too many links of one file."""

_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What is known of a snapshot without opening it."""

    folder: Path
    position: LogPosition
    created_at_ms: int
    bytes: int
    files: Mapping[str, tuple[int, int]]
    """By name: size, and CRC-32C of a log or of the beginning of a sealed file. Empty: an earlier release made it."""


class SnapshotWriter:
    """A snapshot in the making. Making the object fixes the moment; `finish` copies the bytes."""

    def __init__(self, source: Path, target: Path, manifest: Manifest, logs: Mapping[str, int]) -> None:
        """Links immutable files, and opens what must be copied. The files must stay at their names until this returns.

        Args:
            source: The folder of the index.
            target: The new folder.
            manifest: The manifest of the moment to copy.
            logs: For each log, by name, how many bytes belong to that moment.

        Raises:
            BadInputError: The folder exists.
            UnavailableError: It could not be written; nothing is left of it.
        """
        if target.exists():
            raise BadInputError(f"{target} exists already: choose another name for the snapshot")
        self._target = target
        self._draft = target.with_name(f".{target.name}{_UNFINISHED}")
        self._manifest = manifest
        self._sealed = [*manifest.segments, *([manifest.hidden] if manifest.hidden else [])]
        self._open = ExitStack()
        self._copied: dict[str, tuple[BinaryIO, int]] = {}
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            for left in target.parent.glob(f".*{_UNFINISHED}"):  # of a process that was killed
                shutil.rmtree(left)
            self._draft.mkdir(mode=0o700)
            for name in self._sealed:
                if not _linked(source / name, self._draft / name):
                    self._hold(source / name, (source / name).stat().st_size)
            for name, size in logs.items():
                self._hold(source / name, size)
            self._hold(source / HEADER, (source / HEADER).stat().st_size)
        except OSError as error:
            raise self._failed(error) from error

    def finish(self, position: LogPosition) -> None:
        """Copies the rest. The snapshot survives a crash of the machine once this returns.

        Raises:
            UnavailableError: It could not be written; nothing is left of it.
        """
        try:
            for name, (reader, size) in self._copied.items():
                _copy(reader, self._draft / name, size)
            write_manifest(self._draft, self._manifest)
            files = {name: _fingerprint(self._draft / name, name in self._sealed) for name in _names(self._draft)}
            about = {"position": asdict(position), "created_at_ms": time.time_ns() // 1_000_000, "files": files}
            write_checked(self._draft / _DESCRIPTION, _FORMAT, about)
            self._draft.rename(self._target)
            sync_folder(self._target.parent)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            self._open.close()

    def _hold(self, path: Path, size: int) -> None:
        self._copied[path.name] = self._open.enter_context(path.open("rb")), size

    def _failed(self, error: OSError) -> UnavailableError:
        self._open.close()
        shutil.rmtree(self._draft, ignore_errors=True)
        return UnavailableError(f"cannot write the snapshot {self._target}: {error.strerror}")


def snapshots(folder: Path) -> list[SnapshotInfo]:
    """The snapshots in a folder, oldest first.

    Raises:
        IndexDamagedError: The description of one is damaged.
        MismatchError: A later release wrote it.
    """
    found = [_info(each) for each in _folders(folder)]
    return sorted(found, key=lambda info: info.created_at_ms)


def check_snapshot(folder: Path) -> SnapshotInfo:
    """Compares size and checksum of every file of a snapshot with its description.

    The sections of sealed files have checksums of their own, which are compared when the copy is opened.

    Raises:
        BadInputError: There is no such snapshot.
        IndexDamagedError: A file is missing, was cut, or was changed.
        MismatchError: A later release wrote the snapshot.
    """
    if not folder.is_dir():
        raise BadInputError(f"there is no snapshot {folder}: `neardup index snapshots` lists what is there")
    info = _info(folder)
    for name, (size, checksum) in info.files.items():
        try:
            found = _fingerprint(folder / name, name.startswith(("segment-", "hidden-")))
        except OSError as error:
            raise IndexDamagedError(f"{folder / name} cannot be read ({error.strerror}): {_OTHER}") from error
        if found != [size, checksum]:
            raise IndexDamagedError(
                f"{folder / name} has {found[0]} bytes and the checksum {found[1]:08x}, "
                f"{size} and {checksum:08x} were written: {_OTHER}"
            )
    return info


def link_or_copy(source: Path, target: Path) -> None:
    """Gives an immutable file a second name; copies it where that cannot be."""
    if not _linked(source, target):
        copy_file(source, target)


def copy_file(source: Path, target: Path) -> None:
    """Copies a whole file, and waits for the disk."""
    with source.open("rb") as reader:
        _copy(reader, target, os.fstat(reader.fileno()).st_size)


_OTHER = "use another snapshot, or build the index again with `neardup index build --from storage`"


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))


def _info(folder: Path) -> SnapshotInfo:
    size = sum(file.stat().st_size for file in folder.iterdir())
    try:
        found = read_checked(folder / _DESCRIPTION)
        if found.format != _FORMAT:
            raise MismatchError(f"the snapshot {folder} has format {found.format}, this program reads {_FORMAT}")
        body: dict[str, Any] = found.body
        files = {str(name): (int(pair[0]), int(pair[1])) for name, pair in body["files"].items()}
        return SnapshotInfo(folder, LogPosition(**body["position"]), int(body["created_at_ms"]), size, files)
    except FileNotFoundError:  # release 0.1 wrote none
        manifest = read_manifest(folder)
        if manifest is None:
            raise IndexDamagedError(f"{folder} has no {MANIFEST}: it is no snapshot of an index") from None
        return SnapshotInfo(folder, manifest.position, int(folder.stat().st_mtime * 1000), size, {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexDamagedError(f"{folder / _DESCRIPTION} is damaged ({error}): {_OTHER}") from error


def _names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    return True


def _copy(reader: BinaryIO, target: Path, size: int) -> None:
    """Copies the first `size` bytes of a file, and waits for the disk."""
    with target.open("wb") as writer:
        while size > 0:
            chunk = reader.read(min(size, _CHUNK))
            if not chunk:
                raise OSError(5, f"{reader.name} is shorter than it was")
            writer.write(chunk)
            size -= len(chunk)
        writer.flush()
        os.fsync(writer.fileno())


def _fingerprint(path: Path, sealed: bool) -> list[int]:
    """The size of a file, and its CRC-32C; of a sealed file that of its beginning."""
    checksum, rest = 0, _HEAD_BYTES if sealed else path.stat().st_size
    with path.open("rb") as reader:
        while rest > 0 and (chunk := reader.read(min(rest, _CHUNK))):
            checksum = int(crc32c(chunk, checksum))
            rest -= len(chunk)
    return [path.stat().st_size, checksum]
