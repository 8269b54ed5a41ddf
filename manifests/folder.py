"""Where manifests and their files lie: a local folder, or S3 (`manifests.s3`)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from core.errors import BadInputError, MismatchError, NeardupError, UnavailableError
from core.files import replacing
from manifests.interface import MANIFESTS, Folder, check_bytes, check_size, full_disk_told
from manifests.manifest import MAX_BYTES, SUFFIX, Manifest, ManifestFile

__all__ = ["MANIFESTS", "Folder", "LocalFolder", "open_folder", "read_manifest"]

_PIECE = 1 << 20

_Same = tuple[int, int, int]


class LocalFolder(Folder):
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        """Reads nothing yet."""
        self.uri = str(root)
        self._root = root
        self._hashed: dict[str, tuple[_Same, ManifestFile]] = {}
        """What each file was when it had the bytes that a manifest says: several passes read it."""

    def manifests(self) -> Sequence[str]:
        """See `Folder.manifests`."""
        folder = self._root / MANIFESTS
        try:
            names = [each.name for each in folder.iterdir()]
        except FileNotFoundError:
            raise BadInputError(f"there is no folder {folder}") from None
        except OSError as error:
            raise self._error(folder, error) from error
        return sorted(name for name in names if name.endswith(SUFFIX) and name[0] != ".")

    def read(self, name: str) -> bytes:
        """See `Folder.read`."""
        path = self._root / MANIFESTS / name
        try:
            with path.open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except OSError as error:
            raise self._error(path, error) from error

    @contextmanager
    def fetch(self, file: ManifestFile, spool: Path) -> Iterator[Path]:
        """See `Folder.fetch`."""
        path = self._root / file.path
        try:
            with path.open("rb") as opened:
                before = _same(os.fstat(opened.fileno()))
                if self._hashed.get(file.path) != (before, file):
                    _check(opened, path, file)
                    self._hashed[file.path] = before, file
        except OSError as error:
            raise self._error(path, error) from error
        try:
            yield path
        except BadInputError:
            self._check_unchanged(path, before)
            raise
        self._check_unchanged(path, before)

    def _check_unchanged(self, path: Path, before: _Same) -> None:
        """Makes sure that what was read is what was hashed: it was opened once more."""
        try:
            now = path.stat()
        except OSError as error:
            raise self._error(path, error) from error
        if _same(now) != before:
            raise MismatchError(f"{path} was changed while it was read")

    def _error(self, path: Path, error: OSError) -> NeardupError:
        """A missing file is the user's fault only where the folder is there: else it may not be mounted."""
        said = f"cannot read {path}: {error.strerror}"
        if not isinstance(error, FileNotFoundError):
            return UnavailableError(said)
        try:
            (self._root / MANIFESTS).stat()
        except OSError:
            return UnavailableError(f"{said}. There is no folder {self._root / MANIFESTS}: is it mounted?")
        return BadInputError(said)

    @contextmanager
    def put(self, path: str) -> Iterator[Path]:
        """See `Folder.put`."""
        target = self._root / path
        with full_disk_told(self.uri):
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as draft:
                yield draft

    def remove(self, path: str) -> None:
        """See `Folder.remove`."""
        (self._root / path).unlink(missing_ok=True)


def _same(found: os.stat_result) -> _Same:
    """What changes with a file, or if another one takes its place."""
    return found.st_ino, found.st_size, found.st_mtime_ns


def _check(opened: BinaryIO, path: Path, file: ManifestFile) -> None:
    """Compares the bytes of a file with what the manifest says.

    Raises:
        MismatchError: It is another file.
    """
    digest = hashlib.sha256()
    check_size(str(path), file, os.fstat(opened.fileno()).st_size)
    while piece := opened.read(_PIECE):
        digest.update(piece)
    check_bytes(str(path), file, opened.tell(), digest.hexdigest())


def open_folder(uri: str, drafts: Path | None = None) -> Folder:
    """The folder that a user names: a path, or `s3://bucket/prefix`.

    Args:
        uri: Where it is.
        drafts: Where files lie until they are uploaded; default: the system's folder for temporary files.

    Raises:
        BadInputError: It is neither.
    """
    if "://" not in uri:
        return LocalFolder(Path(uri))
    from manifests.s3 import S3Folder

    return S3Folder(uri, drafts)


def read_manifest(folder: Folder, name: str) -> Manifest:
    """One manifest.

    Raises:
        UnavailableError: The folder does not answer.
        BadInputError: There is no such manifest, or it is damaged; the message names it.
    """
    if "/" in name:
        raise BadInputError(f"{name!r} is no name of a manifest: manifests lie in {folder.uri}/{MANIFESTS}")
    try:
        return Manifest.decoded(folder.read(name))
    except BadInputError as error:
        raise BadInputError(f"{folder.uri}, manifest {name}: {error}") from None
