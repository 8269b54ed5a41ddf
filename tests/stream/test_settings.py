"""The settings: defaults, file, environment, what is refused; and that the documented file says the truth."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from core.errors import SettingsError
from stream.settings import Settings, load_settings

DOCUMENTED = Path(__file__).parents[2] / "neardup.toml"


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in os.environ:
        if name.upper().startswith("NEARDUP_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def written(folder: Path, text: str) -> Path:
    file = folder / "some.toml"
    file.write_text(text, encoding="utf-8")
    return file


def leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for key, value in values.items():
        found |= leaves(value, (*path, key)) if isinstance(value, dict) else {(*path, key)}
    return found


def test_documented_file_equals_the_defaults() -> None:
    documented = load_settings(DOCUMENTED).model_dump(exclude={"base"})
    assert documented == load_settings().model_dump(exclude={"base"})


def test_documented_file_names_every_setting() -> None:
    documented = leaves(tomllib.loads(DOCUMENTED.read_text(encoding="utf-8")))
    known = leaves(load_settings().model_dump(exclude={"base"}))
    assert documented == known


def test_every_documented_path_exists() -> None:
    settings = load_settings(DOCUMENTED)
    signal = settings.signals["photos"]
    assert signal.centres is not None
    assert settings.path(signal.centres).is_file()
    assert signal.code.projection is not None
    assert settings.path(signal.code.projection).is_file()
    # The model comes with the project; its folder is named, whatever versions it holds.
    assert settings.path(signal.model).parent.is_dir()


def test_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, "[kafka]\nport = 1111\npartitions = 7\n")
    monkeypatch.setenv("NEARDUP_KAFKA__PORT", "2222")
    settings = load_settings(file)
    assert (settings.kafka.port, settings.kafka.partitions) == (2222, 7)


def test_environment_changes_one_setting_of_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__STORAGE__HOST", "storage")
    storage = load_settings().signals["photos"].storage
    assert (storage.host, storage.port) == ("storage", 17003)


def test_file_is_found_by_name_then_by_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "neardup.toml").write_text("[kafka]\nport = 1111\n")
    assert load_settings().kafka.port == 1111
    monkeypatch.setenv("NEARDUP_SETTINGS", str(written(tmp_path, "[kafka]\nport = 3333\n")))
    assert load_settings().kafka.port == 3333


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    settings = load_settings(written(folder, 'data = "there"\n'))
    assert settings.data_dir == folder / "there"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 1", "colour"),
        ("[kafka]\ncolour = 1", "kafka.colour"),
        ("[kafka]\nport = 0", "kafka.port"),
        ("[kafka]\nport = 70000", "kafka.port"),
        ("[kafka]\nport = 17001", "17001"),
        ('[kafka]\naliases_topic = "a b"', "kafka.aliases_topic"),
        ('[kafka]\naliases_topic = "neardup.photos.joined"', "is neardup.photos.joined, as a topic of photos is"),
        ('[signals.photos.api]\npublic_url = "photos.example"', r"photos\.api\.public_url"),
        ('[signals.photos.api]\npublic_url = "https://photos.example/"', r"photos\.api\.public_url"),
        ("[join]\ntimeout_s = 1.0", "alert_after_s"),
        ("[batching]\nbackoff_first_ms = 5000", r"batching: .*backoff_first_ms"),
        ("[batching]\nmax_items = 0", r"batching: .*max_items must be at least 1"),
        ("[batching]\ndeadline_ms = 0", r"batching: .*deadline_ms"),
        ("[batching]\nmax_itms = 3", "batching.max_itms"),
        ("[batching]\nmax_items = 'x'", "batching.max_items"),
        ("[signals.photos.search.admission]\nslots = 0", r"search\.admission: .*slots \(0\)"),
        ("[signals.photos.search.admission]\nslot = 1", r"search\.admission\.slot"),
        ('default_signal = "texts"', "texts"),
        ("[signals.photos.code]\nbits = 1001", "bits"),
        ("[signals.photos.terms]\nmin_overlap = 129", r"photos\.terms: .*1 to the 128 groups, not 129"),
        (
            '[signals.photos.terms]\norder = "distance"\ndepth = 10',
            r"photos\.terms: .*depth must be at least candidates",
        ),
        ('[signals.photos.terms]\norder = "age"', r"photos\.terms\.order"),
        ('[signals.Photos]\nmodel = "x"', "Photos"),
        ("this is not toml", "TOML"),
    ],
)
def test_what_does_not_hold_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load_settings(written(tmp_path, text))


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        load_settings(tmp_path / "nowhere.toml")


def test_settings_are_frozen() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.data = Path("elsewhere")  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.kafka.port = 1  # type: ignore[misc]


def test_the_token_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARDUP_API_TOKEN", "secret-word")
    settings = load_settings()
    assert settings.api_token == "secret-word"
    assert "secret-word" not in repr(settings)


def test_an_unknown_signal_is_refused_with_those_that_are_there() -> None:
    settings: Settings = load_settings()
    assert settings.signal()[0] == "photos"
    with pytest.raises(SettingsError, match="photos"):
        settings.signal("texts")


def test_a_byte_order_mark_before_the_settings_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "marked.toml"
    file.write_bytes(b"\xef\xbb\xbf[kafka]\nport = 12345\n")
    assert load_settings(file).kafka.port == 12345


def test_manifests_lie_in_a_folder_or_in_s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for said, meant in {
        "": "",
        "old": str(tmp_path / "old"),
        "/data/old": "/data/old",
        "s3://bucket/old": "s3://bucket/old",
    }.items():
        settings = load_settings_with(monkeypatch, said)
        assert settings.manifests(settings.signal()[1]) == meant
    for wrong in ("hdfs://host/old", "s3://", "s3://UPPER/old"):
        with pytest.raises(SettingsError, match=r"signals\.photos\.manifests"):
            load_settings_with(monkeypatch, wrong)


def load_settings_with(monkeypatch: pytest.MonkeyPatch, manifests: str) -> Settings:
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__MANIFESTS", manifests)
    return load_settings()
