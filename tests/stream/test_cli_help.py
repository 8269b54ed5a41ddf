"""The command line as documentation: every command explains itself, starts at once, and on a bare installation."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from stream.cli.app import app
from stream.cli.exits import Exit
from stream.cli.main import main

HEAVY = ("fastapi", "grpc", "keras", "numba", "psutil", "pyflink", "rocksdict", "supervisor", "tensorflow", "uvicorn")
"""What a bare installation lacks."""

SLOW = (*HEAVY, "httpx", "kafka", "numpy", "pyarrow", "pydantic", "google.protobuf")
"""What help must not wait for."""


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below a group, with its words."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if getattr(command, "invoke_without_command", False):
            yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_a_text_with_an_example_of_itself(path: tuple[str, ...]) -> None:
    text = COMMANDS[path].help or ""
    assert "Example" in text
    assert f"neardup {' '.join(path)}" in text


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_and_argument_is_explained(path: tuple[str, ...]) -> None:
    unexplained = [each.name for each in COMMANDS[path].params if not getattr(each, "help", None)]
    assert unexplained == []


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_shows_its_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*path, "--help"]) == Exit.OK
    assert f"neardup {' '.join(path)}" in capsys.readouterr().out


def test_reads_have_json() -> None:
    reads = [("head",), ("members",), ("similar",), ("status",), ("verify",), ("dead-letters",)]
    reads += [("dead-letters", word) for word in ("list", "show", "stats")]
    reads += [("topics", "list"), ("job", "status"), ("model", "list")]
    without = [path for path in reads if "as_json" not in {each.name for each in COMMANDS[path].params}]
    assert without == []


def test_help_names_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == Exit.OK
    shown = " ".join(capsys.readouterr().out.split())
    for code in Exit:
        assert f"{code.value} {code.meaning}" in shown


@pytest.mark.parametrize(
    "words", [["no-such-command"], ["head"], ["head", "a", "--no-such-option"], ["members", "a", "--limit", "0"]]
)
def test_wrong_usage_has_its_code(words: list[str]) -> None:
    assert main(words) == Exit.USAGE


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == Exit.OK
    assert capsys.readouterr().out.startswith("neardup ")


def test_help_imports_nothing_slow() -> None:
    program = (
        "import json, sys\n"
        "from stream.cli.main import main\n"
        "code = main(['--help'])\n"
        f"found = [name for name in {SLOW!r} if name in sys.modules]\n"
        "sys.stderr.write(json.dumps([code, found]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr) == [0, []]


def test_a_bare_installation_starts_and_says_what_is_missing() -> None:
    """With none of the extras, help works, and a command that needs one names it."""
    program = (
        "import sys\n"
        f"for name in {HEAVY!r}: sys.modules[name] = None\n"
        "from stream.cli.main import main\n"
        "assert main(['--help']) == 0\n"
        "sys.exit(main(['verify']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == Exit.FAILED, done.stderr
    assert "pip install 'neardup[serve]'" in done.stderr
    assert "Traceback" not in done.stderr
