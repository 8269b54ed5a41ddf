"""A session that a document has: its commands are read from the page and run as processes, in the order of the page.

The page shows the commands with values of its own: files, ids, times, versions. A test says what stands for each. So
nobody can change the page without the test, and the page cannot go out of date.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.support.stack import ROOT

PROGRAM = (sys.executable, "-c", "import sys; from stream.cli.main import main; sys.exit(main())")

LIMIT_S = 300.0
"""How long a command may take."""


def commands_of(page: str, title: str) -> list[str]:
    """The lines of the blocks marked `sh` below a heading of a page."""
    section = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert section is not None, f"there is no section {title!r}"
    blocks = re.findall(r"^```sh\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def head_of(output: str) -> str:
    """The head of an image, from what is told of it."""
    told = re.search(r"^head\s+(\S+)$", output, re.MULTILINE)
    assert told is not None, output
    return told[1]


class WrittenSession:
    """Runs the commands of a page one by one. Use it as a context manager."""

    def __init__(self, commands: Sequence[str], settings: Path) -> None:
        """Begins before the first command.

        Args:
            commands: The lines of the page.
            settings: The file that the commands read.
        """
        self.stands_for: dict[str, str] = {}
        """What a word of the page stands for; other words stand for themselves."""
        self._commands = list(commands)
        self._environment = {**os.environ, "NEARDUP_SETTINGS": str(settings), "PYTHONPATH": str(ROOT)}
        self._followers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> WrittenSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for follower in self._followers:
            follower.kill()
            follower.communicate()

    @property
    def left(self) -> list[str]:
        """The commands that were not given yet."""
        return list(self._commands)

    def run(self, beginning: str) -> str:
        """Runs the next command, which must begin so and must succeed; returns what it prints."""
        words = self._next(beginning)
        done = subprocess.run(
            [*PROGRAM, *words], env=self._environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def follow(self, beginning: str, output: Path) -> subprocess.Popen[str]:
        """Begins the next command, which goes on until it is interrupted; its output goes to a file."""
        with output.open("w") as file:
            follower = subprocess.Popen(
                [*PROGRAM, *self._next(beginning)], env=self._environment, stdout=file, text=True
            )
        self._followers.append(follower)
        return follower

    @staticmethod
    def interrupt(follower: subprocess.Popen[str]) -> int:
        """Does what Ctrl-C does; returns the exit code."""
        follower.send_signal(signal.SIGINT)
        return follower.wait(LIMIT_S)

    def _next(self, beginning: str) -> list[str]:
        assert self._commands, f"the page has no further command, but {beginning!r} is to come"
        command = self._commands.pop(0)
        assert command.startswith(f"neardup {beginning}"), f"the page has {command!r}, not {beginning!r}"
        return [self.stands_for.get(word, word) for word in shlex.split(command)[1:]]
