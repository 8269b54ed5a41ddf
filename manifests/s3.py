"""A folder of manifests in S3, or in another store that speaks its protocol: `s3://bucket/prefix`.

| from the environment | |
| --- | --- |
| `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` | credentials; else `~/.aws`, else the machine's |
| `AWS_REGION`, `AWS_DEFAULT_REGION` | the bucket's region |
| `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` | the store, such as `http://127.0.0.1:9000`; without it Amazon's |

An object is uploaded in parts, and is there once the store was told of all of them: nobody sees a part of it. Parts of
an upload that was broken off stay with the store until a rule of the bucket removes them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import BadInputError, NeardupError, UnavailableError
from manifests.interface import MANIFESTS, Folder, check_bytes, check_size, full_disk_told
from manifests.manifest import MAX_BYTES, SUFFIX, ManifestFile

__all__ = ["SCHEME", "S3Folder"]

SCHEME = "s3://"

_PIECE = 8 << 20
"""One request reads so much; it is repeated by itself if its connection is lost."""

_SPARE_BYTES, _SPARE_SHARE = 1 << 30, 0.05
"""A download leaves so much of its disk free, the larger of both: others write there, as the store its verdicts."""

_TRIES = 5
"""Of one request, with growing pauses of some seconds in all."""

_CONNECT_S, _SILENCE_S = 5.0, 20.0
"""How long a connection may take, and how long one may be silent."""

_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")
_DENIED = re.compile(r"ACCESS_DENIED|INVALID_ACCESS_KEY|INVALID_CLIENT_TOKEN|SIGNATURE|EXPIRED|HTTP status 40[13]")


class S3Folder(Folder):
    """A prefix of a bucket."""

    def __init__(
        self, uri: str, drafts: Path | None = None, *, tries: int = _TRIES, silence_s: float = _SILENCE_S
    ) -> None:
        """Asks the store nothing yet.

        Args:
            uri: `s3://bucket` or `s3://bucket/prefix`.
            drafts: Where files lie until they are uploaded; None: the system's folder for temporary files.
            tries: How often a request is sent before it counts as failed.
            silence_s: How long a connection may be silent.

        Raises:
            BadInputError: The URI names no bucket.
        """
        from pyarrow import fs  # it loads a large library

        found = _URI.fullmatch(uri)
        if found is None:
            raise BadInputError(f"{uri!r} names no bucket: it must be s3://BUCKET or s3://BUCKET/PREFIX")
        self.uri = uri.rstrip("/")
        self._drafts = drafts
        self._root = "/".join(part for part in (found["bucket"], *(found["prefix"] or "").split("/")) if part)
        options: dict[str, Any] = {}
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint:
            scheme, _, address = endpoint.rpartition("://")
            options |= {"scheme": scheme or "https", "endpoint_override": address.rstrip("/")}
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if region:
            options["region"] = region
        self._fs = fs.S3FileSystem(
            connect_timeout=_CONNECT_S,
            request_timeout=silence_s,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=tries),
            **options,
        )

    def manifests(self) -> Sequence[str]:
        """See `Folder.manifests`."""
        from pyarrow import fs

        with _told(f"{self.uri}/{MANIFESTS}"):
            found = self._fs.get_file_info(fs.FileSelector(f"{self._root}/{MANIFESTS}"))
        names = [each.base_name for each in found if each.is_file]
        return sorted(name for name in names if name.endswith(SUFFIX) and name[0] != ".")

    def read(self, name: str) -> bytes:
        """See `Folder.read`."""
        path = f"{MANIFESTS}/{name}"
        with _told(f"{self.uri}/{path}"), self._fs.open_input_stream(f"{self._root}/{path}") as stream:
            content: bytes = stream.read(MAX_BYTES + 1)
            return content

    @contextmanager
    def fetch(self, file: ManifestFile, spool: Path) -> Iterator[Path]:
        """See `Folder.fetch`."""
        with tempfile.TemporaryDirectory(dir=spool, prefix="fetched-") as temporary:
            # The name is that of the file, as messages tell it.
            copy = Path(temporary) / Path(file.path).name
            self._download(file, copy, spool)
            yield copy

    @contextmanager
    def put(self, path: str) -> Iterator[Path]:
        """See `Folder.put`."""
        from pyarrow import fs

        with tempfile.TemporaryDirectory(dir=self._drafts, prefix="put-") as temporary:
            draft = Path(temporary) / Path(path).name
            with full_disk_told(temporary):
                yield draft
            # One call: an upload through a stream of ours would be completed also where an exception ends it halfway.
            with _told(f"{self.uri}/{path}"):
                fs.copy_files(
                    str(draft),
                    f"{self._root}/{path}",
                    source_filesystem=fs.LocalFileSystem(),
                    destination_filesystem=self._fs,
                    chunk_size=_PIECE,
                )

    def remove(self, path: str) -> None:
        """See `Folder.remove`."""
        from pyarrow import fs

        with _told(f"{self.uri}/{path}"):
            if self._fs.get_file_info(f"{self._root}/{path}").type != fs.FileType.NotFound:
                self._fs.delete_file(f"{self._root}/{path}")

    def _download(self, file: ManifestFile, copy: Path, spool: Path) -> None:
        told = f"{self.uri}/{file.path}"
        with _told(told):
            stream = self._fs.open_input_file(f"{self._root}/{file.path}")
        with stream:
            check_size(told, file, stream.size())
            _check_room(told, file.size, spool)
            digest = hashlib.sha256()
            with full_disk_told(str(spool)), copy.open("wb") as written:
                while True:
                    with _told(told):
                        piece = stream.read(_PIECE)
                    if not piece:
                        break
                    digest.update(piece)
                    written.write(piece)
        check_bytes(told, file, file.size, digest.hexdigest())


def _check_room(path: str, size: int, spool: Path) -> None:
    disk = shutil.disk_usage(spool)
    spare = max(_SPARE_BYTES, int(_SPARE_SHARE * disk.total))
    if disk.free < size + spare:
        raise UnavailableError(
            f"{path} has {size} bytes, and the disk of {spool} has {disk.free} left, of which {spare} stay free for "
            "what else is written there: make room, then go on"
        )


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Makes what the library says of a path an error of ours."""
    try:
        yield
    except OSError as error:
        raise _error(path, error) from error


def _error(path: str, error: OSError) -> NeardupError:
    said = str(error).strip().rstrip(":")
    if isinstance(error, FileNotFoundError) or "NO_SUCH_KEY" in said:
        return BadInputError(f"there is no {path}")
    if "NO_SUCH_BUCKET" in said:
        return BadInputError(f"there is no bucket of {path}: does AWS_ENDPOINT_URL name the right store?")
    if error.errno == errno.ENOSPC:
        return UnavailableError(f"{path} cannot be read or written: {said}")
    if _DENIED.search(said):
        return UnavailableError(
            f"the store refuses {path} to these credentials ({said}): look at AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, and at what they may do, then go on"
        )
    return UnavailableError(
        f"{path} cannot be reached ({said}): look at the network, AWS_ENDPOINT_URL and AWS_REGION, then go on"
    )
