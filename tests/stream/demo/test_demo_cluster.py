"""The demo as a user runs it: every real part, the sample, the report, and nothing left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream.cli.exits import Exit
from stream.local.processes import marked_processes
from stream.local.resolved import resolved_toml
from tests.support.stack import stack_settings

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[3]


def test_the_demo(tmp_path: Path) -> None:
    settings = stack_settings(tmp_path / "var")
    # The sample is looked for beside the settings file, as in a checkout.
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "neardup.toml").write_text(resolved_toml(settings), encoding="utf-8")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NEARDUP_")}
    done = subprocess.run(
        [Path(sys.executable).parent / "neardup", "demo", "--rate", "300", "--json"],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == Exit.OK, done.stderr
    report = json.loads(done.stdout)
    assert report["images"] == 2_145
    assert report["law"]["sound"] is True
    assert report["law"]["images"] == 2_145
    assert report["law"]["clusters"] == report["clusters"]
    assert report["dead_letters"] == 0
    assert report["explained"]["cause"] == "matched"
    assert report["replay"]["images"] == sum(report["replay"]["counts"].values()) == 10
    assert report["latency"]["count"] == 2_145
    assert report["quality"]["bcubed"]["precision"] > 0.9
    assert report["quality"]["bcubed"]["f1"] > 0.5
    assert report["largest"][0]["count"] > 5
    assert Path(report["picture"]).read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "var" / "demo" / "report.json").read_text()) == report
    assert marked_processes(tmp_path / "var" / "demo") == []
