"""Data folders: the demo's lies beside nothing of the user's, and only folders of our own are wiped."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from core.errors import BadInputError, MismatchError, SettingsError
from stream.data_folders import claim_topics, demo_settings, require_plain_path, runs, wipe, with_data
from stream.local.broker import prepare_broker
from stream.local.flink_home import prepare_flink
from stream.local.supervisor import Deployment
from stream.settings import Settings, load_settings
from tests.support.stack import stack_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "some.toml"
    file.write_text('data = "there"\n')
    return load_settings(file)


def test_another_data_folder_and_nothing_else(settings: Settings, tmp_path: Path) -> None:
    assert settings.data_dir == tmp_path / "there"
    changed = with_data(settings, Path("elsewhere"))
    assert changed.data_dir == tmp_path / "elsewhere"
    assert changed.signal_dir("photos", "index").is_relative_to(tmp_path / "elsewhere")
    assert changed.model_dump(exclude={"data"}) == settings.model_dump(exclude={"data"})
    assert settings.data_dir == tmp_path / "there"


def test_the_demo_has_a_folder_of_its_own(settings: Settings, tmp_path: Path) -> None:
    assert demo_settings(settings).data_dir == tmp_path / "there" / "demo"
    assert demo_settings(settings).java_compiler == "quick"
    assert settings.java_compiler == "full"


def test_a_deployment_runs_while_its_supervisor_lives(settings: Settings) -> None:
    assert not runs(settings)
    pid_file = settings.data_dir / "run" / "supervisord.pid"
    pid_file.parent.mkdir(parents=True)
    pid_file.write_text("not a number\n")
    assert not runs(settings)
    pid_file.write_text(f"{os.getpid()}\n")
    assert not runs(settings), "the number of another process"
    with subprocess.Popen([sys.executable, "-c", "input()", "supervisord"], stdin=subprocess.PIPE) as supervisor:
        pid_file.write_text(f"{supervisor.pid}\n")
        assert runs(settings)
        supervisor.kill()
    assert not runs(settings)


def test_our_folder_is_wiped_again_and_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "demo"
    wipe(folder)
    (folder / "store").mkdir()
    (folder / "store" / "data").write_text("old")
    wipe(folder)
    assert not (folder / "store").exists()
    wipe(folder)


def test_a_strangers_folder_is_not_wiped(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("work of years")
    with pytest.raises(BadInputError, match="not wiped"):
        wipe(tmp_path)
    assert (tmp_path / "precious").exists()


def with_prefix(folder: Path, prefix: str | None) -> Settings:
    file = folder / "prefix.toml"
    line = "" if prefix is None else f'[signals.photos]\ntopic_prefix = "{prefix}"\nmodel = "model"\n'
    half = '[signals.photos.{}_embedding]\nname = "e"\nmodel_version = "1"\ndimension = 8\n'
    embeddings = half.format("search") + half.format("score")
    file.write_text('data = "there"\n' + (line + embeddings if line else ""))
    return load_settings(file)


def test_new_data_is_bound_to_its_topics(tmp_path: Path) -> None:
    claim_topics(with_prefix(tmp_path, None), "photos")
    claim_topics(with_prefix(tmp_path, None), "photos")
    claim_topics(with_prefix(tmp_path, "neardup.photos."), "photos")
    (tmp_path / "there" / "signals" / "photos" / "store").mkdir()
    with pytest.raises(MismatchError, match=r'topic_prefix = "neardup\.photos\."'):
        claim_topics(with_prefix(tmp_path, ""), "photos")


def test_a_mistyped_prefix_can_be_corrected_until_there_is_data(tmp_path: Path) -> None:
    claim_topics(with_prefix(tmp_path, "neradup."), "photos")
    claim_topics(with_prefix(tmp_path, None), "photos")
    (tmp_path / "there" / "signals" / "photos" / "store").mkdir()
    claim_topics(with_prefix(tmp_path, None), "photos")


def test_data_of_an_earlier_release_goes_on_without_a_prefix(tmp_path: Path) -> None:
    (tmp_path / "there" / "signals" / "photos" / "job" / "checkpoints").mkdir(parents=True)
    with pytest.raises(MismatchError, match=r'set `topic_prefix = ""` in \[signals\.photos\]'):
        claim_topics(with_prefix(tmp_path, None), "photos")
    claim_topics(with_prefix(tmp_path, ""), "photos")
    with pytest.raises(MismatchError, match=r'topic_prefix = ""'):
        claim_topics(with_prefix(tmp_path, None), "photos")


def test_data_of_an_earlier_release_keeps_a_prefix_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "there" / "signals" / "photos" / "job" / "checkpoints").mkdir(parents=True)
    claim_topics(with_prefix(tmp_path, "texts."), "photos")
    with pytest.raises(MismatchError, match=r'topic_prefix = "texts\."'):
        claim_topics(with_prefix(tmp_path, None), "photos")


@pytest.mark.parametrize("name", ["a space", "100%", "naïve", "a:b", "a,b", "a+b"])
def test_a_folder_that_a_part_would_read_differently_is_refused_at_once(tmp_path: Path, name: str) -> None:
    settings = stack_settings(tmp_path / name)
    for start in (Deployment(settings).up, partial(prepare_broker, settings), partial(prepare_flink, settings)):
        with pytest.raises(SettingsError, match="the Java parts need ASCII letters") as refused:
            start()
        assert ascii(next(char for char in name if not (char.isascii() and char.isalnum()))) in str(refused.value)
    assert not (tmp_path / name).exists()


def test_plain_folders_are_taken(tmp_path: Path) -> None:
    require_plain_path(stack_settings(tmp_path / "var_1.x-y~z"))
