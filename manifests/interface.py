"""What a folder of manifests and files does, wherever it lies, and what its implementations share.

ROOT/manifests/2026-11-01.json     the manifests, and nothing else: this folder is watched
ROOT/data/part-000000.parquet      the files; the manifests name them relative to ROOT
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from core.errors import MismatchError, UnavailableError
from manifests.manifest import ManifestFile

__all__ = ["MANIFESTS", "Folder", "check_bytes", "check_size", "full_disk_told"]

MANIFESTS = "manifests"
"""The folder of the manifests, below the root."""


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
            MismatchError: Its bytes are others; the message has both checksums. Or it was changed during the block.
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
