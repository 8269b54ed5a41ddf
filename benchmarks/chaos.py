"""The long fault test: `make chaos`. Kills every part ten times, at seeded random moments, while images flow.

Afterwards it checks four things. Every published image has a head. Heads and members agree in the whole store. The
published changes lead to the heads in the store. The heads equal those of a run without kills on the same `joined`.

    python -m benchmarks.chaos                          what `make chaos` runs
    python -m benchmarks.chaos --rounds 2 --seed 7      a shorter one, other moments
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

from benchmarks.machine import command_line, machine, revision
from tests.support.faults import Kill, check_calm, kill_while_flowing
from tests.support.stack import running, sample_rows, stack_settings

_RESULT = Path("var/bench/chaos.json")
_FOLDER = Path("var/chaos").absolute()


def main() -> int:
    """Kills, checks and writes the figures; returns 0 when all checks passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="kills of each part (default: 10)")
    parser.add_argument("--rate", type=float, default=25.0, help="images per second (default: 25)")
    parser.add_argument("--seed", type=int, default=20261121, help="seed of the order and moments of the kills")
    arguments = parser.parse_args()
    shutil.rmtree(_FOLDER, ignore_errors=True)
    rows = sample_rows(100_000)
    random.Random(arguments.seed).shuffle(rows)
    started = time.monotonic()
    with running(stack_settings(_FOLDER / "stack")) as stack:
        kills = kill_while_flowing(stack, rows, arguments.rate, arguments.rounds, arguments.seed, _tell)
        images = check_calm(stack, _FOLDER / "calm")
    back = back_s(kills)
    result = {
        "command": command_line("benchmarks.chaos"),
        "revision": revision(),
        "machine": machine().to_dict(),
        "seconds": round(time.monotonic() - started, 1),
        "images": images,
        "kills": len(kills),
        "back_s": back,
        "held": True,
    }
    _RESULT.parent.mkdir(parents=True, exist_ok=True)
    _RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\n{len(kills)} kills, {images} images: all have a head, law 2 holds, heads equal those of a calm run")
    for part, (middle, worst) in back.items():
        print(f"  {part:16} ready again after {middle:5.1f} s (median), {worst:5.1f} s (longest)")
    return 0


def _tell(kill: Kill) -> None:
    print(f"killed {kill.part:16} ready again after {kill.back_s:5.1f} s", flush=True)


def back_s(kills: list[Kill]) -> dict[str, tuple[float, float]]:
    """For each part, the median and the longest time in seconds from a kill until it was ready again."""
    times: dict[str, list[float]] = defaultdict(list)
    for kill in kills:
        times[kill.part].append(kill.back_s)
    return {part: (round(median(all_s), 1), round(max(all_s), 1)) for part, all_s in sorted(times.items())}


if __name__ == "__main__":
    sys.exit(main())
