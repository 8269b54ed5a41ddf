"""How fast the scorer is: `make bench-scorer`.

Networks of the shapes `large` and `compact` in this process, beside bare matrix products of the same sizes and kinds of
numbers in the same run; then `compact` behind the real server, with clients in processes of their own on the same
cores. Speed does not depend on the weights, so they are random where no trained model of the shape is given.

    python -m benchmarks.scorer                                     what `make bench-scorer` runs
    python -m benchmarks.scorer --compact examples/photos/model     a trained model instead of a random one
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.machine import command_line, machine, revision
from benchmarks.scorer_load import closed_loop, open_loop
from search.scoring.card import ModelCard
from search.scoring.exact_network import quantise
from search.scoring.features import PairInputs
from search.scoring.model import PairModel
from search.scoring.model_folder import ModelFolder
from search.types import Thresholds

ROWS = 1024
"""Pairs of one batch, the scorer's own."""

OUT = Path("var/bench/scorer.json")


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table."""

    what: str
    value: float
    unit: str
    goal: str = ""
    met: bool | None = None


def random_model(name: str, inputs: PairInputs, hidden: Sequence[int], folder: Path) -> Path:
    """Writes a network with random weights as a served version."""
    from search.scoring.export import export

    random = np.random.default_rng(1)
    sizes = [inputs.size, *hidden, 1]
    weights = [(random.standard_normal(shape) * (2 / shape[0]) ** 0.5).astype(np.float32) for shape in pairwise(sizes)]
    biases = [np.zeros(size, dtype=np.float32) for size in sizes[1:]]
    card = ModelCard(
        version=name,
        bits=inputs.bits,
        code_fingerprint="random",
        embedding_name="random",
        embedding_version="1",
        thresholds=Thresholds(0.5, 0.5, 0.5),
    )
    models = ModelFolder(folder)
    export(quantise(weights, biases, inputs=inputs), card, models)
    models.use(name)
    return folder


def seconds_per_call(call: Callable[[], object], least_s: float = 1.0, rounds: int = 5) -> float:
    """The best mean of some rounds; the first call is not counted."""
    call()
    best = float("inf")
    for _ in range(rounds):
        started, calls = time.perf_counter(), 0
        while (spent := time.perf_counter() - started) < least_s / rounds:
            call()
            calls += 1
        best = min(best, spent / calls)
    return best


def random_codes(rows: int, code_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Both sides of random pairs."""
    random = np.random.default_rng(2)
    left, right = random.integers(0, 256, (2, rows, code_bytes), dtype=np.uint8)
    return left, right


def in_process(model: PairModel, threads: int) -> float:
    """Pairs per second of a loaded model, in batches of the scorer's size, one on each thread."""
    left, right = random_codes(ROWS, model.card.code_bytes)
    return side_by_side(lambda: model.score(left, right), threads)


def side_by_side(batch: Callable[[], object], threads: int) -> float:
    """Pairs per second, with a batch of `ROWS` pairs on each thread, again and again."""
    calls = 8

    def run(_: int) -> None:
        for _ in range(calls):
            batch()

    with ThreadPoolExecutor(threads) as pool:
        return threads * calls * ROWS / seconds_per_call(lambda: list(pool.map(run, range(threads))))


def bare_product(sizes: Sequence[int], threads: int, exact: bool) -> float:
    """Pairs per second of the matrix products alone, one after the other.

    Args:
        sizes: Of the layers, inputs first.
        threads: So many batches at a time.
        exact: With the network's own kinds of numbers (float32, then float64); else float32 throughout.
    """
    import tensorflow as tf

    random = np.random.default_rng(3)
    kinds = [tf.float64 if exact and layer else tf.float32 for layer in range(len(sizes) - 1)]
    factors = [
        (tf.constant(random.random((ROWS, shape[0])), kind), tf.constant(random.random(shape), kind))
        for shape, kind in zip(pairwise(sizes), kinds, strict=True)
    ]
    # As constants the products would be folded away when the function is made.
    held = [(tf.Variable(left), tf.Variable(right)) for left, right in factors]
    product = tf.function(lambda: [tf.matmul(left, right) for left, right in held], autograph=False)
    call = product.get_concrete_function()
    return side_by_side(lambda: call()[-1].numpy(), threads)


SERVE = """
import sys
from pathlib import Path
from search.serving.rpc import Listen
from search.serving.scorer_server import ScorerServerSettings, serve
port, page, model, threads, delay = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:]
listen = Listen("127.0.0.1", port, page, 1 << 26)
serve(ScorerServerSettings(listen, model, threads=int(threads), max_delay_ms=float(delay)))
"""


@contextmanager
def server(folder: Path, threads: int, max_delay_ms: float) -> Iterator[str]:
    """A real scorer in a process of its own; gives its address."""
    from search.errors import UnavailableError
    from search.serving.scorer_client import ScorerClient

    port, page = _free_ports()
    words = [str(port), str(page), os.fspath(folder), str(threads), str(max_delay_ms)]
    process = subprocess.Popen([sys.executable, "-c", SERVE, *words])
    client = ScorerClient(f"127.0.0.1:{port}", 5.0, 1 << 26)
    try:
        while True:
            try:
                client.describe()
                break
            except UnavailableError:
                if process.poll() is not None:
                    raise
                time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        client.close()
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _free_ports() -> tuple[int, int]:
    import socket

    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def measure_large(model: PairModel, sizes: Sequence[int], threads: int) -> list[Figure]:
    """`large` in this process."""
    rate, exact, plain = (
        in_process(model, threads),
        bare_product(sizes, threads, exact=True),
        bare_product(sizes, threads, exact=False),
    )
    return [
        Figure(
            f"large, {model.card.parameters:,} parameters", 1000 / rate, "ms a pair", "at most 0.2", 1000 / rate <= 0.2
        ),
        Figure(
            "large, of the bare products, same numbers", 100 * rate / exact, "%", "at least 80", rate / exact >= 0.8
        ),
        Figure("large, of the bare products, all in float32", 100 * rate / plain, "%"),
    ]


def measure_compact(model: PairModel, sizes: Sequence[int], threads: int) -> list[Figure]:
    """`compact` in this process."""
    rate, bare = in_process(model, threads), bare_product(sizes, threads, exact=True)
    name = f"compact, {model.card.parameters:,} parameters, {model.card.code_bytes} bytes a code"
    return [
        Figure(f"{name}, in process", rate, "pairs/s", "at least 500,000", rate >= 500_000),
        Figure("compact, of the bare products, same numbers", 100 * rate / bare, "%"),
    ]


def measure_server(folder: Path, code_bytes: int, threads: int, seconds: float) -> list[Figure]:
    """`compact` behind the server."""
    found = []
    with server(folder, threads, 0.5) as address:
        for pairs, queries, what in ((6400, 64, "64 images of 100"), (2500, 25, "2,500 pairs"), (100, 1, "100 pairs")):
            rate = closed_loop(address, code_bytes, 3, pairs, queries, seconds, under_way=2 if pairs > 100 else 8)
            goal = "at least 200,000" if pairs > 100 else ""
            found.append(
                Figure(
                    f"server, 3 clients, requests of {what}", rate, "pairs/s", goal, rate >= 200_000 if goal else None
                )
            )
        low = open_loop(address, code_bytes, 1, 100, 20, seconds)
        half = open_loop(address, code_bytes, 3, 100, rate / 100 / 2, seconds)
    with server(folder, threads, 0.0) as address:
        without = open_loop(address, code_bytes, 1, 100, 20, seconds)
    added = low.p50_ms - without.p50_ms
    return [
        *found,
        Figure("100 pairs, 20 requests/s, p50", low.p50_ms, "ms"),
        Figure("added by waiting for company, p50", added, "ms", "under 3", added < 3),
        Figure(f"100 pairs at half load ({rate / 200:,.0f} requests/s), p50", half.p50_ms, "ms"),
        Figure("100 pairs at half load, p99", half.p99_ms, "ms", "under 25", half.p99_ms < 25 and not half.failed),
    ]


def measure(arguments: argparse.Namespace, folder: Path) -> list[Figure]:
    """All figures."""
    from search.scoring.tf_model import load_tf, run_batches_side_by_side

    run_batches_side_by_side(arguments.threads)

    def load(path: Path) -> tuple[PairModel, list[int]]:
        models = ModelFolder(path)
        model = models.load(models.served(), load_tf)
        model.warm_up()
        card = model.card
        return model, [PairInputs(card.bits, card.values, card.xor).size, *card.hidden, 1]

    inputs = PairInputs(1024, arguments.values, xor=not arguments.values)
    large = arguments.large or random_model("large", inputs, arguments.large_hidden, folder / "large")
    compact = arguments.compact or random_model("compact", inputs, arguments.compact_hidden, folder / "compact")
    found = measure_large(*load(large), arguments.threads)
    say(found)
    model, sizes = load(compact)
    here = measure_compact(model, sizes, arguments.threads)
    say(here)
    behind = measure_server(compact, model.card.code_bytes, arguments.threads, arguments.seconds)
    say(behind)
    return found + here + behind


def say(figures: Sequence[Figure]) -> None:
    """Prints lines of the table."""
    for one in figures:
        met = "" if one.met is None else ("met" if one.met else "missed")
        print(f"{one.what:<70}{one.value:>14,.2f} {one.unit:<10}{one.goal:<20}{met}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, writes `var/bench/scorer.json`."""

    def widths(text: str) -> tuple[int, ...]:
        return tuple(int(each) for each in text.split(","))

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=Path, help="a folder of models; random weights without it")
    parser.add_argument("--compact", type=Path, help="a folder of models; random weights without it")
    parser.add_argument("--large-hidden", type=widths, default=(8192, 192), help="hidden layers of a random `large`")
    parser.add_argument("--compact-hidden", type=widths, default=(128, 32), help="hidden layers of a random `compact`")
    parser.add_argument(
        "--values", type=int, default=0, help="values of a random model's codes; 0: the XOR of 1,024 bits"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement on the server")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    with TemporaryDirectory() as folder:
        figures = measure(arguments, Path(folder))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "command": command_line("benchmarks.scorer"),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine().to_dict(),
        "revision": revision(),
        "figures": [asdict(one) for one in figures],
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if all(one.met is not False for one in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
