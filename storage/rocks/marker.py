"""The file `store.json` beside the database: read before the database is opened, written after it was created.

It holds the format version and the identity of what the store serves, such as the signal's embeddings, with a checksum.
If the file is there and the database is not, the database was lost, and no new one is created.
"""

from __future__ import annotations

from pathlib import Path

from core.checked_json import read_checked, write_checked
from core.files import sync_folder, write_text
from storage.codec import FORMAT_VERSION, OLDEST_FORMAT
from storage.errors import CorruptedError, IncompatibleError

__all__ = ["check_marker", "forget_restored", "is_restored", "mark_restored", "write_marker"]

_NAME = "store.json"
_RESTORED = "restored"


def check_marker(folder: Path, identity: str) -> bool:
    """Whether the folder holds a complete store. A marker of an earlier release is written anew.

    Raises:
        IncompatibleError: The store has another format, or another identity.
        CorruptedError: The marker cannot be read.
    """
    file = folder / _NAME
    try:
        marker = read_checked(file)
        body = marker.body if marker.checked else _unchecked(marker.body)
        owner = str(body["identity"])
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError) as error:
        raise CorruptedError(f"{file} is damaged: {error}") from error
    if not OLDEST_FORMAT <= marker.format <= FORMAT_VERSION:
        raise IncompatibleError(
            f"{file}: the store has format {marker.format}, this server reads {OLDEST_FORMAT} to {FORMAT_VERSION}"
        )
    if owner != identity:
        raise IncompatibleError(f"{file}: the store was made for {owner!r}, the settings say {identity!r}")
    if not marker.checked or marker.format != FORMAT_VERSION:
        # Before anything else is written: an earlier release must refuse the store, not misread it.
        write_marker(folder, identity)
    return True


def write_marker(folder: Path, identity: str) -> None:
    """Marks a new store as complete, durably."""
    write_checked(folder / _NAME, FORMAT_VERSION, {"identity": identity})


def mark_restored(folder: Path) -> None:
    """Marks a store that was copied back from a backup, durably: when it is opened next, its epoch ends."""
    write_text(folder / _RESTORED, "")


def is_restored(folder: Path) -> bool:
    """Whether the store is marked as restored."""
    return (folder / _RESTORED).exists()


def forget_restored(folder: Path) -> None:
    """Removes the mark, durably."""
    (folder / _RESTORED).unlink()
    sync_folder(folder)


def _unchecked(content: dict[str, object]) -> dict[str, object]:
    """The content of a marker of release 0.1."""
    if content.keys() != {"format", "identity"}:
        raise ValueError(f"it has the keys {sorted(content)}, not format and identity")
    return content
