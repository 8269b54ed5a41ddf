"""The folder of a signal's index: one generation serves, others are built beside it.

current          JSON with a checksum: the generation that serves, and what it was made for; replaced atomically
gen-000001/      a generation: the folder of an index
gen-000002.new/  a generation that is being built; the next build removes leftovers of one that died
gen-000003.load/ the generation of a first load (`search.loading`); it stays when its process dies, and nothing else is
                 built until it serves or is given up
load.json        what is known of the first load (`search.loading.kept_load`)
building         locked during a build

A server opens the generation that `current` names, and watches `current`. When it names another generation, the server
stops in an orderly way and is started again on the new one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from core.checked_json import read_checked, write_checked
from core.errors import MismatchError
from core.files import sync_folder
from core.first_loads import LoadState
from search.index.errors import IndexDamagedError, IndexLockedError
from search.index.folder import HEADER, Identity, IndexFolder

__all__ = ["LOAD_FILE", "Generation", "IndexGenerations"]

LOAD_FILE = "load.json"

_PREFIX = "gen-"
_BUILDING = ".new"
_LOADING = ".load"
_FORMAT = 1
_KEYS = ("generation", "terms_fingerprint", "code_fingerprint")

_REMEDY = "run `neardup index restore SNAPSHOT`, or `neardup index build --from storage`"


@dataclass(frozen=True, slots=True)
class Generation:
    """The content of `current`."""

    name: str
    terms_fingerprint: str
    code_fingerprint: str

    def fits(self, identity: Identity) -> bool:
        """Whether it was made for these settings."""
        return (self.terms_fingerprint, self.code_fingerprint) == (
            identity.terms_fingerprint,
            identity.code_fingerprint,
        )


class IndexGenerations:
    """A folder of generations."""

    def __init__(self, path: Path) -> None:
        """Reads and writes nothing yet."""
        self.path = path

    def current(self) -> Generation | None:
        """The generation that serves; None before the first.

        Raises:
            IndexDamagedError: The pointer cannot be read, or it is missing beside a generation that holds something.
            MismatchError: An earlier release made the folder, or a later one the pointer.
        """
        try:
            found = read_checked(self._pointer)
            if found.checked and found.format != _FORMAT:
                raise MismatchError(f"{self._pointer} has format {found.format}, this program reads format {_FORMAT}")
            if found.body.keys() != set(_KEYS):
                raise ValueError(f"it has the keys {sorted(found.body)}, not {sorted(_KEYS)}")
            return Generation(*(str(found.body[key]) for key in _KEYS))
        except FileNotFoundError:
            self._check_nothing_serves()
            return None
        except (OSError, ValueError) as error:
            raise IndexDamagedError(f"{self._pointer} is damaged ({error}): {_REMEDY}") from error

    def folder(self, generation: Generation) -> Path:
        """The folder of a generation."""
        return self.path / generation.name

    def serving(self, identity: Identity) -> Generation:
        """The generation that serves; the first one is made here.

        Raises:
            IndexDamagedError: The pointer is damaged, or the generation that it names is not there.
            MismatchError: Another release made the folder, or a later one the pointer.
        """
        current = self.current()
        if current is None:
            name = f"{_PREFIX}{1:06}"
            # Made before it is named: a name without a folder always means that the folder was lost.
            IndexFolder(self.path / name, identity).close()
            return self._switch(name, identity)
        if not (self.folder(current) / HEADER).is_file():
            raise IndexDamagedError(
                f"{self._pointer} names {current.name}, but {self.folder(current) / HEADER} is missing: {_REMEDY}"
            )
        if not read_checked(self._pointer).checked:
            self._name(current)
        return current

    @contextmanager
    def building(self) -> Iterator[Path]:
        """Gives a new folder to build a generation in; what is left of it at the end is removed.

        Raises:
            IndexLockedError: Another process is building, or a first load is under way.
        """
        with self._alone():
            if (load := self.load() or self._half_adopted()) is not None:
                raise IndexLockedError(f"a first load is under way in {load}: wait until its index serves, or abort it")
            for left in self.path.glob(f"{_PREFIX}*{_BUILDING}"):
                shutil.rmtree(left)
            folder = self.path / f"{self._next_name()}{_BUILDING}"
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def loading(self) -> Iterator[Path]:
        """Gives the folder of the first load that is under way, or that of a new one; it stays at the end.

        Raises:
            IndexLockedError: Another process is building or loading.
        """
        with self._alone():
            yield self.load() or self.path / f"{self._next_name()}{_LOADING}"

    def load(self) -> Path | None:
        """The folder of the first load that is under way; None: there is none."""
        return next(iter(self.path.glob(f"{_PREFIX}*{_LOADING}")), None)

    def _half_adopted(self) -> Path | None:
        """The generation of a load that is ready and has its last name, but does not serve: its adoption was cut off.

        The next start of the server finishes that. What cannot be read is left to that start, too.
        """
        try:
            known = read_checked(self.path / LOAD_FILE).body
            ready, name = known["report"]["state"] == LoadState.READY, str(known["generation"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        current = self._readable()
        serves = current is not None and current.name == name
        folder = self.path / name
        return folder if ready and not serves and folder.is_dir() else None

    def drop_load(self) -> None:
        """Removes what a first load has built, which nobody may have open."""
        if (load := self.load()) is not None:
            shutil.rmtree(load)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Holds the lock of all builds."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / "building", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise IndexLockedError(f"another process builds an index in {self.path}: wait for its end") from None
            yield
        finally:
            os.close(lock)

    def adopt(self, built: Path, identity: Identity) -> Path:
        """Makes a finished, closed generation the one that serves.

        The generation that served until now stays, for the server that has it open and as a way back. Older ones are
        removed.

        Returns:
            Its folder.
        """
        before = self._readable()
        name = built.stem
        sync_folder(built)  # its names come before the name that others will find it by
        built.rename(self.path / name)
        sync_folder(self.path)
        self._switch(name, identity)
        others = sorted(each for each in self._finished() if each.name != name)
        kept = max((each.name for each in others), default="")
        if before is not None and before.name != name:
            kept = before.name
        for each in others:
            if each.name != kept:
                shutil.rmtree(each)
        return self.path / name

    @property
    def _pointer(self) -> Path:
        return self.path / "current"

    def _finished(self) -> list[Path]:
        """The folders of all generations that are not being built."""
        return [each for each in self.path.glob(f"{_PREFIX}*") if each.suffix not in (_BUILDING, _LOADING)]

    def _next_name(self) -> str:
        numbers = [each.name.removeprefix(_PREFIX) for each in self.path.glob(f"{_PREFIX}*")]
        current = self._readable()
        if current is not None:
            numbers.append(current.name.removeprefix(_PREFIX))
        return f"{_PREFIX}{max((int(each) for each in numbers if each.isdecimal()), default=0) + 1:06}"

    def _switch(self, name: str, identity: Identity) -> Generation:
        return self._name(Generation(name, identity.terms_fingerprint, identity.code_fingerprint))

    def _name(self, generation: Generation) -> Generation:
        write_checked(self._pointer, _FORMAT, dict(zip(_KEYS, astuple(generation), strict=True)))
        return generation

    def _readable(self) -> Generation | None:
        """The generation that serves; None also when the pointer is damaged. A build replaces a damaged pointer."""
        try:
            return self.current()
        except IndexDamagedError:
            return None

    def _check_nothing_serves(self) -> None:
        if (self.path / HEADER).exists():
            raise MismatchError(
                f"an earlier release made the index {self.path}, this one keeps it in generations: move the "
                "folder away, then run `neardup index build --from storage`"
            )
        for each in sorted(self._finished()):
            if _holds_something(each):
                raise IndexDamagedError(f"{self._pointer} is missing beside {each.name}, which has content: {_REMEDY}")


def _holds_something(folder: Path) -> bool:
    """Whether records were written to a generation. A start that was cut off leaves one without records."""
    return any(file.stat().st_size > 0 for kind in ("log-*", "segment-*") for file in folder.glob(kind))
