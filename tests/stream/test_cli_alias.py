"""`neardup alias`, with a topic that is none."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from core.aliases import Alias
from core.files import write_text
from storage.api.aliases import AliasSettings, FollowedAliases
from stream import alias_target, aliases
from stream.access import make_keys
from stream.alias_places import alias_file, signal_places
from stream.cli import alias_command
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.local.resolved import resolved_toml
from stream.settings import Settings
from tests.support.fake_alias_topic import FakeAliasTopic
from tests.support.stack import PHOTOS, stack_settings

Run = Callable[..., tuple[int, str, str]]

AT_MS = 1_764_331_200_123
AT = "2025-11-28T12:00:00.123Z"


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> FakeAliasTopic:
    topic = FakeAliasTopic()
    monkeypatch.setattr(aliases, "send_record", topic.send)
    monkeypatch.setattr(alias_command, "_now_ms", lambda: AT_MS)
    return topic


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Signals that were asked whether they are ready: `new` is, `old` is not."""
    asked: list[str] = []

    def doubts(settings: Settings, signal: str) -> list[str]:
        asked.append(signal)
        return ["its job is failed", "so it lags"] if signal == "old" else []

    monkeypatch.setattr(alias_target, "doubts", doubts)
    return asked


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = stack_settings(tmp_path / "data", {"old": PHOTOS, "new": PHOTOS})
    make_keys(settings)
    write_text(tmp_path / "neardup.toml", resolved_toml(settings))
    monkeypatch.setenv("NEARDUP_SETTINGS", str(tmp_path / "neardup.toml"))
    return settings


@pytest.fixture
def run(settings: Settings, topic: FakeAliasTopic, asked: list[str], capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(["alias", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_an_alias_is_set_listed_moved_back_and_dropped(run: Run, topic: FakeAliasTopic, settings: Settings) -> None:
    assert run("list")[:2] == (Exit.OK, "")
    assert "no alias" in run("list")[2]
    assert run("set", "live", "new", "--reason", "first")[:2] == (Exit.OK, f"the alias live names new since {AT}\n")
    moved = run("set", "live", "old", "--expect", "new", "--author", "ann", "--force")
    assert moved[:2] == (
        Exit.OK,
        f"the alias live names old since {AT}; `neardup alias back live` goes back to new\n",
    )
    rows = [row.split() for row in run("list")[1].splitlines()]
    assert rows[0] == ["alias", "signal", "since", "before", "author", "reason"]
    assert rows[-1] == ["live", "old", AT, "new", "ann"]
    code, out, _ = run("back", "live", "--reason", "worse")
    assert code == Exit.OK
    assert out.startswith(f"the alias live names new since {AT}")
    assert json.loads(run("list", "--json")[1]) == [
        {
            "name": "live",
            "signal": "new",
            "since": AT,
            "author": getpass.getuser(),
            "reason": "worse",
            "previous": "old",
            "api": f"http://127.0.0.1:{settings.signals['new'].api.port}",
            "topics": {"assignments": "neardup.new.assignments"},
        }
    ]
    assert run("drop", "live")[:2] == (Exit.OK, "there is no alias live any more\n")
    assert json.loads(run("list", "--json")[1]) == []
    assert topic.signals() == ["new", "old", "new", None]


def test_a_signal_that_is_not_ready_needs_force(run: Run, topic: FakeAliasTopic, asked: list[str]) -> None:
    code, out, err = run("set", "live", "old")
    assert (code, out, topic.records) == (Exit.UNAVAILABLE, "", [])
    assert "the signal old is not ready for readers: its job is failed; so it lags" in err
    assert "--force" in err
    assert run("set", "live", "old", "--force")[0] == Exit.OK
    assert run("set", "live", "new")[0] == Exit.OK
    assert run("back", "live")[0] == Exit.UNAVAILABLE
    assert topic.signals() == ["old", "new"]
    assert asked == ["old", "new", "old"]
    assert run("back", "live", "--force")[0] == Exit.OK
    # It is there already, so nobody is sent anywhere.
    assert run("set", "live", "old")[0] == Exit.OK
    assert topic.signals() == ["old", "new", "old", "old"]
    assert asked == ["old", "new", "old"]


def test_kafka_that_is_down_is_told_and_the_same_command_mends_it(run: Run, topic: FakeAliasTopic) -> None:
    topic.down = True
    code, out, err = run("set", "live", "new")
    assert (code, out) == (Exit.UNAVAILABLE, "")
    assert "Kafka was not told" in err
    assert "run `neardup alias set live new` once Kafka answers" in err
    assert json.loads(run("list", "--json")[1])[0]["signal"] == "new"
    topic.down = False
    assert run("set", "live", "new")[0] == Exit.OK
    assert topic.signals() == ["new"]
    topic.down = True
    assert "run `neardup alias drop live --again`" in run("drop", "live")[2]
    topic.down = False
    assert run("drop", "live")[0] == Exit.NOT_FOUND
    assert run("drop", "live", "--again")[:2] == (Exit.OK, "there is no alias live any more\n")
    assert topic.signals() == ["new", None]


@pytest.mark.parametrize(
    ("words", "rest", "listed"),
    [
        (("set", "live", "new"), "neardup alias set live new", "new"),
        (("back", "live", "--force"), "neardup alias set live old", "old"),
        (("drop", "live"), "neardup alias drop live --again", None),
    ],
)
def test_a_command_that_is_stopped_before_kafka_is_told_says_what_does_the_rest(
    run: Run,
    topic: FakeAliasTopic,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    rest: str,
    listed: str | None,
) -> None:
    run("set", "live", "old", "--force")
    if words[0] != "set":
        run("set", "live", "new")
    before = topic.signals()

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(aliases, "send_record", stopped)
        code, _, err = run(*words)
    assert code == Exit.INTERRUPTED
    assert f"if it was, `{rest}` tells Kafka too" in " ".join(err.split())
    assert topic.signals() == before
    assert [each["signal"] for each in json.loads(run("list", "--json")[1])] == ([listed] if listed else [])
    assert run(*rest.split()[2:])[0] == Exit.OK
    assert topic.signals() == [*before, listed]


def test_the_help_says_what_readers_do(run: Run) -> None:
    code, out, _ = run("--help")
    said = " ".join(out.split())
    assert code == Exit.OK
    assert "Readers ask the HTTP API of any signal for /v1/aliases/NAME/..." in said
    assert "tells Kafka again" in " ".join(run("set", "--help")[1].split())
    assert "alias list" in run("back", "--help")[1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("set", "live", "photos"), Exit.USAGE, "no signal 'photos'"),
        (("set", "new", "new"), Exit.USAGE, "new is a signal"),
        (("set", "A", "new"), Exit.USAGE, "no name"),
        (("set", "live", "new", "--expect", "old"), Exit.FAILED, "there is no such alias"),
        (("set", "live", "new", "--reason", "x" * 1025), Exit.USAGE, "the reason has 1025 bytes"),
        (("set", "Live", "old"), Exit.USAGE, "no name"),
        (("set", "new", "old"), Exit.USAGE, "new is a signal"),
        (("back", "live"), Exit.NOT_FOUND, "no alias live"),
        (("drop", "live"), Exit.NOT_FOUND, "no alias live"),
        (("drop", "a/b"), Exit.USAGE, "no name"),
    ],
)
def test_what_is_wrong_is_refused(
    run: Run, topic: FakeAliasTopic, words: tuple[str, ...], code: Exit, said: str
) -> None:
    """Also if the signal is not ready, as `old` is not: what was typed wrong is told first."""
    found = run(*words)
    assert found[0] == code
    assert said in " ".join(found[2].split())
    assert topic.records == []


def test_a_new_alias_has_no_way_back(run: Run) -> None:
    run("set", "live", "new")
    code, _, err = run("back", "live")
    assert code == Exit.USAGE
    assert "live has named no other signal than new" in err


def test_without_the_write_key_nothing_is_written(run: Run, settings: Settings, topic: FakeAliasTopic) -> None:
    (settings.data_dir / "secrets" / "write" / "key").unlink()
    assert run("set", "live", "new")[0] == Exit.USAGE
    assert topic.records == []
    assert not alias_file(settings).exists()


def test_the_servers_read_what_the_command_writes(run: Run, settings: Settings) -> None:
    followed = FollowedAliases(AliasSettings(alias_file(settings), "new", signal_places(settings)))
    assert followed.all() == {}
    run("set", "live", "new")
    assert followed.one("live") == Alias("new", AT_MS, getpass.getuser())
