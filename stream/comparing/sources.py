"""What can be compared: a running store, a manifest, or files of another system.

store, store:SIGNAL          the storage server of a signal of the settings
HOST:PORT                    the storage server of another service, which is told no key of ours
FOLDER/manifests/NAME.json   a snapshot manifest, in a folder or in S3
anything else                a Parquet, CSV or TSV file, or a folder of them; names that begin with . or _ are left out
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from core.access import ANONYMOUS, Credentials, Right
from core.errors import BadInputError
from manifests.folder import Folder, open_folder, read_manifest
from manifests.image_files import versions_of
from manifests.interface import MANIFESTS
from manifests.manifest import SUFFIX, Kind
from manifests.rows import read_identities
from storage.selecting import ImageSelection
from storage.serving.client import StorageClient
from stream.access import credentials
from stream.bootstrap.signal import load_signal
from stream.bootstrap.sources import Columns, open_source
from stream.comparing.interface import ClusteredRows, Clustering
from stream.settings import Settings

__all__ = ["open_clustering"]

_AT_ONCE = 65_536
"""Rows of a manifest that are read at once."""

_STORE = "store"
_ADDRESS = re.compile(r"[\w.-]+:\d{1,5}|\[[0-9a-fA-F:.]+\]:\d{1,5}")
_ENDINGS = (".parquet", ".csv", ".tsv")


def open_clustering(
    text: str,
    settings: Settings,
    signal_name: str | None,
    columns: Columns,
    spool: Path,
    elsewhere: Credentials = ANONYMOUS,
) -> Clustering:
    """What a user has named. Nothing is read before `Clustering.rows`.

    Args:
        text: See above.
        settings: Of this deployment.
        signal_name: Which signal manifests are of, and `store`; None: the default one.
        columns: The names of columns in files; those of embeddings do not matter.
        spool: A folder for copies of files that lie elsewhere.
        elsewhere: What is shown to a service that is named by its address.

    Raises:
        BadInputError: There is no such manifest or file, or the manifest is a delta.
        SettingsError: There is no such signal.
        UnavailableError: The folder of a manifest does not answer.
    """
    if text == _STORE or text.startswith(f"{_STORE}:"):
        return _of_signal(settings, text.partition(":")[2] or signal_name)
    if text.endswith(SUFFIX):
        return _ManifestClustering(text, settings, signal_name, spool)
    if _ADDRESS.fullmatch(text) and not Path(text).exists():
        most = settings.signal(signal_name)[1].storage.max_message_bytes
        return _StoreClustering(f"store at {text}", StorageClient(text, _DEADLINE_S, most, elsewhere))
    return _FileClustering(text, columns)


_DEADLINE_S = 10.0


def _of_signal(settings: Settings, signal_name: str | None) -> Clustering:
    name, signal = settings.signal(signal_name)
    server = signal.storage
    proof = credentials(settings, Right.READ)
    return _StoreClustering(
        f"store of {name}", StorageClient(server.address, _DEADLINE_S, server.max_message_bytes, proof)
    )


class _StoreClustering(Clustering):
    """All images of a store, of one moment."""

    def __init__(self, name: str, client: StorageClient) -> None:
        self.name = name
        self._client = client
        self._moment = ""

    def rows(self) -> Iterator[ClusteredRows]:
        """See `Clustering.rows`."""
        with closing(self._client) as client:
            before = client.describe().offset
            after: int | None = None
            for page in client.select(ImageSelection()):
                if after is None:  # the moment was before the first page
                    after = client.describe().offset
                images = [each.image for each in page.images]
                yield ClusteredRows(
                    [each.image_id for each in images],
                    np.fromiter((each.version for each in images), np.int64, len(images)),
                    [each.head for each in images],
                    page.looked_at,
                    page.total,
                )
        self._moment = f"position {before:,}" if after == before else f"a position from {before:,} to {after:,}"

    def moment(self) -> str:
        """See `Clustering.moment`."""
        return self._moment


class _ManifestClustering(Clustering):
    """The rows of a snapshot."""

    def __init__(self, path: str, settings: Settings, signal_name: str | None, spool: Path) -> None:
        folder, name = _opened(path)
        self._manifest = read_manifest(folder, name)
        if self._manifest.kind is not Kind.SNAPSHOT:
            raise BadInputError(
                f"{path} is a {self._manifest.kind}, which has no clusters of its own: compare a snapshot"
            )
        self.name = f"{folder.uri}/{MANIFESTS}/{name}"
        self._folder, self._spool = folder, spool
        self._signal = load_signal(settings, signal_name)

    def rows(self) -> Iterator[ClusteredRows]:
        """See `Clustering.rows`."""
        total = self._manifest.rows
        for rows in read_identities(self._folder, self._manifest, self._signal, self._spool, _AT_ONCE):
            yield ClusteredRows(rows.ids, rows.versions, rows.heads, rows.first + len(rows.ids), total)


def _opened(path: str) -> tuple[Folder, str]:
    """The folder of a manifest, and the manifest's name there."""
    above, _, name = path.rpartition("/")
    root, _, manifests = above.rpartition("/")
    if not above:
        root, manifests = "..", Path.cwd().name
    elif above == MANIFESTS:
        root = "."
    if manifests != MANIFESTS:
        raise BadInputError(f"{path} is no manifest: those lie in FOLDER/{MANIFESTS}/NAME{SUFFIX}")
    return open_folder(root or "/"), name


class _FileClustering(Clustering):
    """Files of another system."""

    def __init__(self, path: str, columns: Columns) -> None:
        self.name = path
        self._sources = [
            open_source(file, columns, {}) for file in _files(Path(path).absolute())
        ]  # Arrow takes `a:1` for a URI

    def rows(self) -> Iterator[ClusteredRows]:
        """See `Clustering.rows`."""
        known = [source.rows for source in self._sources]
        total = None if None in known else sum(rows or 0 for rows in known)
        done = 0
        for source in self._sources:
            for raw in source.batches(("image_id", "image_version", "cluster")):
                found = raw.typed()
                done += len(raw)
                yield ClusteredRows(
                    found.texts("image_id"), versions_of(found), found.texts("cluster", nullable=True), done, total
                )


def _files(path: Path) -> Sequence[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(
        each
        for each in path.iterdir()
        # Spark and Hadoop name checksums and marks so.
        if not each.name.startswith((".", "_")) and any(ending in each.suffixes for ending in _ENDINGS)
    )
    if not found:
        raise BadInputError(f"{path} has no files that end in {', '.join(_ENDINGS)}")
    return found
