"""Every `neardup` command of the documents is one that the command line takes: its words, options and values."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from stream.cli.app import app

ROOT = Path(__file__).parents[2]

DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]

PROGRAM = get_command(app)

NUMBERS = {"COUNT": "1000", "DAYS": "30", "OFFSET": "17", "ROWS": "200"}
"""What stands for a number in a document."""


def commands(document: str) -> set[str]:
    """The commands of a document, in its blocks and sentences, without what follows a pipe."""
    block = re.compile(r"^(?: {4,}|\$ )?((?:[A-Z_]+=\S+ |docker .*)?(?:\S+/)?neardup .*)$", re.MULTILINE)
    prose = re.sub(r"```.*?```", "", block.sub("", document), flags=re.DOTALL)
    code = [*(match[1] for match in block.finditer(document)), *re.findall(r"`([^`]+)`", prose)]
    parts = (part for each in code for part in re.split(r"&&|[|;]", " ".join(each.split())))
    found = (re.search(r"(?:^|[\s/])neardup ((?:-|[a-z]).*)$", part.strip()) for part in parts)
    return {match[1] for match in found if match is not None}


COMMANDS = sorted({(path.name, each) for path in DOCUMENTS for each in commands(path.read_text(encoding="utf-8"))})


def test_commands_are_found_wherever_they_stand() -> None:
    """In a sentence, over two lines, in a block, in a list, behind `&&`, and behind another program."""
    text = """
See `neardup job stop
--no-savepoint`, `neardup down && neardup secrets renew`, and `docker compose run neardup status`.

    neardup dead-letters --json | jq -r .reason
    docker compose run --rm neardup verify

1. In a list:

       neardup log renew --dry-run

```sh
.venv/bin/neardup up
```
"""
    assert commands(text) == {
        "job stop --no-savepoint",
        "down",
        "secrets renew",
        "status",
        "dead-letters --json",
        "verify",
        "log renew --dry-run",
        "up",
    }


def test_the_runbook_has_many() -> None:
    assert len([each for name, each in COMMANDS if name == "runbook.md"]) > 30


@pytest.mark.parametrize(("document", "command"), COMMANDS)
def test_every_command_of_the_documents_is_one(document: str, command: str) -> None:
    """Options are known, arguments are there, values have their types. A bare name stands for the command."""
    words = [NUMBERS.get(word, word) for word in shlex.split(command)]
    found, name = PROGRAM, "neardup"
    while isinstance(found, TyperGroup) and words and not words[0].startswith("-"):
        name, inner, words = found.resolve_command(found.make_context(name, list(words)), words)
        assert inner is not None
        found = inner
    if words and "--help" not in words:
        found.make_context(name, words)
