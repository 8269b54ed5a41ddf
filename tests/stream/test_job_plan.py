"""A plan survives its way to the submitting process."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.job_plan import JobPlan


@pytest.mark.parametrize("snapshot", [None, Path("/somewhere/chk-3")])
def test_round_trip(snapshot: Path | None) -> None:
    starts = {"search": {0: 5, 1: 9}, "score": {0: 0}}
    plan = JobPlan(
        "photos", "topic-id", 10, 17, starts, "replay-id", {0: 4, 1: 6}, "r1", snapshot, Path("/checkpoints")
    )
    assert JobPlan.from_json(plan.to_json()) == plan
