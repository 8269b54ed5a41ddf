"""Writing settings: only the numbers change, in one step, and only if the whole holds."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from core.errors import SettingsError
from stream.settings import load_settings
from stream.settings_writer import changed_text, write_values

DOCUMENTED = Path(__file__).parents[2] / "neardup.toml"

VALUES = {
    "signals.photos.terms": {"groups": 64, "bits_per_group": 16},
    "signals.photos.density": {"images": 1_000_000, "unrelated_postings": 2.5e-05, "copy_postings": 300.0},
}


def test_the_documented_file_keeps_everything_else(tmp_path: Path) -> None:
    file = tmp_path / "neardup.toml"
    old = DOCUMENTED.read_text(encoding="utf-8")
    file.write_text(old, encoding="utf-8")
    write_values(file, VALUES)
    new = file.read_text(encoding="utf-8")
    signal = load_settings(file).signals["photos"]
    assert (signal.terms.groups, signal.terms.bits_per_group, signal.terms.candidates) == (64, 16, 20)
    assert (signal.density.images, signal.density.unrelated_postings) == (1_000_000, 2.5e-05)
    changed = [(a, b) for a, b in zip(old.splitlines(), new.splitlines(), strict=True) if a != b]
    assert len(changed) == 5
    assert all(a.partition("#")[2] == b.partition("#")[2] for a, b in changed)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[signals.photos.terms]\n",
        "[signals.photos.terms]\ngroups = 128 # many\n\n[kafka]\nport = 9\n",
        "[kafka]\nport = 9\n[ signals.photos.terms ] # here\n  bits_per_group=12\n",
        "[signals.photos.density]\nimages = 5\n",
    ],
)
def test_keys_and_tables_are_added_where_they_lack(text: str) -> None:
    before, after = tomllib.loads(text), tomllib.loads(changed_text(text, VALUES))
    assert after["signals"]["photos"]["terms"] == VALUES["signals.photos.terms"]
    assert after["signals"]["photos"]["density"] == VALUES["signals.photos.density"]
    assert after.get("kafka") == before.get("kafka")


def test_a_comment_stays() -> None:
    assert "groups = 64  # many" in changed_text("[signals.photos.terms]\ngroups = 128 # many\n", VALUES)


def test_what_would_not_hold_leaves_the_file(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text("[kafka]\nport = 1234\n")
    with pytest.raises(SettingsError, match="groups"):
        write_values(file, {"signals.photos.terms": {"groups": 0}})
    assert file.read_text() == "[kafka]\nport = 1234\n"
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        write_values(tmp_path / "nowhere.toml", VALUES)
