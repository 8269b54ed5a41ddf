"""The committed Python modules are those of the .proto files beside them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.stack import ROOT


def test_generated_modules_are_in_step(tmp_path: Path) -> None:
    subprocess.run([ROOT / "deploy" / "protos.sh", tmp_path], check=True, capture_output=True)
    made = {file.relative_to(tmp_path): file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    assert len(made) > 10
    assert {name: (ROOT / name).read_text() for name in made} == made
    kept = {path for path in ROOT.rglob("*_pb2*") if path.suffix in {".py", ".pyi"} and ".venv" not in path.parts}
    assert {path.relative_to(ROOT) for path in kept} == set(made)
