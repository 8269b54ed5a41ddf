"""The script that draws a cluster from the records of `assignments`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "contact_sheet.py"
HEAD = "clothing-18e573be5a"


def record(image_id: str, head: str, **rest: Any) -> str:
    return json.dumps({"image_id": image_id, "head": head, "cause": "founded", "score": None, "matched": None, **rest})


def run(records: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, cwd=ROOT, input="\n".join(records), capture_output=True, text=True, check=False)


def test_a_later_record_replaces_an_earlier_one(tmp_path: Path) -> None:
    edit = f"{HEAD}-1-crop"
    sheet = tmp_path / "sheet.svg"
    records = [record(HEAD, HEAD), record(edit, edit), record("other", "other")]
    records.append(record(edit, HEAD, cause="adopted", score=0.875, matched=HEAD))
    done = run(records, HEAD, str(sheet))
    assert done.returncode == 0, done.stderr
    drawn = sheet.read_text(encoding="utf-8")
    assert drawn.count("<image") == 2
    assert "0.8750" in drawn
    assert "other" not in drawn


def test_the_committed_sheet_is_small_enough_for_a_readme() -> None:
    sheet = ROOT / "docs" / "images" / "cluster.jpg"
    assert sheet.stat().st_size < 300_000
    assert plt.imread(sheet).shape[1] == 1200


def test_an_unknown_head_is_named(tmp_path: Path) -> None:
    done = run([record(HEAD, HEAD)], "nobody", str(tmp_path / "sheet.png"))
    assert done.returncode == 1
    assert "nobody" in done.stderr
