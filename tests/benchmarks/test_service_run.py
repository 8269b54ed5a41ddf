"""What the main program of a benchmark does with its result, and with what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.service_run import carried_out
from core.errors import UnavailableError


def test_a_result_is_written_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, shown = tmp_path / "bench" / "it.json", []
    assert carried_out(lambda: {"per_s": 5}, out, shown.append) == 0
    assert json.loads(out.read_text())["per_s"] == 5
    assert shown == [{"per_s": 5}]
    assert f"written to {out}" in capsys.readouterr().err
    assert carried_out(lambda: {"per_s": 6}, out, lambda _: 5) == 5


def test_an_error_and_an_interruption_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> dict[str, Any]:
        raise UnavailableError("the broker is down")

    def interrupted() -> dict[str, Any]:
        raise KeyboardInterrupt

    out = tmp_path / "it.json"
    assert carried_out(fails, out, lambda _: None) == 1
    assert "failed: the broker is down" in capsys.readouterr().err
    assert carried_out(interrupted, out, lambda _: None) == 130
    assert not out.exists()
