"""The long fault test: `make chaos`. Faults of every kind hit every part, at seeded random moments, under load.

Images flow all the while, with a wave of one picture and ever new versions of one image among them. Clients hold idle
connections and stalled reads. Afterwards it checks that nothing is lost and nothing depends on the faults:

    every image that was acknowledged has a head, heads and members agree in the whole store, the published changes lead
    to the heads in the store, each image that could not be scored has a dead letter and no search finds it, the heads
    equal those of a run without faults on the same order of `joined`, in which the same images are unscored

    python -m benchmarks.chaos                                what `make chaos` runs
    python -m benchmarks.chaos --faults 30 --seed 7           a shorter one, other moments
    python -m benchmarks.chaos --faults 10 --only power       one kind alone
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.chaos.faults import CALM_FAULTS, FAULTS
from benchmarks.chaos.loads import idle_connections, stalled_readers
from benchmarks.chaos.storm import rage, rounds
from benchmarks.chaos.world import World
from benchmarks.machine import measured_with, write_results
from tests.support.faults import check_calm
from tests.support.faulty_model import SWITCH_VARIABLE
from tests.support.flow import Flow, ordinary_and_abuse
from tests.support.power_cut import DurableFiles
from tests.support.stack import PHOTOS, running, sample_rows, stack_settings

_RESULT = Path("var/bench/chaos.json")
_FOLDER = Path("var/chaos").absolute()


def main() -> int:
    """Injects the faults, checks, writes the figures; returns 0 when all checks passed."""
    arguments = _arguments()
    shutil.rmtree(_FOLDER, ignore_errors=True)
    chance = random.Random(arguments.seed)
    switch = _FOLDER / "scorer-fails"
    os.environ[SWITCH_VARIABLE] = str(switch)
    signals = {"photos": {**PHOTOS, "model_class": "tests.support.faulty_model:FaultyModel"}}
    settings = stack_settings(_FOLDER / "stack", signals)
    durable = DurableFiles(settings.data_dir, _FOLDER / "recorder")
    plan = list(rounds(arguments.faults, arguments.per_round, chance, arguments.only))
    started = time.monotonic()
    with ExitStack() as context:
        context.enter_context(durable.recorded())
        stack = context.enter_context(running(settings))
        durable.keep_all()
        flow = Flow(stack, ordinary_and_abuse(sample_rows(100_000), arguments.seed), arguments.rate)
        world = World(stack, flow, durable, chance, switch)
        context.enter_context(idle_connections(settings))
        context.enter_context(stalled_readers(stack))
        flow.start()
        struck = rage(world, plan, _tell)
        flow.stop()
        held = check_calm(stack, _FOLDER / "calm", world.logs, flow.ids, world.seen)
    result = {
        **measured_with("benchmarks.chaos"),
        "seed": arguments.seed,
        "seconds": round(time.monotonic() - started, 1),
        "images": held.images,
        "unscored": held.unscored,
        "faults": sum(struck.values()),
        "by_kind": dict(sorted(struck.items())),
        "held": True,
    }
    write_results(_RESULT, result)
    print(f"\n{result['faults']} faults, {held.images} images: nothing is lost, heads equal those of a calm run")
    for name, times in sorted(struck.items()):
        print(f"  {times:4} {name}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=300, help="how many faults (default: 300)")
    parser.add_argument("--per-round", type=int, default=15, help="faults before all must be back (default: 15)")
    parser.add_argument("--rate", type=float, default=10.0, help="images per second (default: 10)")
    parser.add_argument("--seed", type=int, default=20261121, help="seed of the order and moments of the faults")
    parser.add_argument(
        "--only", action="append", choices=[*FAULTS, *CALM_FAULTS], help="only this kind of fault; may be repeated"
    )
    return parser.parse_args()


def _tell(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
