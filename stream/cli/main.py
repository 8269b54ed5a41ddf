"""The entry point of `neardup`: runs one command, and turns every error into a message and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from stream.cli.exits import Exit, exit_for, explain
from stream.cli.logs import silence_libraries
from stream.cli.output import complain

__all__ = ["main"]

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: The words after `neardup`; without them those of the process.

    Returns:
        The exit code, one of `Exit`.
    """
    try:
        _open_standard_streams()
        silence_libraries()
        code = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output has closed it. The rest of the buffer is dropped.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except BaseException as error:  # the edge: every error becomes a message and an exit code
        log.debug("the command failed", exc_info=error)
        code = exit_for(error)
        complain(explain(error), code)
    return int(code)


def _open_standard_streams() -> None:
    """Opens those that the caller closed (`>&-`), on nothing: so the command does its work without output."""
    for name, mode in (("stdout", "w"), ("stderr", "w"), ("stdin", "r")):
        if getattr(sys, name) is None:
            # It stays open until the process ends, as the one that it stands for would.
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def _run(argv: Sequence[str] | None) -> int:
    from stream.cli.app import app

    try:
        app(args=list(argv) if argv is not None else None, prog_name="neardup")
    except SystemExit as end:
        # Typer ends every command this way, also one with wrong arguments.
        return end.code if isinstance(end.code, int) else Exit.FAILED
    return Exit.OK
