"""What the parts read says the same as what the deployment was given."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from stream.local.resolved import resolved_files, resolved_toml
from stream.settings import Settings, load_settings


def test_parts_read_the_same_settings(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere" / "run" / "settings.toml"
    file.parent.mkdir(parents=True)
    file.write_text(resolved_toml(settings), encoding="utf-8")
    read = load_settings(file)
    assert read.data_dir == settings.data_dir
    for name, signal in settings.signals.items():
        assert read.path(read.signals[name].model) == settings.path(signal.model)
        assert read.signals[name].terms == signal.terms
        given, found = (one.signals[name].code.projection for one in (settings, read))
        assert (found and read.path(found)) == (given and settings.path(given))
        assert read.signals[name].search == signal.search
    assert (read.kafka, read.flink, read.join, read.batching) == (
        settings.kafka,
        settings.flink,
        settings.join,
        settings.batching,
    )


def test_writing_what_was_read_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(resolved_toml(settings), encoding="utf-8")
    assert resolved_toml(load_settings(file)) == file.read_text(encoding="utf-8")


def test_the_folder_of_manifests_is_absolute(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for said, written in {"old": str(settings.base / "old"), "s3://bucket/old": "s3://bucket/old", "": ""}.items():
        monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__MANIFESTS", said)
        changed = load_settings(settings.base / "neardup.toml")
        assert tomllib.loads(resolved_toml(changed))["signals"]["photos"]["manifests"] == written


def test_the_environment_is_part_of_what_is_written(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARDUP_JOIN__TIMEOUT_S", "77")
    changed = load_settings(settings.base / "neardup.toml")
    assert tomllib.loads(resolved_toml(changed))["join"]["timeout_s"] == 77


def test_a_key_lies_in_a_file_of_its_own() -> None:
    settings = load_settings(None).model_copy(update={"api_token": "secret-word"})
    files = resolved_files(settings)
    (text,) = [text for file, text in files.items() if file.name == "settings.toml"]
    assert "secret-word" not in text
    assert files[Path(tomllib.loads(text)["access"]["write_key_file"])] == "secret-word\n"
