"""The gate of `make coverage`: branches are added up by folder, and a share below the goal fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.branch_coverage import by_folder, main


def file(taken: int, of: int) -> dict[str, dict[str, int]]:
    return {"summary": {"covered_branches": taken, "num_branches": of}}


REPORT = {"files": {"core/a.py": file(3, 4), "core/b/c.py": file(6, 6), "neardup/d.py": file(0, 0)}}


def test_branches_are_added_up_by_folder() -> None:
    assert by_folder(REPORT) == {"core": (9, 10), "neardup": (0, 0)}


@pytest.mark.parametrize(("goal", "code"), [(90.0, 0), (90.1, 1)])
def test_a_share_below_the_goal_fails(
    goal: float, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps(REPORT))
    assert main(report, goal) == code
    shown = capsys.readouterr()
    assert "9 of     10" in shown.out
    assert (f"{goal:g} %" in shown.err) is bool(code)
