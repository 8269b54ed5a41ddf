"""The first images of the sample as those of another system: exported, and what must become of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from core.access import Right
from manifests.image_files import ImageRow
from stream.bootstrap.loading import Servers
from stream.cli.main import main
from tests.support.stack import PHOTOS, SAMPLE, Stack

__all__ = ["OLD", "PACED", "Run", "expected_heads", "export", "manifest_ends", "old_id", "rows_done", "runner"]

OLD, ROWS_PER_S = 400, 40.0
"""How many images are loaded, and how fast, so that there is time to kill what loads them."""

PACED: dict[str, Any] = {
    **PHOTOS,
    "index": {"load_rows_per_s": ROWS_PER_S},
    "storage": {"load_rows_per_s": ROWS_PER_S},
}
"""Settings of the sample's signal, whose servers load at that pace."""

Run = Callable[..., tuple[int, str]]
"""Runs a command; gives its exit code, and its output or its complaint."""


def runner(read: Callable[[], Any]) -> Run:
    """Runs commands in this process; `read` gives what was printed since its last call."""

    def run(*words: str) -> tuple[int, str]:
        read()
        code = main(words)
        said = read()
        return code, said.out if code == 0 else said.err

    return run


def export(file: Path, rows: int = OLD, skip: int = 0) -> pa.Table:
    """Writes rows of the sample with the group of each, as another system would; returns them."""
    old = pq.read_table(SAMPLE, columns=["image_id", "group_id", "search", "score"]).slice(skip, rows)
    pq.write_table(old, file)
    return old


def expected_heads(rows: pa.Table, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """The head of each image: that of its group, if it is known, else the first row of it."""
    first = dict(known or {})
    return {
        image: first.setdefault(group, image)
        for image, group in zip(rows["image_id"].to_pylist(), rows["group_id"].to_pylist(), strict=True)
    }


def old_id(row: ImageRow) -> str:
    """Of which old image this is a copy."""
    return row.image_id.removeprefix("again-")


def rows_done(stack: Stack) -> int:
    """How many rows both servers have."""
    with closing(Servers(stack.settings, None, Right.READ)) as both:
        return min(each.rows_done if each else 0 for each in (both.storage.load_status(), both.search.load_status()))


def manifest_ends(stack: Stack) -> dict[str, int]:
    """How many files of the watched folder ended in which way, as the job counts them; none while it is down."""
    try:
        page = httpx.get(f"http://127.0.0.1:{stack.settings.flink.taskmanager_metrics_port}/metrics").text
    except httpx.HTTPError:  # the task manager starts
        return {}
    found: dict[str, int] = {}
    for line in page.splitlines():
        if "_neardup_end_manifests_ended_total{" in line:
            labels, _, count = line.rpartition(" ")
            end = labels.partition('end="')[2].partition('"')[0]
            found[end] = found.get(end, 0) + int(float(count))
    return {end: count for end, count in found.items() if count}
