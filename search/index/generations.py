"""The folder of a signal's index: one generation serves, others are built beside it.

current          JSON: the generation that serves, and what it was made for; replaced atomically
gen-000001/      a generation: the folder of an index
gen-000002.new/  a generation that is being built; the next build removes leftovers of one that died
building         locked during a build

A server opens the generation that `current` names, and watches `current`. When it names another generation, the server
stops in an orderly way and is started again on the new one.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import MismatchError
from core.files import sync_folder, write_text
from search.index.errors import IndexDamagedError, IndexLockedError
from search.index.folder import Identity

__all__ = ["Generation", "IndexGenerations"]

_PREFIX = "gen-"
_BUILDING = ".new"


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
            IndexDamagedError: The pointer cannot be read.
            MismatchError: An earlier release made the folder.
        """
        try:
            found = json.loads(self._pointer.read_text(encoding="utf-8"))
            return Generation(found["generation"], found["terms_fingerprint"], found["code_fingerprint"])
        except FileNotFoundError:
            if (self.path / "index.json").exists():
                raise MismatchError(
                    f"an earlier release made the index {self.path}, this one keeps it in generations: move the "
                    "folder away, then run `neardup index build --from storage`"
                ) from None
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IndexDamagedError(
                f"{self._pointer} cannot be read ({error}): restore it, or build the index again"
            ) from error

    def folder(self, generation: Generation) -> Path:
        """The folder of a generation."""
        return self.path / generation.name

    def serving(self, identity: Identity) -> Generation:
        """The generation that serves. The first one is named here; opening its folder makes it."""
        current = self.current()
        if current is None:
            self.path.mkdir(parents=True, exist_ok=True)
            current = self._switch(f"{_PREFIX}{1:06}", identity)
        return current

    @contextmanager
    def building(self) -> Iterator[Path]:
        """Gives a new folder to build a generation in; what is left of it at the end is removed.

        Raises:
            IndexLockedError: Another process is building.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / "building", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise IndexLockedError(f"another process builds an index in {self.path}: wait for its end") from None
            for left in self.path.glob(f"{_PREFIX}*{_BUILDING}"):
                shutil.rmtree(left)
            folder = self.path / f"{self._next_name()}{_BUILDING}"
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)

    def adopt(self, built: Path, identity: Identity) -> Path:
        """Makes a finished, closed generation the one that serves.

        The generation that served until now stays, for the server that has it open and as a way back. Older ones are
        removed.

        Returns:
            Its folder.
        """
        before = self.current()
        name = built.name.removesuffix(_BUILDING)
        built.rename(self.path / name)
        sync_folder(self.path)
        self._switch(name, identity)
        kept = {name} if before is None else {name, before.name}
        for each in self.path.glob(f"{_PREFIX}*"):
            if each.name not in kept and not each.name.endswith(_BUILDING):
                shutil.rmtree(each)
        return self.path / name

    @property
    def _pointer(self) -> Path:
        return self.path / "current"

    def _next_name(self) -> str:
        numbers = [each.name.removeprefix(_PREFIX) for each in self.path.glob(f"{_PREFIX}*")]
        current = self.current()
        if current is not None:
            numbers.append(current.name.removeprefix(_PREFIX))
        return f"{_PREFIX}{max((int(each) for each in numbers if each.isdecimal()), default=0) + 1:06}"

    def _switch(self, name: str, identity: Identity) -> Generation:
        generation = Generation(name, identity.terms_fingerprint, identity.code_fingerprint)
        content = {
            "generation": generation.name,
            "terms_fingerprint": generation.terms_fingerprint,
            "code_fingerprint": generation.code_fingerprint,
        }
        write_text(self._pointer, json.dumps(content, indent=2))
        return generation
