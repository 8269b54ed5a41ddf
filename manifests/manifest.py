"""The manifest: which files belong together, and what is in them. One line of JSON, written last.

    {"format": 1, "id": "4f0c...", "kind": "snapshot", "previous": null, "rows": 1200, "bytes": 5033164, "files":
     [{"path": "data/part-000000.parquet", "rows": 1200, "bytes": 5033164, "sha256": "9b1d..."}]}

Manifests lie in a folder that holds nothing else, so that it can be watched. Their names end in `.json`. The files lie
beside or below the folder above it, and their paths are relative to that folder.

`id` is a hash of everything else, so two manifests with one id are the same, and a changed one has another.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from core.errors import BadInputError

__all__ = ["MAX_BYTES", "SUFFIX", "Kind", "Manifest", "ManifestFile"]

_FORMAT = 1

MAX_BYTES = 64 << 20
"""The largest manifest that is read: some 400,000 files."""

SUFFIX = ".json"

_ID_DIGITS = 32
_KEYS = {"format", "id", "kind", "previous", "rows", "bytes", "files"}
_FILE_KEYS = {"path", "rows", "bytes", "sha256"}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(rf"[0-9a-f]{{{_ID_DIGITS}}}")


class Kind(StrEnum):
    """What a manifest is for."""

    SNAPSHOT = "snapshot"
    """A whole state, which an empty service begins with."""
    DELTA = "delta"
    """What is new since the manifest before it, for a service that runs."""


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One Parquet file."""

    path: str
    """Relative to the folder above the manifest's, with slashes."""
    rows: int
    size: int
    """Bytes."""
    sha256: str
    """64 hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Files in order: the rows of all of them, one after another, are numbered from 0."""

    kind: Kind
    files: Sequence[ManifestFile]
    previous: str | None = None
    """The id of the manifest that a delta follows."""

    @property
    def rows(self) -> int:
        """Of all files."""
        return sum(file.rows for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def id(self) -> str:
        """The content id: 32 hexadecimal digits."""
        content = json.dumps(self._body(), separators=(",", ":"), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(content.encode("ascii")).hexdigest()[:_ID_DIGITS]

    def encoded(self) -> bytes:
        """One line of JSON."""
        body = {"format": _FORMAT, "id": self.id, **self._body()}
        return json.dumps(body, ensure_ascii=True).encode("ascii") + b"\n"

    @classmethod
    def decoded(cls, line: bytes) -> Manifest:
        """Reads a manifest and compares its totals and its id.

        Raises:
            BadInputError: It is cut, changed, or of another format; without the manifest's name.
        """
        if len(line) > MAX_BYTES:
            raise BadInputError(f"it has {len(line)} bytes, and a manifest has at most {MAX_BYTES}")
        try:
            body = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInputError(f"it is not JSON: {error}") from None
        if not isinstance(body, dict):
            raise BadInputError("it is not a JSON object")
        if body.get("format") != _FORMAT:
            raise BadInputError(f"it has format {body.get('format')!r}, this program reads format {_FORMAT}")
        if body.keys() != _KEYS:
            raise BadInputError(f"it has the keys {', '.join(sorted(body))}, not {', '.join(sorted(_KEYS))}")
        manifest = cls(_kind(body["kind"]), _files(body["files"]), _previous(body["previous"]))
        for name, said, found in (
            ("rows", body["rows"], manifest.rows),
            ("bytes", body["bytes"], manifest.size),
            ("id", body["id"], manifest.id),
        ):
            if said != found:
                raise BadInputError(f"it says {name} {said!r}, and its files have {found!r}: it was changed or cut")
        if (manifest.kind is Kind.DELTA) is (manifest.previous is None):
            raise BadInputError("a delta names the manifest before it as `previous`, and a snapshot does not")
        return manifest

    def _body(self) -> dict[str, Any]:
        files = [
            {"path": file.path, "rows": file.rows, "bytes": file.size, "sha256": file.sha256} for file in self.files
        ]
        return {
            "kind": str(self.kind),
            "previous": self.previous,
            "rows": self.rows,
            "bytes": self.size,
            "files": files,
        }


def _kind(said: object) -> Kind:
    try:
        return Kind(str(said))
    except ValueError:
        raise BadInputError(f"its kind is {said!r}, not {' or '.join(Kind)}") from None


def _previous(said: object) -> str | None:
    if said is None or (isinstance(said, str) and _ID.fullmatch(said)):
        return said
    raise BadInputError(f"its `previous` is {said!r}, which is no id of a manifest")


def _files(said: object) -> list[ManifestFile]:
    if not isinstance(said, list):
        raise BadInputError("its `files` are no list")
    files = [_file(number, each) for number, each in enumerate(said)]
    seen: set[str] = set()
    for file in files:
        if file.path in seen:
            raise BadInputError(f"it names the file {file.path!r} twice")
        seen.add(file.path)
    return files


def _file(number: int, said: object) -> ManifestFile:
    if not isinstance(said, dict) or said.keys() != _FILE_KEYS:
        raise BadInputError(f"file {number} has not the keys {', '.join(sorted(_FILE_KEYS))}")
    path, rows, size, digest = said["path"], said["rows"], said["bytes"], said["sha256"]
    if not isinstance(path, str) or not _is_below(path):
        raise BadInputError(f"file {number}: the path {path!r} is not relative, or leads out of the folder")
    for name, count in (("rows", rows), ("bytes", size)):
        if type(count) is not int or not 0 <= count < 2**63:
            raise BadInputError(f"file {number}: {name} is {count!r}, not a whole number from 0 on")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise BadInputError(f"file {number}: sha256 is {digest!r}, not 64 hexadecimal digits")
    return ManifestFile(path, rows, size, digest)


def _is_below(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\\" not in path and "\0" not in path
