"""Where manifests and their files lie: a local folder, or S3 (`manifests.s3`)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from core.errors import BadInputError
from core.files import replacing
from manifests.interface import MANIFESTS, Folder, check_bytes, check_size, full_disk_told
from manifests.manifest import MAX_BYTES, SUFFIX, Manifest, ManifestFile

__all__ = ["MANIFESTS", "Folder", "LocalFolder", "open_folder", "read_manifest"]

_PIECE = 1 << 20


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
