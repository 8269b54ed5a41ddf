"""The folder of a term index: who may open it, and for which settings.

index.json      the header: the format, and the settings that the index was made for, with a checksum. It is written
                last when a folder is made. While a folder is built in bulk it is called index.unfinished
build.json      what a bulk build that can go on after it broke off makes (see `search.index.builder`)
manifest.json   which of the files below make up the index (see `search.index.manifest`)
segment-N       sealed entries (see `search.index.segment`)
hidden-N        which sealed entries are hidden, and from which place on
log-N           the frames of all younger entries (see `search.index.codec`)
lock            locked by the process that has the folder open
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from core.checked_json import CheckedJson, read_checked, write_checked
from core.errors import MismatchError
from core.files import sync_folder
from search.index.errors import IndexDamagedError, IndexLockedError
from search.index.manifest import Manifest, log_name, write_manifest

__all__ = ["FOLDER_FORMAT", "HEADER", "UNFINISHED", "Identity", "IndexFolder", "locked"]

HEADER = "index.json"

UNFINISHED = "index.unfinished"
"""The header's name while the folder is built in bulk; such a folder is never opened."""

FOLDER_FORMAT = 3
"""The version of the folder's layout."""

_UNCHECKED_FORMAT = 2
"""The same layout, with a header that has no checksum. It is read and written anew."""

_FORMER_LIMITS = ("terms.min_overlap", "terms.candidates")
"""Limits of the search that release 0.1 wrote among the settings of terms."""

_IDENTITY = ("terms_fingerprint", "code_fingerprint", "settings")
"""The keys of the header."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What an index was made for. Two parts may work together only if these are equal."""

    terms_fingerprint: str
    code_fingerprint: str
    settings: dict[str, int | str]
    """The settings behind the fingerprints, for messages."""
    former_terms: Callable[[int, int], str] | None = field(default=None, compare=False, repr=False)
    """The fingerprint that release 0.1 gave the same terms. It also covered the least overlap and the candidates of the
    search. None: no folder of that release is accepted."""

    def differences(self, other: Identity) -> list[str]:
        """A text for each difference, with both values."""
        mine, others = self._flat(), other._flat()
        names = sorted(mine.keys() | others.keys())
        return [
            f"{name} is {mine.get(name)} there and {others.get(name)} here"
            for name in names
            if mine.get(name) != others.get(name)
        ]

    def succeeds(self, other: Identity) -> bool:
        """Whether release 0.1 wrote `other` for the same terms and codes."""
        least, candidates = (other.settings.get(name) for name in _FORMER_LIMITS)
        return (
            self.former_terms is not None
            and self.code_fingerprint == other.code_fingerprint
            and isinstance(least, int)
            and isinstance(candidates, int)
            and self.former_terms(least, candidates) == other.terms_fingerprint
        )

    def _flat(self) -> dict[str, int | str]:
        return {
            **self.settings,
            "terms_fingerprint": self.terms_fingerprint,
            "code_fingerprint": self.code_fingerprint,
        }


class IndexFolder:
    """An open, locked folder."""

    def __init__(self, path: Path, identity: Identity, header: str = HEADER) -> None:
        """Locks the folder, and makes it when there is none.

        Args:
            path: The folder.
            identity: What it is made for.
            header: `UNFINISHED` for the build of a folder, which alone goes on with an unfinished one.

        Raises:
            IndexLockedError: Another process has it open.
            MismatchError: It was made for other settings, or by another version of the format.
            IndexDamagedError: Its header is missing or unreadable, or a bulk build did not finish.
        """
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._header = path / header
        self.lock = _lock(path / "lock")
        """The open file that holds the lock; a process that inherits it keeps the folder locked too."""
        try:
            if self._header.exists():
                if _is_former(path, _read_header(self._header), identity):
                    self._write_header(identity)
            else:
                self._make(identity)
        except BaseException:  # also an interrupt must release the lock
            self.close()
            raise

    def close(self) -> None:
        """Unlocks the folder."""
        os.close(self.lock)

    def _make(self, identity: Identity) -> None:
        if self._header.name == HEADER and (self.path / UNFINISHED).exists():
            raise IndexDamagedError(
                f"the build of {self.path} did not finish: delete the folder and build the index again"
            )
        # The header is written last. So a folder without a header and with an empty log was being made when it stopped.
        for path in (self.path / "log", *self.path.glob("log-*"), *self.path.glob("segment-*")):
            if path.exists() and path.stat().st_size > 0:
                raise IndexDamagedError(
                    f"{self._header} is missing beside {path.name}, which has content: restore it, "
                    "or delete the folder to build the index again"
                )
        manifest = Manifest()
        (self.path / log_name(manifest.first_log)).touch()
        write_manifest(self.path, manifest)
        self._write_header(identity)
        sync_folder(self.path)
        sync_folder(self.path.parent)

    def _write_header(self, identity: Identity) -> None:
        body = {name: getattr(identity, name) for name in _IDENTITY}
        write_checked(self._header, FOLDER_FORMAT, body)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder, so that nobody opens it.

    Raises:
        IndexLockedError: Another process has it open.
    """
    lock = _lock(folder / "lock")
    try:
        yield
    finally:
        os.close(lock)


def _lock(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise IndexLockedError(f"another process has the index {path.parent} open: stop it first") from error
    return file


def _read_header(path: Path) -> CheckedJson:
    try:
        header = read_checked(path)
        if header.format == 0:
            raise ValueError("it names no format")
        return header
    except (ValueError, OSError) as error:
        raise IndexDamagedError(f"the index header {path} is damaged ({error}): restore it") from error


def _is_former(path: Path, header: CheckedJson, identity: Identity) -> bool:
    """Compares what the folder was made for with `identity`; says whether an earlier release wrote the header."""
    if header.format != (FOLDER_FORMAT if header.checked else _UNCHECKED_FORMAT):
        raise MismatchError(
            f"the index {path} has format {header.format}, this program reads {FOLDER_FORMAT}: build it again"
        )
    try:
        made_for = Identity(**{name: header.body[name] for name in _IDENTITY})
        former = identity.succeeds(made_for)
        differences = [] if former else made_for.differences(identity)
    except (KeyError, TypeError, AttributeError) as error:
        raise IndexDamagedError(f"{path / HEADER} is not an index header ({error!r}): restore it") from error
    if differences:
        raise MismatchError(
            f"the index {path} was made for other settings: {'; '.join(differences)}. "
            "Use those settings, or another folder"
        )
    return former or not header.checked
