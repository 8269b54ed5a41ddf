"""A settings file of an earlier release is refused with the new name of each renamed key."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import SettingsError
from stream.renamed_settings import RENAMED, renamed
from stream.settings import load_settings

ROOT = Path(__file__).parents[2]

VALUES = {"strikes": "5", "hold_ms": "20", "root": "true", "people_per_s": "5000"}
"""A value of each old key, as an old file has it."""

SECTIONS = {
    "batching": "batching",
    "terms": "signals.photos.terms",
    "admission": "signals.photos.search.admission",
}
"""Where a section stands in the file."""


@pytest.mark.parametrize(("section", "old"), RENAMED)
def test_an_old_key_is_refused_with_its_new_name(section: str, old: str, tmp_path: Path) -> None:
    new = RENAMED[section, old]
    text = (ROOT / "neardup.toml").read_text(encoding="utf-8")
    file = tmp_path / "neardup.toml"
    lines = [f"{old} = {VALUES[old]}" if line.startswith(f"{new} ") else line for line in text.splitlines()]
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        load_settings(file)
    [line] = str(refused.value).splitlines()[1:]
    assert line.strip() == f"{SECTIONS[section]}.{old}: {old} is now {new}"


def test_every_new_name_is_a_setting() -> None:
    settings = load_settings(ROOT / "neardup.toml")
    signal = settings.signals["photos"]
    sections = {"batching": settings.batching, "terms": signal.terms, "admission": signal.search.admission}
    for (section, _), new in RENAMED.items():
        assert hasattr(sections[section], new)


@pytest.mark.parametrize("path", [(), ("strikes",), ("join", "strikes"), ("signals", "photos", "terms", "roots")])
def test_any_other_key_has_no_new_name(path: tuple[str, ...]) -> None:
    assert renamed(path) is None
