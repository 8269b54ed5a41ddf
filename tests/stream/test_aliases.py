"""What people do with aliases: the file is written first, then Kafka is told, and what failed may be given again."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from core.alias_file import read_aliases
from core.aliases import Alias
from core.errors import BadInputError, ConflictError, DeniedError, SettingsError, UnavailableError
from stream import aliases
from stream.access import make_keys
from stream.alias_places import alias_file, signal_places
from stream.aliases import drop_alias, listed_aliases, move_back, set_alias
from stream.errors import NotKnownError
from stream.settings import Settings
from tests.support.fake_alias_topic import FakeAliasTopic
from tests.support.stack import PHOTOS, stack_settings

OLD, NEW = (Alias(signal, since_ms, "ann", "") for signal, since_ms in (("old", 1_000), ("new", 2_000)))


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> FakeAliasTopic:
    topic = FakeAliasTopic()
    monkeypatch.setattr(aliases, "send_record", topic.send)
    return topic


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = stack_settings(tmp_path, {"old": PHOTOS, "new": PHOTOS})
    make_keys(settings)
    return settings


def test_an_alias_is_set_moved_and_moved_back(settings: Settings, topic: FakeAliasTopic) -> None:
    assert listed_aliases(settings) == {}
    assert set_alias(settings, "live", OLD) == OLD
    moved = set_alias(settings, "live", NEW, "old")
    assert moved == Alias("new", 2_000, "ann", "", "old")
    back = move_back(settings, "live", 3_000, "ben", "fewer copies")
    assert back == Alias("old", 3_000, "ben", "fewer copies", "new")
    assert move_back(settings, "live", 4_000, "ben", "").signal == "new"
    assert set_alias(settings, "next", OLD) == OLD
    drop_alias(settings, "live")
    assert listed_aliases(settings) == read_aliases(alias_file(settings)) == {"next": OLD}
    assert topic.signals() == ["old", "new", "old", "new", "old", None]
    assert topic.records[1] == (
        "live",
        {
            "signal": "new",
            "topics": {"assignments": "neardup.new.assignments"},
            "since_ms": 2_000,
            "author": "ann",
            "reason": "",
            "previous": "old",
        },
    )


def test_the_file_is_written_first_and_the_same_again_tells_kafka(settings: Settings, topic: FakeAliasTopic) -> None:
    set_alias(settings, "live", OLD)
    topic.down = True
    with pytest.raises(UnavailableError, match=r"(?s)names new for readers .*Kafka is down\n.*alias set live new"):
        set_alias(settings, "live", NEW, "old")
    written = alias_file(settings).read_bytes()
    assert listed_aliases(settings)["live"].signal == "new"
    topic.down = False
    # What it was expected to name has changed, and that is what was asked for.
    assert set_alias(settings, "live", Alias("new", 9_000, "ben"), "old") == Alias("new", 2_000, "ann", "", "old")
    assert alias_file(settings).read_bytes() == written
    topic.down = True
    with pytest.raises(UnavailableError, match="alias set live old"):
        move_back(settings, "live", 3_000, "ann", "")
    with pytest.raises(UnavailableError, match=r"(?s)live is dropped .*alias drop live --again"):
        drop_alias(settings, "live")
    assert listed_aliases(settings) == {}
    topic.down = False
    drop_alias(settings, "live", again=True)
    assert topic.signals() == ["old", "new", None]


def test_what_is_wrong_changes_nothing(settings: Settings, topic: FakeAliasTopic) -> None:
    set_alias(settings, "live", OLD)
    with pytest.raises(ConflictError, match="expected to name new, but it names old"):
        set_alias(settings, "live", NEW, "new")
    with pytest.raises(SettingsError, match="no signal 'photos'"):
        set_alias(settings, "live", Alias("photos", 0))
    with pytest.raises(BadInputError, match="new is a signal"):
        set_alias(settings, "new", OLD)
    with pytest.raises(BadInputError, match="no name"):
        set_alias(settings, "a/b", OLD)
    with pytest.raises(BadInputError, match="no name"):
        drop_alias(settings, "a/b")
    with pytest.raises(BadInputError, match="live has named no other signal than old"):
        move_back(settings, "live", 0, "", "")
    with pytest.raises(NotKnownError, match="no alias next"):
        move_back(settings, "next", 0, "", "")
    with pytest.raises(NotKnownError, match="no alias next"):
        drop_alias(settings, "next")
    assert listed_aliases(settings) == {"live": OLD}
    assert topic.signals() == ["old"]


def test_servers_of_other_users_may_read_the_file(settings: Settings, topic: FakeAliasTopic) -> None:
    file, umask = alias_file(settings), os.umask(0o077)
    try:
        set_alias(settings, "live", OLD)
        set_alias(settings, "live", NEW)
    finally:
        os.umask(umask)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file.parent, file)] == [0o755, 0o644]
    # Nothing else lies there that would belong to whoever came first.
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_way_back_to_a_signal_that_is_gone_is_refused(settings: Settings, topic: FakeAliasTopic) -> None:
    set_alias(settings, "live", OLD)
    set_alias(settings, "live", NEW)
    fewer = settings.model_copy(update={"signals": {"new": settings.signals["new"]}})
    with pytest.raises(SettingsError, match="no signal 'old'"):
        move_back(fewer, "live", 0, "", "")
    assert topic.signals() == ["old", "new"]


def test_the_write_key_is_needed(tmp_path: Path, topic: FakeAliasTopic) -> None:
    settings = stack_settings(tmp_path, {"old": PHOTOS})
    for change in (lambda: set_alias(settings, "live", OLD), lambda: drop_alias(settings, "live")):
        with pytest.raises(DeniedError, match=r"the write key, and there is none in .*secrets/write/key"):
            change()
    assert not alias_file(settings).exists()
    set_alias(settings.model_copy(update={"api_token": "word"}), "live", OLD)
    assert topic.signals() == ["old"]


def test_a_damaged_file_is_not_written_over(settings: Settings, topic: FakeAliasTopic) -> None:
    set_alias(settings, "live", OLD)
    alias_file(settings).write_bytes(b"{")
    for change in (lambda: set_alias(settings, "live", NEW), lambda: drop_alias(settings, "live")):
        with pytest.raises(
            BadInputError, match=r"(?s)file of aliases is none.*aliases\.json.*set each alias again .*all at once"
        ):
            change()
    assert alias_file(settings).read_bytes() == b"{"
    alias_file(settings).unlink()
    set_alias(settings, "live", NEW)
    assert topic.signals() == ["old", "new"]


def test_the_last_record_is_what_the_file_says_whoever_comes_at_once(
    settings: Settings, topic: FakeAliasTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each telling of Kafka lets the others run: none of them may change the file meanwhile."""
    told: list[tuple[str, str]] = []

    def slow(asked: Settings, name: str, value: bytes | None) -> None:
        assert value is not None
        before = listed_aliases(asked)[name].signal
        threading.Event().wait(0.002)
        told.append((json.loads(value)["signal"], listed_aliases(asked)[name].signal))
        assert before == listed_aliases(asked)[name].signal

    monkeypatch.setattr(aliases, "send_record", slow)
    moves = [threading.Thread(target=set_alias, args=(settings, "live", each)) for each in (OLD, NEW) * 5]
    for move in moves:
        move.start()
    for move in moves:
        move.join()
    assert len(told) == 10
    assert all(sent == said for sent, said in told)


def test_readers_find_a_signal_where_the_settings_say(settings: Settings) -> None:
    old = settings.signals["old"]
    public = old.model_copy(update={"api": old.api.model_copy(update={"public_url": "https://photos.example/old"})})
    places = signal_places(settings.model_copy(update={"signals": {**settings.signals, "old": public}}))
    assert places["old"].api == "https://photos.example/old"
    assert places["new"].api == f"http://127.0.0.1:{settings.signals['new'].api.port}"
    assert places["new"].topics == {"assignments": "neardup.new.assignments"}
