"""The whole service beside its own work in one process, and beside what users write instead: `make bench-pipeline`.

One run on one machine, in this order: the bare loop on one core, the alternatives one after the other, the service.
Every run begins with the same images in its index. All of them but the bare loop read the two embedding topics and
publish changes, on two cores that they share with the broker and the load generator.

    python -m benchmarks.pipeline                                           what `make bench-pipeline` runs
    python -m benchmarks.pipeline --images 3000 --saturated 2000 --peer-images 500 --seconds 10       a short one
    python -m benchmarks.pipeline --only bare,service                       without the alternatives

It writes `var/bench/pipeline.json` and draws `var/bench/pipeline.png`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.machine import measured_with
from benchmarks.pipeline.corpus import make_images
from benchmarks.pipeline.neighbours import has_faiss
from benchmarks.pipeline.plain import has_quix
from benchmarks.pipeline.report import draw, print_tables, summary
from benchmarks.pipeline.runs import PEERS, Plan, run_bare, run_peer, run_service, service_stretches
from benchmarks.service_run import carried_out, say
from stream.data_folders import wipe, with_data
from stream.settings import Settings, load_settings

RUNS = ("bare", "peers", "service")
"""The kinds of runs, in their order."""


def measure(settings: Settings, plan: Plan, only: Sequence[str]) -> dict[str, Any]:
    """All runs that were asked for; the bare loop always, for the others rest on it."""
    wipe(settings.data_dir)
    say(f"making {plan.most:,} images")
    images = make_images(settings, settings.data_dir / "images.parquet", plan.most, plan.seed)
    bare = run_bare(settings, images, plan)
    say(f"bare loop: {bare['images_per_s']:,.0f}/s, {bare['cpu_ms_per_image']:.2f} ms of processor time an image")
    peers: list[dict[str, Any]] = []
    skipped: list[str] = []
    compared = None
    for peer in PEERS if "peers" in only else ():
        missing = _missing(peer.options)
        if missing:
            skipped.append(f"{peer.name}: not measured, {missing} is not installed")
            say(skipped[-1])
            continue
        say(peer.name)
        found, chosen = run_peer(settings, images, plan, peer, bare["recall_of_copies"], compared)
        compared = compared or plan.compared(found[0].per_s)
        peers.append({"name": peer.name, "chosen": chosen, "stretches": [asdict(one) for one in found]})
    service = run_service(settings, images, service_stretches(plan, compared)) if "service" in only else []
    result = {
        "plan": asdict(plan),
        "bare": bare,
        "peers": peers,
        "service": [asdict(one) for one in service],
        "skipped": skipped,
    }
    return {**measured_with("benchmarks.pipeline"), **summary(bare, result["service"], peers), **result}


def _missing(options: Sequence[str]) -> str:
    """The package that an alternative needs and that is not installed."""
    if not has_faiss():
        return "faiss"
    return "quixstreams" if "--quix" in options and not has_quix() else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 0 when every image got its verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000, help="in the index when the measurement begins")
    parser.add_argument("--saturated", type=int, default=20_000, help="images of the measurement at full speed")
    parser.add_argument("--peer-images", type=int, default=5_000, help="the same for each alternative")
    parser.add_argument("--seconds", type=float, default=120.0, help="of each rate")
    parser.add_argument("--rates", type=float, nargs="+", default=[100.0, 200.0], help="images a second")
    parser.add_argument("--seed", type=int, default=1, help="of the synthetic images")
    parser.add_argument("--only", default=",".join(RUNS), help=f"runs, of {', '.join(RUNS)}; bare always runs")
    parser.add_argument("--data", type=Path, help="data folder; default: `pipeline` below that of the settings")
    parser.add_argument("--out", type=Path, help="file of the result; default: bench/pipeline.json below that folder")
    arguments = parser.parse_args(argv)
    only = arguments.only.split(",")
    if unknown := set(only) - set(RUNS):
        parser.error(f"unknown runs: {', '.join(sorted(unknown))}")
    plan = Plan(
        images=arguments.images,
        saturated=arguments.saturated,
        peer_images=arguments.peer_images,
        seconds=arguments.seconds,
        rates=tuple(arguments.rates),
        seed=arguments.seed,
    )
    settings = load_settings()
    own = with_data(settings, arguments.data or settings.data_dir / "pipeline")
    out = arguments.out or settings.data_dir / "bench" / "pipeline.json"

    def show(result: dict[str, Any]) -> None:
        print_tables(result)
        draw(result, out.with_suffix(".png"))
        say(f"a picture of it is in {out.with_suffix('.png')}")

    return carried_out(lambda: measure(own, plan, only), out, show)


if __name__ == "__main__":
    sys.exit(main())
