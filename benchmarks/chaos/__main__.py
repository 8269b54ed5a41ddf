"""The long fault test: `make chaos`. Faults of every kind hit every part, at seeded random moments, under load.

Images flow all the while, with a wave of one picture and ever new versions of one image among them. People replay and
delete some of them, also the same images at the same time, and say which belong together and which do not. Clients
hold idle connections and stalled reads. After each round it checks that nothing is lost and nothing depends on the
faults:

    every image that was acknowledged has a head or was deleted, every request was applied, heads and members agree in
    the whole store, the published changes lead to the heads in the store, index and storage agree on each place, each
    image that could not be scored has a dead letter and no search finds it, images that asked for a trace have one;
    no two images share a cluster that somebody has forbidden to do so; heads, members, places, deletes, verdicts,
    requests and changes equal those of a second service, without faults, on the same order of `joined`, in which the
    same images are unscored and the same overrides come at the same positions

    python -m benchmarks.chaos                                what `make chaos` runs
    python -m benchmarks.chaos --faults 30 --seed 7           a shorter one, other moments
    python -m benchmarks.chaos --faults 10 --only power       one kind alone
    python -m benchmarks.chaos --replay 2000                  one replay of so many images, and deletes, while every
                                                              part is killed
    python -m benchmarks.chaos --manifests                    a first load and deltas from a watched folder, while the
                                                              parts that they need are killed ten times each
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.chaos.faults import CALM_FAULTS, FAULTS
from benchmarks.chaos.loading import PACED, begins_with, load_under_kills, old_images
from benchmarks.chaos.loads import idle_connections, stalled_readers
from benchmarks.chaos.replaying import replay_under_kills
from benchmarks.chaos.requests import Asking, Requests
from benchmarks.chaos.storm import compared, rage, rounds
from benchmarks.chaos.traced import TracedImages, asks_for_trace
from benchmarks.chaos.world import World
from benchmarks.machine import measured_with, write_results
from tests.support.calm import Began, Held, calm_service
from tests.support.faulty_model import SWITCH_VARIABLE
from tests.support.flow import Flow, ordinary_and_abuse
from tests.support.power_cut import DurableFiles
from tests.support.stack import PHOTOS, running, sample_rows, stack_settings

_RESULT = Path("var/bench/chaos.json")
_REPLAY_RESULT = Path("var/bench/chaos_replay.json")
_MANIFESTS_RESULT = Path("var/bench/chaos_manifests.json")
_FOLDER = Path("var/chaos").absolute()


def main() -> int:
    """Injects the faults, checks, writes the figures; returns 0 when all checks passed."""
    arguments = _arguments()
    shutil.rmtree(_FOLDER, ignore_errors=True)
    chance = random.Random(arguments.seed)
    switch = _FOLDER / "scorer-fails"
    os.environ[SWITCH_VARIABLE] = str(switch)
    photos = {**PHOTOS, "model_class": "tests.support.faulty_model:FaultyModel"}
    old, began = None, Began()
    if arguments.manifests is not None:
        photos |= {**PACED, "manifests": str(_FOLDER / "watched")}
        old = old_images(random.Random(arguments.seed + 5))
    settings = stack_settings(_FOLDER / "stack", {"photos": photos})
    if old is not None:
        began = begins_with(old, settings, _FOLDER / "calm-manifests")
    durable = DurableFiles(settings.data_dir, _FOLDER / "recorder")
    started = time.monotonic()
    with ExitStack() as context:
        calm = context.enter_context(calm_service(_FOLDER / "calm", began=began))
        context.enter_context(durable.recorded())
        stack = context.enter_context(running(settings))
        durable.keep_all()
        flow = Flow(stack, ordinary_and_abuse(sample_rows(), arguments.seed), arguments.rate, asks_for_trace)
        requests = Requests(stack, flow, random.Random(arguments.seed + 1))
        asking = _asking(requests, arguments.seed) if arguments.replay is None and old is None else ()
        world = World(stack, flow, durable, chance, switch, requests, asking, calm, TracedImages(flow))
        if arguments.replay is not None:
            figures = replay_under_kills(world, arguments.replay, _tell)
            held = compared(world)
        elif old is not None:
            figures = load_under_kills(world, old, arguments.manifests, _tell)
            held = compared(world)
        else:
            figures, held = _rage(world, arguments, context)
    result = {
        **measured_with("benchmarks.chaos"),
        "seed": arguments.seed,
        "seconds": round(time.monotonic() - started, 1),
        **asdict(held),
        **figures,
        "held": True,
    }
    write_results(_result(arguments), result)
    faults = sum(figures["by_kind"].values())
    print(
        f"\n{faults} faults, {held.images} images, {held.deleted} deleted, {held.replays} replays in the order, "
        f"{held.overrides} overrides, {held.rollbacks} of them rollbacks:"
    )
    print("nothing is lost, and all equals the calm run")
    for name, times in sorted(figures["by_kind"].items()):
        print(f"  {times:4} {name}")
    return 0


def _result(arguments: argparse.Namespace) -> Path:
    if arguments.manifests is not None:
        return _MANIFESTS_RESULT
    return _RESULT if arguments.replay is None else _REPLAY_RESULT


def _rage(world: World, arguments: argparse.Namespace, context: ExitStack) -> tuple[dict[str, Any], Held]:
    plan = list(rounds(arguments.faults, arguments.per_round, world.chance, arguments.only))
    context.enter_context(idle_connections(world.stack.settings))
    context.enter_context(stalled_readers(world.stack))
    for each in (world.flow, *world.asking):
        each.start()
    struck, held = rage(world, plan, _tell)
    for each in (*world.asking, world.flow):
        each.stop()
    requests = sum(each.made for each in world.asking)
    return {"faults": sum(struck.values()), "requests": requests, "by_kind": dict(sorted(struck.items()))}, held


def _asking(requests: Requests, seed: int) -> tuple[Asking, ...]:
    replays = {
        requests.replay_some: 3.0,
        partial(requests.replay_unseen, 15): 6.0,
        requests.replay_dead: 1.0,
        requests.try_some: 0.5,
        requests.admit_again: 2.0,
    }
    deletes = {
        requests.delete_some: 2.0,
        requests.delete_and_come_back: 2.0,
        requests.delete_and_replay: 4.0,
    }
    return (
        Asking("replays", replays, random.Random(seed + 2)),
        Asking("deletes", deletes, random.Random(seed + 3)),
        Asking("overrides", {requests.override_some: 1.0}, random.Random(seed + 4)),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=300, help="how many faults (default: 300)")
    parser.add_argument("--per-round", type=int, default=15, help="faults before all must be back (default: 15)")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--replay", type=int, metavar="IMAGES", help="kill every part while one replay of so many images runs"
    )
    modes.add_argument(
        "--manifests",
        type=int,
        nargs="?",
        const=10,
        metavar="KILLS",
        help="kill each part that a load needs so often (10) while a snapshot and deltas are loaded",
    )
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
