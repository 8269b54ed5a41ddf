"""The folder of a signal's models: one folder per version, and the file `served` that names the one in use.

    <folder>/served                     the version's name, one line of text
    <folder>/<version>/metadata.json    the model card
    <folder>/<version>/...              the model itself

A version never changes once it is there. Changing `served` is atomic: a reader sees the old name or the new one.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from search.errors import BadInputError
from search.scoring.card import CARD_FILE, ModelCard, read_card
from search.scoring.model import ModelLoader, PairModel

__all__ = ["ModelFolder", "checksums", "version_name"]

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A version is also the name of a folder, and comes in over the network: nothing that leads out of it."""

_POINTER = "served"


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
    """Reads and changes one such folder. Holds nothing open and keeps no state."""

    def __init__(self, folder: Path) -> None:
        """Names the folder; it need not be there yet."""
        self.folder = folder

    def served(self) -> str:
        """The version in use.

        Raises:
            BadInputError: The pointer is missing, unreadable, or names no version.
        """
        pointer = self.folder / _POINTER
        try:
            text = pointer.read_text(encoding="utf-8").strip()
        except FileNotFoundError as error:
            raise BadInputError(f"{pointer} is missing, it names the model in use: train a model first") from error
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"{pointer}, which names the model in use, cannot be read: {error}") from error
        return version_name(text)

    def versions(self) -> list[str]:
        """All versions that have a card, sorted by name."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{CARD_FILE}"))

    def path(self, version: str) -> Path:
        """The folder of a version, whether it is there or not.

        Raises:
            BadInputError: The name is none.
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
            raise BadInputError(f"there is no model version {version!r} in {self.folder}; kept are: {kept}")
        return read_card(path)

    def load(self, version: str, loader: ModelLoader) -> PairModel:
        """Opens a version, once its files are found to be those that the card lists.

        Raises:
            BadInputError: There is no such version, a file is missing or changed, or it cannot be opened.
        """
        card = self.card(version)
        path = self.path(version)
        _check_files(path, card)
        return loader(path, card)

    def use(self, version: str) -> None:
        """Makes a version the one in use.

        Raises:
            BadInputError: There is no such version, or its card is damaged.
        """
        self.card(version)
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=f".{_POINTER}-")
        with os.fdopen(handle, "w", encoding="utf-8") as pointer:
            pointer.write(version + "\n")
            pointer.flush()
            os.fsync(pointer.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(self.folder / _POINTER)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of every file below a version's folder but its card, by path in it."""
    files = (path for path in folder.rglob("*") if path.is_file() and path != folder / CARD_FILE)
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)
    }


def _check_files(folder: Path, card: ModelCard) -> None:
    found = checksums(folder)
    for name, expected in sorted(card.files_sha256.items()):
        actual = found.get(name)
        if actual is None:
            raise BadInputError(f"the model {card.version} lacks its file {folder / name}")
        if actual != expected:
            raise BadInputError(
                f"the file {folder / name} of the model {card.version} is damaged: SHA-256 {actual[:16]}..., its card "
                f"says {expected[:16]}..."
            )
