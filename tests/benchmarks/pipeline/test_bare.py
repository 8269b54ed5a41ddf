"""The bare loop over real servers in its own process, on a few synthetic images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.pipeline.corpus import make_images, originals_of
from stream.settings import load_settings

IMAGES = 256


def test_the_loop_finds_the_copies(tmp_path: Path) -> None:
    settings = load_settings()
    file, out = tmp_path / "images.parquet", tmp_path / "bare.json"
    make_images(settings, file, IMAGES, seed=3)
    command = [sys.executable, "-m", "benchmarks.pipeline.bare", "--images", str(file), "--fill", "128"]
    command += ["--measured", "128", "--data", str(tmp_path / "data"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert set(found["step_ms"]) == {"search", "score", "assign"}
    assert found["recall_of_copies"] > 0.9
    originals = len(set(originals_of(file).tolist()))
    assert originals <= found["clusters"] < IMAGES / 2
