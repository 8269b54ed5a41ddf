"""What a result says of the machine, the command and the commit that it was measured with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machine import command_line, machine, measured_with, revision, write_results


def test_the_machine_is_described_in_plain_values() -> None:
    described = json.loads(json.dumps(machine().to_dict()))
    assert described["cores"] >= 1
    assert described["memory_gib"] > 0
    assert described["python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_command_can_be_pasted_into_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["soak.py", "--out", "my results/soak.json"])
    assert command_line("benchmarks.soak") == "python -m benchmarks.soak --out 'my results/soak.json'"


def test_results_say_what_they_were_measured_with(tmp_path: Path) -> None:
    write_results(tmp_path / "bench" / "soak.json", {**measured_with("benchmarks.soak"), "p99_ms": 3})
    read = json.loads((tmp_path / "bench" / "soak.json").read_text("utf-8"))
    assert read.keys() == {"measured_at", "revision", "command", "machine", "p99_ms"}
    assert read["machine"] == machine().to_dict()
    assert read["p99_ms"] == 3


def test_a_changed_checkout_has_a_star_and_no_checkout_has_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        options = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")
        subprocess.run(("git", *options, *words), check=True, capture_output=True)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert revision() == ""
    (tmp_path / "file").write_text("one")
    git("init")
    git("add", "file")
    git("commit", "--message", "first")
    clean = revision()
    assert clean
    assert not clean.endswith("*")
    (tmp_path / "file").write_text("two")
    assert revision() == clean + "*"
