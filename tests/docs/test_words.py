"""Words that were replaced do not come back. The glossary has the ones in use."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

OLD_WORDS = (
    "Storehouse",
    "turned_away",
    "swallowed",
    "lone head",
    "boot id",
    "boot_id",
    "strikes",
    "hold_ms",
    "IndexHome",
    "SearchGate",
    "SearchIntake",
    "SearchUpkeep",
    "VerdictMetrics",
    "towers",
    "--teachers",
)

EXEMPT = (
    "CHANGELOG.md",
    "examples/photos/model/",
    "stream/renamed_settings.py",
    "tests/docs/test_words.py",
    "tests/fixtures/",
    "tests/stream/test_renamed_settings.py",
)
"""History, models (a version never changes), the settings that users are told the new names of, this list,
and saved data of earlier releases."""


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Every tracked text file that is not exempt, in lower case."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name and not name.startswith(EXEMPT)]
    contents = {path: path.read_bytes() for path in paths if path.is_file()}
    return {
        path.relative_to(ROOT).as_posix(): content.decode("utf-8", errors="replace").lower()
        for path, content in contents.items()
        if b"\0" not in content
    }


def test_the_files_are_read(texts: dict[str, str]) -> None:
    assert len(texts) > 400
    assert "glossary" in texts["docs/glossary.md"]


@pytest.mark.parametrize("word", OLD_WORDS)
def test_an_old_word_is_gone(word: str, texts: dict[str, str]) -> None:
    assert [path for path, text in texts.items() if word.lower() in text] == []
