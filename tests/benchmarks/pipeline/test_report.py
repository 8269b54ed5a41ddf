"""What `make bench-pipeline` plans, and what it reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.pipeline.bare import Spent
from benchmarks.pipeline.report import draw, print_tables, summary
from benchmarks.pipeline.runs import Plan, service_stretches

PLAN = Plan(images=1_000, saturated=200, peer_images=50, seconds=10.0, rates=(100.0, 200.0), seed=1)
BARE = {"images_per_s": 800.0, "cpu_ms_per_image": 1.25, "step_ms": {"search": 0.5, "score": 0.5, "assign": 0.25}}


def _stretch(name: str, per_s: float, p99_ms: int = 400) -> dict[str, Any]:
    return {
        "name": name,
        "images": 200,
        "per_s": per_s,
        "p50_ms": 60,
        "p99_ms": p99_ms,
        "p999_ms": 777,
        "max_ms": 900,
        "part_ms": {"taskmanager": 2.0, "photos-search": 0.75},
        "generator_ms": 0.6,
        "hop_bytes": {"search answers": 64_000.0},
    }


SERVICE = [
    _stretch("fill", 90.0),
    _stretch("saturated", 600.0),
    _stretch("100/s", 100.0),
    _stretch("200/s", 200.0, 250),
]
PEERS = [
    {"name": "plain", "stretches": [_stretch("saturated", 150.0)]},
    {"name": "batching", "stretches": [_stretch("saturated", 310.0)]},
]
RESULT = {
    "plan": {"images": 1_000},
    "bare": BARE,
    "service": SERVICE,
    "peers": PEERS,
    "skipped": ["Quix: not measured"],
}


def test_the_file_has_images_for_everything() -> None:
    assert PLAN.most == 1_000 + 200 + 10 * (100 + 200 + 400)
    assert sum(one.images for one in service_stretches(PLAN, PLAN.compared(10_000.0))) <= PLAN.most


def test_the_service_is_sent_the_compared_rate_last() -> None:
    assert [(one.name, one.images, one.rate) for one in service_stretches(PLAN, PLAN.compared(151.0))] == [
        ("fill", 1_000, None),
        ("saturated", 200, None),
        ("100/s", 1_000, 100.0),
        ("200/s", 2_000, 200.0),
        ("75.5/s", 755, 75.5),
    ]
    assert len(service_stretches(PLAN, None)) == 4


def test_the_frame_is_what_the_service_costs_beyond_the_bare_loop() -> None:
    assert summary(BARE, SERVICE, PEERS) == {
        "service_images_per_s": 600.0,
        "bare_images_per_s": 800.0,
        "service_over_bare": 0.75,
        "cpu_ms_per_image": 2.75,
        "frame_ms_per_image": 1.5,
        "p50_ms_at_200": 60,
        "p99_ms_at_200": 250,
        "best_peer_images_per_s": 310.0,
    }


def test_runs_that_were_left_out_have_no_figures() -> None:
    found = summary(BARE, [], [])
    assert found["bare_images_per_s"] == 800.0
    assert {name for name, value in found.items() if value is None} == set(found) - {"bare_images_per_s"}


def test_the_tables_show_every_run(capsys: pytest.CaptureFixture[str]) -> None:
    print_tables(RESULT)
    shown = capsys.readouterr().out
    for cell in (
        "| plain | saturated | 150 |",
        "| batching | saturated | 310 |",
        "| service | 200/s | 200 | 60 | 250 | 777 |",
    ):
        assert cell in shown
    for cell in (
        "frame_ms_per_image | 1.5",
        "| search answers | 64,000 |",
        "| taskmanager | 2 |",
        "Quix: not measured",
    ):
        assert cell in shown


def test_the_tables_do_without_a_service(capsys: pytest.CaptureFixture[str]) -> None:
    print_tables({**RESULT, "service": [], "peers": []})
    assert "| service_images_per_s | - |" in capsys.readouterr().out


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    draw(RESULT, tmp_path / "new" / "pipeline.png")
    assert (tmp_path / "new" / "pipeline.png").read_bytes().startswith(b"\x89PNG")


def test_the_bare_loop_counts_every_step() -> None:
    spent = Spent()
    for step in ("search", "score", "search"):
        with spent.on(step):
            sum(range(200_000))
    found = spent.summary(2)
    assert set(found["step_ms"]) == {"search", "score"}
    assert found["cpu_ms_per_image"] == pytest.approx(sum(found["step_ms"].values()))
    assert found["images_per_s"] == pytest.approx(2 / sum(spent.wall_s.values()), rel=0.01)
