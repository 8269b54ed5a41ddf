"""Measures the term index: `make bench-search`.

    python -m benchmarks.search                                  everything: about an hour on two cores
    python -m benchmarks.search --only peers,space               some parts; the others keep what was measured before
    python -m benchmarks.search --images 50000 --quick           a short look

Results go into `var/bench/search.json`; indexes of ours and of the peers stay in `var/bench/search` for the next run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.search import (
    choices,
    costs,
    exact_peers,
    giant,
    growth,
    hot_id,
    insertion,
    neighbours,
    opening,
    photos,
    serving,
    space,
    wave,
)
from benchmarks.search.bench import Bench
from benchmarks.search.results import Results

PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "peers": exact_peers.measure,
    "faiss": neighbours.measure,
    "hnsw": neighbours.measure_graph,
    "photos": photos.measure,
    "server": serving.measure,
    "insertion": insertion.measure,
    "space": space.measure,
    "opening": opening.measure,
    "growth": growth.measure,
    "giant": giant.measure,
    "hot-id": hot_id.measure,
    "wave": wave.measure,
    "costs": costs.measure,
    "choices": choices.measure,
}
"""By name, in the order in which they run."""


def main() -> int:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--images", type=int, default=1_000_000, help="of the ordinary corpus (default: 1,000,000)")
    parser.add_argument("--seed", type=int, default=1, help="of the corpus")
    parser.add_argument("--photos", type=Path, default=Path("examples/photos"), help="a folder of labelled embeddings")
    parser.add_argument("--out", type=Path, default=Path("var/bench/search.json"))
    parser.add_argument("--folder", type=Path, default=Path("var/bench/search"), help="where indexes are kept")
    parser.add_argument("--quick", action="store_true", help="measure a tenth of the time")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    unknown = set(chosen) - set(PARTS)
    if unknown:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    bench = Bench(arguments.folder, arguments.images, arguments.seed, arguments.photos, arguments.quick)
    results = Results(arguments.out)
    for name in chosen:
        started = time.monotonic()
        print(f"{name} ...", file=sys.stderr, flush=True)
        results.add(name, PARTS[name](bench))
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(f"ratio to the best exact peer: {results.ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
