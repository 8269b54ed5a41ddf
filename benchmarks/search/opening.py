"""Start-up of a process on an index that was just built (so its files are in the page cache), and the rate of bulk
building."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.search.bench import FEW_LONG, MANY_SHORT, Bench
from benchmarks.search.corpus import Shape
from benchmarks.search.engine import build
from benchmarks.search.results import table

__all__ = ["measure"]

_PROBE = """
import sys, time
from pathlib import Path
from benchmarks.search.corpus import Shape
from benchmarks.search.engine import index_settings
from search.index.opening import open_term_index
shape = Shape(int(sys.argv[2]), int(sys.argv[3]))
started = time.perf_counter()
index = open_term_index(Path(sys.argv[1]) / "index", index_settings(shape))
opened = time.perf_counter() - started
index.rank(index.terms_and_codes(["i-000000000"])[0][0][None], 100)
print(opened, time.perf_counter() - started, index.images)
index.close()
"""


def measure(bench: Bench) -> dict[str, Any]:
    """Both shapes of the ordinary corpus."""
    rows = [_shape(bench, shape) for shape in (FEW_LONG, MANY_SHORT)]
    table(
        f"Start-up and bulk build, {bench.images:,} images",
        ["", "open, s", "and first answer, s", "built in, s", "images/s"],
        [[row["shape"], row["open_s"], row["first_answer_s"], row["build_s"], row["build_rate"]] for row in rows],
    )
    return {"images": bench.images, "rows": rows}


def _shape(bench: Bench, shape: Shape) -> dict[str, Any]:
    bench.terms(shape)  # the compiled loops of the corpus are loaded before the clock runs
    fresh = bench.folder / "fresh"
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        seconds = build(fresh, bench.corpus, shape)
        opened, answered = _probe(fresh, shape)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return {
        "shape": shape.name,
        "open_s": round(opened, 3),
        "first_answer_s": round(answered, 3),
        "build_s": round(seconds, 2),
        "build_rate": round(bench.images / seconds),
    }


def _probe(folder: Path, shape: Shape) -> tuple[float, float]:
    command = [sys.executable, "-c", _PROBE, str(folder), str(shape.groups), str(shape.bits_per_group)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(said[0]), float(said[1])
