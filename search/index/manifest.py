"""The manifest: which files make up the index at this moment, and which position of the log they reach.

It is replaced atomically. A file that it does not name is a leftover of interrupted work, and is removed when the index
is opened.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from crc32c import crc32c

from core.errors import MismatchError, UnavailableError
from core.files import sync_folder, write_text
from core.pseudonyms import Pseudonyms
from core.types import LogPosition
from search.index.errors import IndexDamagedError

__all__ = [
    "MANIFEST",
    "MANIFEST_FORMAT",
    "Manifest",
    "log_name",
    "read_manifest",
    "remove_leftovers",
    "upgrade_manifest",
    "write_manifest",
]

MANIFEST_FORMAT = 3
"""The format that is written. Format 2 says that the logs may have frames of format 2, which a program that only knows
format 1 would cut off as torn, and that a position may have a base. Format 3 may hold forgotten images."""

_READABLE = (1, 2, MANIFEST_FORMAT)

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of a folder."""

    segments: tuple[str, ...] = ()
    """Files, in order of age."""
    hidden: str | None = None
    """The file of the hidden entries of these segments."""
    first_log: int = 1
    """The first log whose records are not in these segments."""
    next_file: int = 1
    """The number of the next segment or hidden file."""
    position: LogPosition = field(default_factory=LogPosition)
    """The last record in these segments."""
    released: int = -1
    forget_key: str = ""
    """Gives forgotten images their pseudonyms, in hexadecimal digits; empty: there are none."""

    @property
    def pseudonyms(self) -> Pseudonyms | None:
        """The names of forgotten images."""
        return Pseudonyms(bytes.fromhex(self.forget_key)) if self.forget_key else None

    def numbered(self, kind: str) -> tuple[str, Manifest]:
        """The name of the next file of a kind, and the manifest with that number used up."""
        return f"{kind}-{self.next_file:08d}", replace(self, next_file=self.next_file + 1)


def log_name(number: int) -> str:
    """The file of a log."""
    return f"log-{number:08d}"


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None when there is none.

    Raises:
        IndexDamagedError: It cannot be read.
        MismatchError: Another version of the format wrote it.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        body = content["body"]
        if content["crc32c"] != _checksum(body):
            raise ValueError("its checksum is wrong")
        if content["format"] not in _READABLE:
            raise MismatchError(f"{path} has format {content['format']}, this program reads {_READABLE}")
        position = LogPosition(**body.pop("position"))
        return Manifest(segments=tuple(body.pop("segments")), position=position, **body)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise IndexDamagedError(f"the manifest {path} cannot be read ({error}): restore it") from error


def upgrade_manifest(folder: Path, manifest: Manifest, sync: bool = True) -> None:
    """Writes a manifest anew if an older format is on the disk; to be called before the log grows.

    Raises:
        UnavailableError: It could not be written; the older one is still there.
    """
    path = folder / MANIFEST
    if json.loads(path.read_text(encoding="utf-8"))["format"] == MANIFEST_FORMAT:
        return
    try:
        write_manifest(folder, manifest, sync)
    except OSError as error:
        raise UnavailableError(f"cannot write {path}: {error.strerror}", retry_after_s=1.0) from error


def write_manifest(folder: Path, manifest: Manifest, sync: bool = True) -> None:
    """Replaces the manifest; when this returns it survives a crash of the machine, as do the names in the folder."""
    body = asdict(manifest)
    content = {"format": MANIFEST_FORMAT, "crc32c": _checksum(body), "body": body}
    if sync:
        sync_folder(folder)  # the files that it names come first
    write_text(folder / MANIFEST, json.dumps(content, indent=2, sort_keys=True), sync=sync)


def remove_leftovers(folder: Path, manifest: Manifest) -> list[str]:
    """Removes the files of work that was broken off; their names."""
    named = {*manifest.segments, manifest.hidden}
    removed = []
    for path in sorted(folder.iterdir()):
        kind, _, number = path.name.partition("-")
        superseded_log = kind == "log" and number.isdigit() and int(number) < manifest.first_log
        if path.suffix == ".tmp" or superseded_log or (kind in ("segment", "hidden") and path.name not in named):
            path.unlink()
            removed.append(path.name)
    return removed


def _checksum(body: dict[str, Any]) -> int:
    return int(crc32c(json.dumps(body, sort_keys=True).encode()))
