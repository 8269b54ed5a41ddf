"""The file `store.json` beside the database: read before the database is opened, written after it was created.

It holds the format version and the identity of what the store serves, such as the signal's embeddings. If the file is
there and the database is not, the database was lost, and no new one is created.
"""

from __future__ import annotations

import json
from pathlib import Path

from core.files import write_text
from storage.codec import FORMAT_VERSION
from storage.errors import CorruptedError, IncompatibleError

__all__ = ["check_marker", "write_marker"]

_NAME = "store.json"


def check_marker(folder: Path, identity: str) -> bool:
    """Whether the folder holds a complete store.

    Raises:
        IncompatibleError: The store has another format, or another identity.
        CorruptedError: The marker cannot be read.
    """
    file = folder / _NAME
    try:
        marker = json.loads(file.read_text(encoding="utf-8"))
        version, owner = int(marker["format"]), str(marker["identity"])
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptedError(f"{file} does not say what the store is: {error!r}") from error
    if version != FORMAT_VERSION:
        raise IncompatibleError(f"the store in {folder} has format {version}, this server reads {FORMAT_VERSION}")
    if owner != identity:
        raise IncompatibleError(f"the store in {folder} was made for {owner!r}, the settings say {identity!r}")
    return True


def write_marker(folder: Path, identity: str) -> None:
    """Marks a new store as complete, durably."""
    write_text(folder / _NAME, json.dumps({"format": FORMAT_VERSION, "identity": identity}))
