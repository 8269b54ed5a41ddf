"""Words of the command line that choose records: times, reasons, ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import BadInputError

if TYPE_CHECKING:
    from core.dead_letters import Reason
    from core.types import ImageId

__all__ = ["IdsFile", "chosen_ids", "ids_of", "reason_of", "since_ms"]

IdsFile = Annotated[Path | None, typer.Option(metavar="FILE", help="The images in this file, one id a line.")]
"""The option of commands that take many images."""


def since_ms(text: str, now_s: float, option: str = "--since") -> int:
    """A point in time, in milliseconds since the epoch: `90m`, `2h` and `7d` ago, or ISO 8601 (UTC without a zone).

    Args:
        text: What the user gave.
        now_s: Seconds since the epoch.
        option: The option that it is the value of.

    Raises:
        BadInputError: It is neither.
    """
    ago = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if ago is not None:
        return int(1000 * (now_s - int(ago[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[ago[2]]))
    try:
        when = datetime.fromisoformat(text)
        return int(1000 * (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        form = "90m, 2h, 7d or an ISO time such as 2025-01-31T12:00"
        raise BadInputError(f"{option} takes {form}, not {text!r}") from None


def reason_of(text: str) -> Reason:
    """The reason of dead letters that a word names.

    Raises:
        BadInputError: There is no such reason.
    """
    from core.dead_letters import Reason

    try:
        return Reason(text)
    except ValueError:
        raise BadInputError(f"there is no reason {text!r}: choose from {', '.join(sorted(Reason))}") from None


def ids_of(path: Path) -> frozenset[bytes]:
    """The image ids in a file, one a line.

    Raises:
        BadInputError: It cannot be read.
    """
    return frozenset(line for line in _lines(path) if line)


def chosen_ids(named: Sequence[str], file: Path | None) -> list[ImageId]:
    """The named images, then those of the file, each once.

    Raises:
        BadInputError: The file cannot be read, or an id is none; the message names the line.
    """
    from core.notifications import image_id

    found = [image_id(each) for each in named]
    if file is not None:
        for number, line in enumerate(_lines(file), 1):
            if not line:
                continue
            try:
                found.append(image_id(line.decode()))
            except (UnicodeDecodeError, BadInputError) as error:
                raise BadInputError(f"{file}, line {number}: {error}") from None
    return list(dict.fromkeys(found))


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().replace(b"\r\n", b"\n").split(b"\n")
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from error
