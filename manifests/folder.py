"""Where manifests and their files lie: a local folder, or S3 (`manifests.s3`).

ROOT/manifests/2026-11-01.json     the manifests, and nothing else: this folder is watched
ROOT/data/part-000000.parquet      the files; the manifests name them relative to ROOT
"""

from __future__ import annotations

import errno
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from core.errors import BadInputError, MismatchError, UnavailableError
from core.files import replacing
from manifests.manifest import MAX_BYTES, SUFFIX, Manifest, ManifestFile

__all__ = [
    "MANIFESTS",
    "Folder",
    "LocalFolder",
    "check_bytes",
    "check_size",
    "full_disk_told",
    "open_folder",
    "read_manifest",
]

MANIFESTS = "manifests"
"""The folder of the manifests, below the root."""

_PIECE = 1 << 20


class Folder(ABC):
    """A root of manifests and files."""

    uri: str
    """As a user names it."""

    @abstractmethod
    def manifests(self) -> Sequence[str]:
        """The names of all manifests, sorted.

        Raises:
            UnavailableError: The folder does not answer.
            BadInputError: There is no such folder.
        """

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The bytes of one manifest; of a larger one than `MAX_BYTES`, one byte more than that.

        Raises:
            UnavailableError: The folder does not answer.
            BadInputError: There is no such manifest.
        """

    @abstractmethod
    def fetch(self, file: ManifestFile, spool: Path) -> AbstractContextManager[Path]:
        """A file on the local disk, whose bytes are those that the manifest says.

        Args:
            file: The file.
            spool: Where a copy may lie until the end of the block.

        Raises:
            UnavailableError: The folder does not answer, or the disk of the spool is full.
            BadInputError: There is no such file.
            MismatchError: Its bytes are others; the message has both checksums.
        """

    @abstractmethod
    def put(self, path: str) -> AbstractContextManager[Path]:
        """Gives a local path to write to; at the end of the block the file is there, whole. An earlier one is replaced.

        Raises:
            UnavailableError: The folder does not answer, or a disk is full.
        """

    @abstractmethod
    def remove(self, path: str) -> None:
        """Removes a file, if it is there.

        Raises:
            UnavailableError: The folder does not answer.
        """


class LocalFolder(Folder):
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        """Reads nothing yet."""
        self.uri = str(root)
        self._root = root

    def manifests(self) -> Sequence[str]:
        """See `Folder.manifests`."""
        folder = self._root / MANIFESTS
        if not folder.is_dir():
            raise BadInputError(f"there is no folder {folder}")
        return sorted(each.name for each in folder.iterdir() if each.name.endswith(SUFFIX) and each.name[0] != ".")

    def read(self, name: str) -> bytes:
        """See `Folder.read`."""
        path = self._root / MANIFESTS / name
        try:
            with path.open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except OSError as error:
            raise BadInputError(f"cannot read {path}: {error.strerror}") from error

    @contextmanager
    def fetch(self, file: ManifestFile, spool: Path) -> Iterator[Path]:
        """See `Folder.fetch`."""
        path = self._root / file.path
        digest, size = hashlib.sha256(), 0
        try:
            check_size(str(path), file, path.stat().st_size)
            with path.open("rb") as opened:
                while piece := opened.read(_PIECE):
                    digest.update(piece)
                    size += len(piece)
        except OSError as error:
            raise BadInputError(f"cannot read {path}: {error.strerror}") from error
        check_bytes(str(path), file, size, digest.hexdigest())
        yield path

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


@contextmanager
def full_disk_told(path: str) -> Iterator[None]:
    """Makes a full disk an `UnavailableError` that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UnavailableError(f"the disk of {path} is full: make room, then go on") from error
        raise


def check_size(path: str, file: ManifestFile, size: int) -> None:
    """Compares the size of a file with what the manifest says, before the file is read.

    Raises:
        MismatchError: It is another file.
    """
    if size != file.size:
        raise MismatchError(
            f"{path} has {size} bytes, the manifest says {file.size}: it was changed after the manifest was written"
        )


def check_bytes(path: str, file: ManifestFile, size: int, sha256: str) -> None:
    """Compares a file with what the manifest says.

    Raises:
        MismatchError: It is another file.
    """
    if (size, sha256) != (file.size, file.sha256):
        raise MismatchError(
            f"{path} has {size} bytes and the SHA-256 {sha256}, the manifest says {file.size} and {file.sha256}: "
            "it was changed after the manifest was written"
        )


def open_folder(uri: str) -> Folder:
    """The folder that a user names: a path, or `s3://bucket/prefix`.

    Raises:
        BadInputError: It is neither.
    """
    if "://" not in uri:
        return LocalFolder(Path(uri))
    from manifests.s3 import S3Folder

    return S3Folder(uri)


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
