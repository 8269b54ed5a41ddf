"""Errors at the edge: each ends with its code and one line, none with a traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import errors
from core.errors import (
    BadInputError,
    BusyError,
    ConflictError,
    DeadlineError,
    DeniedError,
    FaultError,
    LogGapError,
    MismatchError,
    NeardupError,
    RefusedError,
    SettingsError,
    StaleError,
    UnavailableError,
)
from neardup import errors as errors_of_the_client
from neardup.errors import BadRequestError, NeardupClientError, NotFoundError, ServiceUnavailableError
from storage.errors import CorruptedError, DiskFullError, IncompatibleError, LockedError
from stream.cli.exits import Exit, exit_for, explain
from stream.cli.main import main
from stream.errors import NotIndexedError, NotSoundError

EXPECTED: dict[type[BaseException], Exit] = {
    SettingsError: Exit.USAGE,
    BadInputError: Exit.USAGE,
    DeniedError: Exit.USAGE,
    NotIndexedError: Exit.NOT_FOUND,
    NotFoundError: Exit.NOT_FOUND,
    BadRequestError: Exit.USAGE,
    ServiceUnavailableError: Exit.UNAVAILABLE,
    NeardupClientError: Exit.FAILED,
    UnavailableError: Exit.UNAVAILABLE,
    DeadlineError: Exit.UNAVAILABLE,
    NotSoundError: Exit.NOT_SOUND,
    MismatchError: Exit.MISMATCH,
    ConflictError: Exit.FAILED,
    errors_of_the_client.ConflictError: Exit.FAILED,
    LockedError: Exit.UNAVAILABLE,
    DiskFullError: Exit.UNAVAILABLE,
    IncompatibleError: Exit.MISMATCH,
    CorruptedError: Exit.FAILED,
    KeyboardInterrupt: Exit.INTERRUPTED,
    FaultError: Exit.FAILED,
    RefusedError: Exit.FAILED,
    LogGapError: Exit.FAILED,
    NeardupError: Exit.FAILED,
    ZeroDivisionError: Exit.FAILED,
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_each_error_has_its_code(kind: type[BaseException]) -> None:
    assert exit_for(kind("text")) is EXPECTED[kind]


def leaves(root: type[NeardupError]) -> Iterator[type[NeardupError]]:
    for kind in root.__subclasses__():
        yield from leaves(kind) if kind.__subclasses__() else [kind]


def test_every_error_of_search_is_in_the_table() -> None:
    ours = {kind for kind in leaves(NeardupError) if kind.__module__ == errors.__name__}
    assert ours - set(EXPECTED) <= {BusyError, StaleError}
    assert exit_for(BusyError("one too many", 0.1)) is Exit.UNAVAILABLE


def test_codes_are_distinct_and_explained() -> None:
    assert len({code.value for code in Exit}) == len(Exit)
    assert all(code.meaning for code in Exit)


def test_texts() -> None:
    assert explain(BadInputError("a is b")) == "a is b"
    assert explain(NotFoundError("no cat")) == "no cat"
    assert explain(KeyboardInterrupt()) == "stopped"
    assert "neardup[flink]" in explain(ModuleNotFoundError("no", name="pyflink.common"))
    assert explain(FileNotFoundError(errno.ENOENT, "No such file", "x.txt")) == "x.txt: No such file"
    assert explain(ValueError("odd")).startswith("unexpected ValueError: odd")


def test_broken_settings_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("[kafka]\ncolour = 1\n")
    assert main(["--settings", str(file), "topics", "list"]) == Exit.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "kafka.colour" in shown.err
    assert "Traceback" not in shown.err


def test_an_unknown_signal_is_refused_with_those_that_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["head", "a", "--signal", "texts"]) == Exit.USAGE
    assert "photos" in capsys.readouterr().err


@pytest.mark.parametrize("lines", [1, 2000])
def test_a_reader_that_has_had_enough_is_no_error(lines: int) -> None:
    """`neardup members HEAD --all | head -1`: the pipe closes before or while we write."""
    program = (
        "import sys, time\n"
        "from stream.cli.app import app\n"
        "from stream.cli.main import main\n"
        "from stream.cli.output import line\n"
        "@app.command()\n"
        "def many():\n"
        "    sys.stdin.read()\n"
        f"    for _ in range({lines}): line('x' * 1000)\n"
        "sys.exit(main(['many']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.close()
        assert process.wait() == Exit.FAILED
        assert process.stderr.read() == b""


@pytest.mark.parametrize("level", ["loud", ""])
def test_a_level_that_is_none_is_refused(
    level: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEARDUP_LOG", level)
    assert main(["topics", "list"]) == Exit.USAGE
    assert "NEARDUP_LOG" in capsys.readouterr().err


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_a_command_works_although_its_streams_are_closed(closed: str) -> None:
    command = f'"{sys.executable}" -c "from stream.cli.main import main; raise SystemExit(main())" --version {closed}'
    done = subprocess.run(
        ["bash", "-c", command], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (Exit.OK, "")


@pytest.mark.parametrize("command", ["head", "members"])
def test_an_empty_id_is_refused_before_the_server_is_asked(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, ""]) == Exit.USAGE
    assert "an image id has at least one character" in capsys.readouterr().err
