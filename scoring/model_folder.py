"""The folder of a signal's models: one folder per version, and the file `served`, which names the version in use.

    <folder>/served                     the version in use; below it the earlier ones, the latest first
    <folder>/<version>/metadata.json    the model card
    <folder>/<version>/...              the model itself: exactly the files that the card lists, by their SHA-256
    <folder>/<version>/card.md, *.png   pages about it, which nothing loads

A version never changes after it was written. `served` is replaced atomically: a reader sees the old content or the new.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from core.errors import BadInputError
from core.files import write_text
from scoring.card import CARD_FILE, ModelCard, read_card
from scoring.model import PairModel

__all__ = ["ModelFolder", "checksums", "version_name"]

Model = TypeVar("Model", bound=PairModel)

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A version is also a folder's name and arrives over the network: it must not lead out of the folder of models."""

MAX_MODEL_BYTES = 2 << 30
"""The most that the files of a version may have together."""

MAX_MODEL_FILES = 1000
"""The most files of a version."""

_POINTER = "served"

_REMEMBERED = 32
"""Lines of the pointer: how many changes can be rolled back."""


def version_name(text: str) -> str:
    """Checks the name of a version.

    Raises:
        BadInputError: It is empty, too long, or holds other characters than letters, digits, dot, dash, underscore.
    """
    if not _VERSION.fullmatch(text) or text == _POINTER:
        raise BadInputError(
            f"{text[:80]!r} cannot name a model version: 1 to 64 letters, digits, dots, dashes, underscores"
        )
    return text


class ModelFolder:
    """Reads and changes one folder of models. Holds nothing open and keeps no state."""

    def __init__(self, folder: Path) -> None:
        """Takes the folder; it need not exist yet."""
        self.folder = folder

    def served(self) -> str:
        """The version in use.

        Raises:
            BadInputError: The pointer is missing, unreadable, or names no version.
        """
        return self.served_since()[0]

    def served_since(self) -> list[str]:
        """The version in use, then the earlier ones, the latest first.

        Raises:
            BadInputError: The pointer is missing, unreadable, or names no version.
        """
        pointer = self.folder / _POINTER
        try:
            lines = pointer.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError as error:
            raise BadInputError(f"{pointer} is missing, which names the model in use: train a model first") from error
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"{pointer}, which names the model in use, cannot be read: {error}") from error
        return [version_name(line.strip()) for line in lines or [""]]

    def pointer_stamp(self) -> tuple[int, int, int] | None:
        """A value that changes whenever the pointer is written, also with equal content; None: there is no pointer."""
        try:
            found = (self.folder / _POINTER).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def served_from_ms(self) -> int | None:
        """When the pointer was written last, in milliseconds since the epoch; None: there is no pointer."""
        stamp = self.pointer_stamp()
        return None if stamp is None else stamp[1] // 10**6

    def versions(self) -> list[str]:
        """All versions that have a card, sorted by name."""
        return [version for version in self.folders() if (self.folder / version / CARD_FILE).is_file()]

    def folders(self) -> list[str]:
        """The names of all folders that may hold a version, also of those without a card, sorted."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(path.name for path in found if _VERSION.fullmatch(path.name) and path.is_dir())

    def path(self, version: str) -> Path:
        """The folder of a version; it need not exist.

        Raises:
            BadInputError: This cannot be the name of a version.
        """
        return self.folder / version_name(version)

    def card(self, version: str) -> ModelCard:
        """The card of a version.

        Raises:
            BadInputError: There is no such version, or its card is damaged.
        """
        path = self.path(version)
        if not path.is_dir():
            kept = ", ".join(self.versions()) or "none"
            raise BadInputError(f"there is no model version {version!r} in {self.folder}; the versions are: {kept}")
        return read_card(path)

    def load(self, version: str, kind: type[Model]) -> Model:
        """Opens a version with a class of models, after its files are checked against its card.

        Raises:
            BadInputError: There is no such version, a file is missing or changed, or it cannot be opened.
        """
        card = self.check(version)
        return kind.load(self.path(version), card)

    def check(self, version: str) -> ModelCard:
        """Checks that a version's files are those that its card lists, without opening the model.

        Returns:
            The card.

        Raises:
            BadInputError: There is no such version, its card is damaged, or a file is missing or changed.
        """
        card = self.card(version)
        _check_files(self.path(version), card)
        return card

    def use(self, version: str) -> None:
        """Puts a version in use.

        Raises:
            BadInputError: There is no such version, or its card is damaged.
        """
        self.card(version)
        before = self.served_since() if self.pointer_stamp() is not None else []
        self._point([version, *(before[1:] if before[:1] == [version] else before)])

    def roll_back(self) -> tuple[str, str]:
        """Puts the previous version in use again.

        Returns:
            The version that was in use until now, and the one that is in use now.

        Raises:
            BadInputError: No version was in use before, or its card is damaged or gone.
        """
        present, *before = self.served_since()
        if not before:
            raise BadInputError(f"no version was in use before {present} in {self.folder}: choose one with `use`")
        self.card(before[0])
        self._point(before)
        return present, before[0]

    def restore(self, versions: Sequence[str]) -> None:
        """Writes the pointer back as `served_since` returned it, to undo a change."""
        self._point(versions)

    def _point(self, versions: Sequence[str]) -> None:
        write_text(self.folder / _POINTER, "".join(f"{version}\n" for version in versions[:_REMEMBERED]))


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of every file of the model in a version's folder, by the path in the folder.

    Its card, and the pages that describe it (`card.md` and pictures), are not part of the model.

    Raises:
        BadInputError: There is a link or a special file, or the files are too many or too large.
    """
    found = {}
    total = 0
    for path in _files(folder):
        total += path.stat().st_size
        if total > MAX_MODEL_BYTES:
            raise BadInputError(f"the model in {folder} has over {MAX_MODEL_BYTES:,} bytes, which is the limit")
        with path.open("rb") as stream:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def _files(folder: Path) -> list[Path]:
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise BadInputError(f"{path} is a link or a special file; a model has plain files only")
        if path.is_file() and not (path.parent == folder and _describes(path.name)):
            files.append(path)
        if len(files) > MAX_MODEL_FILES:
            raise BadInputError(f"the model in {folder} has over {MAX_MODEL_FILES} files, which is the limit")
    return files


def _describes(name: str) -> bool:
    return name in (CARD_FILE, "card.md") or name.endswith(".png")


def _check_files(folder: Path, card: ModelCard) -> None:
    if folder.is_symlink():
        raise BadInputError(f"{folder} is a link; a model has plain files only")
    found = checksums(folder)
    for name, expected in sorted(card.files_sha256.items()):
        actual = found.pop(name, None)
        if actual is None:
            raise BadInputError(f"the model {card.version} lacks its file {folder / name}")
        if actual != expected:
            raise BadInputError(
                f"the file {folder / name} of the model {card.version} is damaged: SHA-256 {actual[:16]}..., its card "
                f"says {expected[:16]}..."
            )
    for name in sorted(found):
        raise BadInputError(
            f"the file {folder / name} is not listed in the card of the model {card.version}: remove it, or export "
            "the model again"
        )
