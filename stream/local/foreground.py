"""One part in the foreground, without a supervisor: how containers run and check Kafka and Flink.

python -m stream.local.foreground run broker          prepares the part's files, then becomes the part
python -m stream.local.foreground check photos-search exit status 0 when the part serves, else 1 and the reason
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from core.errors import BadInputError, NeardupError
from stream.local.parts import flink_parts, part_checks
from stream.settings import Settings, load_settings

__all__ = ["check", "main", "run"]


def run(settings: Settings, name: str) -> NoReturn:
    """Becomes the broker, the job manager or the task manager.

    Raises:
        BadInputError: The part is unknown.
        MissingPieceError: A piece that set-up fetches is missing.
    """
    parts = {part.name: part for part in flink_parts(settings)}
    if name not in parts:
        raise BadInputError(f"there is no part {name!r} to run; there are {', '.join(parts)}")
    part = parts[name]
    os.umask(0o077)  # as the supervisor does: embeddings and ids are for the owner alone
    if part.prepare is not None:
        part.prepare()
    os.execvpe(part.command[0], part.command, {**os.environ, **part.environment})


def check(settings: Settings, name: str) -> str | None:
    """None if a part serves, else the reason.

    Raises:
        BadInputError: The part is unknown.
    """
    checks = part_checks(settings)
    if name not in checks:
        raise BadInputError(f"there is no part {name!r} to check; there are {', '.join(checks)}")
    return checks[name]()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs or checks the named part; returns the exit status."""
    match list(sys.argv[1:] if arguments is None else arguments):
        case ["run" | "check" as verb, name]:
            pass
        case _:
            sys.stderr.write("usage: python -m stream.local.foreground run|check PART\n")
            return 2
    # The client logs each refused connection. The reason is printed below.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        settings = load_settings()
        if verb == "run":
            run(settings, name)
        reason = check(settings, name)
    except NeardupError as error:
        reason = str(error)
    if reason is not None:
        sys.stderr.write(f"{name}: {reason}\n")
    return 0 if reason is None else 1


if __name__ == "__main__":
    sys.exit(main())
