"""How fast the scorer is: `make bench-scorer`.

Measured in this process: networks of the shapes that `neardup train` makes (`large` and `compact`) and the served
model, each beside bare matrix products of the same sizes and number types. Measured behind the real server: `compact`,
with clients in their own processes on the same cores. Speed does not depend on the weights, so they are random unless a
trained model is given.

A machine's speed may change from minute to minute. So all measurements take short turns, in several rounds. The table
has the median of the rounds, the lowest and the highest value; the rows can be compared with each other.

    python -m benchmarks.scorer                                     what `make bench-scorer` runs
    python -m benchmarks.scorer --compact examples/photos/model     a trained model instead of a random one
    python -m benchmarks.scorer --values 0                          networks on the XOR of the bits
    python -m benchmarks.scorer --values 512 --both                 on 256 values of each of two embeddings
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.machine import measured_with, write_results
from benchmarks.scorer_load import closed_loop, open_loop
from benchmarks.scorer_models import (
    bare_products,
    in_process,
    load_served,
    products,
    random_model,
    work_per_pair,
)
from benchmarks.scorer_process import scorer_process
from scoring.features import PairInputs
from scoring.model import PairModel, model_class
from search.hashing.score_codes import CodeSettings
from training.training_settings import COMPACT, LARGE, NetworkSettings

OUT = Path("var/bench/scorer.json")

CLIENTS = 3

MOMENT_S = 0.5
"""Seconds of one measurement in this process."""

Measured = Mapping[str, float]
"""Values of one turn, by name."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A row of the table: the median of the rounds, the lowest and the highest value."""

    what: str
    value: float
    unit: str
    low: float
    high: float
    goal: str = ""
    met: bool | None = None


def alternate(turns: Sequence[Callable[[], Measured]], rounds: int) -> dict[str, list[float]]:
    """Takes turns for some rounds; returns the values of all rounds by name."""
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for turn in turns:
            for name, value in turn().items():
                found[name].append(value)
    return found


def in_process_turn(name: str, model: PairModel, threads: int) -> Callable[[], Measured]:
    """A model and its bare products: pairs per second, and its share of the products' speed in percent."""
    shapes = products(model)
    rate = in_process(model, threads, MOMENT_S)
    exact, plain = (bare_products(shapes, threads, MOMENT_S, exact=exact) for exact in (True, False))

    def turn() -> Measured:
        mine, same, bare = rate(), exact(), plain()
        return {
            name: mine,
            f"{name} ms": 1000 / mine,
            f"{name} of same": 100 * mine / same,
            f"{name} of float32": 100 * mine / bare,
            f"{name} GFLOP/s": bare * work_per_pair(shapes) / 1e9,
        }

    return turn


def server_turns(address: str, undelayed: str, code_bytes: int, seconds: float) -> list[Callable[[], Measured]]:
    """Large and small requests; the small ones also at half of the highest rate in the same round."""

    def large(pairs: int, queries: int) -> Callable[[], Measured]:
        return lambda: {f"requests {pairs}": closed_loop(address, code_bytes, CLIENTS, pairs, queries, seconds)}

    def small() -> Measured:
        full = closed_loop(address, code_bytes, CLIENTS, 100, 1, seconds, under_way=8)
        half = open_loop(address, code_bytes, CLIENTS, 100, full / 100 / 2, seconds)
        return {
            "requests 100": full,
            "half rate": full / 100 / 2,
            "half p50": half.p50_ms,
            "half p99": float("inf") if half.failed else half.p99_ms,
        }

    def rare() -> Measured:
        usual = open_loop(address, code_bytes, 1, 100, 20, seconds)
        without = open_loop(undelayed, code_bytes, 1, 100, 20, seconds)
        return {"rare p50": usual.p50_ms, "company": usual.p50_ms - without.p50_ms}

    return [large(6400, 64), large(2500, 25), small, rare]


def measurements(found: Mapping[str, Sequence[float]], titles: Mapping[str, str]) -> list[Measurement]:
    """The rows of the table.

    Args:
        found: The values of all rounds, by name.
        titles: The title of each model, by its name.
    """

    def line(
        name: str, what: str, unit: str, goal: str = "", met: Callable[[float], bool] | None = None
    ) -> Measurement:
        values, value = found[name], median(found[name])
        return Measurement(what, value, unit, min(values), max(values), goal, None if met is None else met(value))

    lines = [
        line("large ms", f"{titles['large']}, in process", "ms a pair", "at most 0.2", lambda value: value <= 0.2),
        line("large of same", "of the bare products, same numbers", "%", "at least 80", lambda value: value >= 80),
        line("large of float32", "of the bare products, all in float32", "%"),
        line("large GFLOP/s", "these bare products, all in float32", "GFLOP/s"),
    ]
    for name in ("compact", "served"):
        lines += [
            line(name, f"{titles[name]}, in process", "pairs/s", "at least 500,000", lambda value: value >= 500_000),
            line(f"{name} of same", "of the bare products, same numbers", "%"),
            line(f"{name} of float32", "of the bare products, all in float32", "%"),
            line(f"{name} GFLOP/s", "these bare products, all in float32", "GFLOP/s"),
        ]
    for pairs, what in ((6400, "64 images of 100"), (2500, "2,500 pairs")):
        title = f"compact served, {CLIENTS} clients, requests of {what}"
        lines.append(line(f"requests {pairs}", title, "pairs/s", "at least 200,000", lambda value: value >= 200_000))
    return [
        *lines,
        line("requests 100", f"compact served, {CLIENTS} clients, requests of 100 pairs", "pairs/s"),
        line("rare p50", "100 pairs, 20 requests/s, p50", "ms"),
        line("company", "added by waiting for a fuller batch, p50", "ms", "under 3", lambda value: value < 3),
        line("half rate", "half load of 100 pairs", "requests/s"),
        line("half p50", "100 pairs at half load, p50", "ms"),
        line("half p99", "100 pairs at half load, p99", "ms", "under 25", lambda value: value < 25),
    ]


def measure(arguments: argparse.Namespace, folder: Path) -> list[Measurement]:
    """Takes all measurements."""
    threads = arguments.threads
    model_class().configure(threads)
    code, served = _signal()
    values = code.values if arguments.values is None else arguments.values
    both = bool(code.search_dimension) if arguments.both is None else arguments.both

    def made(name: str, settings: NetworkSettings, given: Path | None, hidden: Sequence[int]) -> Path:
        inputs = PairInputs(code.bits, values, settings.xor or not values)
        return given or random_model(name, inputs, hidden, folder / name, branches=both and settings.branches)

    compact = made("compact", COMPACT, arguments.compact, arguments.compact_hidden)
    large = made("large", LARGE, arguments.large, arguments.large_hidden)
    models = {name: load_served(path) for name, path in (("large", large), ("compact", compact), ("served", served))}
    with ExitStack() as stack:
        addresses = [stack.enter_context(scorer_process(compact, threads, delay)) for delay in (0.5, 0.0)]
        turns = [in_process_turn(name, model, threads) for name, model in models.items()]
        turns += server_turns(addresses[0], addresses[1], models["compact"].card.code_bytes, arguments.seconds)
        return measurements(
            alternate(turns, arguments.rounds), {name: _title(name, one) for name, one in models.items()}
        )


def _signal() -> tuple[CodeSettings, Path]:
    """The codes and the folder of models of the default signal of `neardup.toml`."""
    from stream.hashing import code_settings
    from stream.settings import load_settings

    settings = load_settings(Path("neardup.toml"))
    _, signal = settings.signal(None)
    return code_settings(settings, signal), settings.path(signal.model)


def _title(name: str, model: PairModel) -> str:
    card = model.card
    called = "the served model" if name == "served" else name
    return f"{called}, {card.parameters:,} parameters, {card.inputs.size} inputs"


def say(lines: Sequence[Measurement]) -> None:
    """Prints the table."""
    for one in lines:
        met = "" if one.met is None else ("met" if one.met else "missed")
        spread = f"{one.low:,.2f} to {one.high:,.2f}"
        print(f"{one.what:<62}{one.value:>13,.2f} {one.unit:<11}{spread:>27}  {one.goal:<18}{met}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, writes `var/bench/scorer.json`."""

    def widths(text: str) -> tuple[int, ...]:
        return tuple(int(each) for each in text.split(","))

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=Path, help="a folder of models; default: random weights")
    parser.add_argument("--compact", type=Path, help="a folder of models; default: random weights")
    parser.add_argument("--large-hidden", type=widths, default=LARGE.hidden, help="hidden layers of a random `large`")
    parser.add_argument(
        "--compact-hidden", type=widths, default=COMPACT.hidden, help="hidden layers of a random `compact`"
    )
    parser.add_argument(
        "--values",
        type=int,
        help="values in the codes of a random model; 0: bits alone; default: as in the signal's codes",
    )
    parser.add_argument(
        "--both",
        action=argparse.BooleanOptionalAction,
        help="whether half of the values come from each embedding; default: as in the signal's codes",
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="seconds of each measurement on the server, in every round"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    with TemporaryDirectory() as folder:
        lines = measure(arguments, Path(folder))
    say(lines)
    write_results(
        arguments.out,
        {
            **measured_with("benchmarks.scorer"),
            "rounds": arguments.rounds,
            "measurements": [asdict(one) for one in lines],
        },
    )
    return 0 if all(one.met is not False for one in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
