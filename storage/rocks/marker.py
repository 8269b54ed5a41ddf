"""The file `store.json` beside the database: read before the database is opened, written after it was created.

It holds the format version and the identity of what the store serves, such as the signal's embeddings, with a checksum.
If the file is there and the database is not, the database was lost, and no new one is created.
"""

from __future__ import annotations

from pathlib import Path

from core.checked_json import read_checked, write_checked
from storage.codec import FORMAT_VERSION, OLDEST_FORMAT
from storage.errors import CorruptedError, IncompatibleError

__all__ = ["check_marker", "write_marker"]

_NAME = "store.json"


def check_marker(folder: Path, identity: str) -> int:
    """The format of the store in a folder; 0: there is no complete one.

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
        return 0
    except (OSError, ValueError, KeyError) as error:
        raise CorruptedError(f"{file} is damaged: {error}") from error
    if not OLDEST_FORMAT <= marker.format <= FORMAT_VERSION:
        raise IncompatibleError(
            f"{file}: the store has format {marker.format}, this server reads {OLDEST_FORMAT} to {FORMAT_VERSION}"
        )
    if owner != identity:
        raise IncompatibleError(f"{file}: the store was made for {owner!r}, the settings say {identity!r}")
    return marker.format if marker.checked else OLDEST_FORMAT


def write_marker(folder: Path, identity: str) -> None:
    """Marks a store as complete and of the newest format, durably."""
    write_checked(folder / _NAME, FORMAT_VERSION, {"identity": identity})


def _unchecked(content: dict[str, object]) -> dict[str, object]:
    """The content of a marker of release 0.1."""
    if content.keys() != {"format", "identity"}:
        raise ValueError(f"it has the keys {sorted(content)}, not format and identity")
    return content
