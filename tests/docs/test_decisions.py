"""Each decision has its own number and title, says what was decided and why, and keeps its place."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "decisions.md").read_text(encoding="utf-8")
RECORDS = re.findall(r"^### (\d+)\. (.+)\n\n((?:(?!##).*\n)+)", TEXT, re.MULTILINE)


def test_numbers_are_complete_and_titles_differ() -> None:
    assert len(RECORDS) == TEXT.count("\n### ") > 70
    assert sorted(int(number) for number, _, _ in RECORDS) == list(range(1, len(RECORDS) + 1))
    assert len({title for _, title, _ in RECORDS}) == len(RECORDS)


def test_each_says_what_and_why() -> None:
    form = re.compile(r"\*\*Decision\.\*\* .+\*\*Reason\.\*\* .+", re.DOTALL)
    assert [title for _, title, text in RECORDS if not form.match(text)] == []


def test_each_is_short() -> None:
    assert [title for _, title, text in RECORDS if len(text.split()) > 160] == []
