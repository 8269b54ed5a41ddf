"""The file of aliases: checked, small, and replaced as a whole (`core.checked_json`)."""

from __future__ import annotations

from pathlib import Path

from core.aliases import Alias, Aliases, decode_aliases, encode_aliases
from core.checked_json import read_checked, write_checked
from core.errors import BadInputError

__all__ = ["MAX_FILE_BYTES", "read_aliases", "write_aliases"]

_FORMAT = 1

_MODE = 0o644
"""Servers of other users read it, whatever the umask of who writes it is."""

MAX_FILE_BYTES = 1 << 21
"""A larger file is not read: the most aliases with the longest texts need less."""


def read_aliases(file: Path) -> dict[str, Alias]:
    """The aliases; none if there is no file.

    Raises:
        BadInputError: The file cannot be read, is damaged, or of another release. The message does not name the file.
    """
    try:
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            raise BadInputError(f"it has {size} bytes, at most {MAX_FILE_BYTES} may be")
        content = read_checked(file)
        if not content.checked or content.format != _FORMAT:
            raise BadInputError(f"it has the format {content.format}, this release reads format {_FORMAT}")
        return decode_aliases(content.body)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadInputError(f"the file of aliases cannot be read: {error.strerror}") from error
    except (ValueError, BadInputError) as error:
        raise BadInputError(f"the file of aliases is none: {error}") from error


def write_aliases(file: Path, aliases: Aliases) -> None:
    """Replaces the file, durably, for all users to read. Its folder must exist."""
    write_checked(file, _FORMAT, encode_aliases(aliases), mode=_MODE)
