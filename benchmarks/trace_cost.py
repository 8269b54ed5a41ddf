"""Processor time of the task manager with no, some and all images traced: `make bench-traces`.

Starts its own parts in its own folder and warms them up. Then images come at a steady rate, in rounds that take turns:
nobody asks for a trace, one image of a hundred does, each image does. Each round gives the processor time of the task
manager for each image, from `/proc`. Waiting time does not count, so a slow disk changes nothing.

    python -m benchmarks.trace_cost                                          what `make bench-traces` runs
    python -m benchmarks.trace_cost --rounds 1 --seconds 10 --warm-up 10     a short one
    python -m benchmarks.trace_cost --before /path/to/checkout               beside a revision without traces

A round differs from the next by more than tracing can cost an image that nobody asks about. So the calls that tracing
adds to such an image are timed by themselves too, in this process.

`--before` names a checkout of another revision. Its parts run in turns with ours, warmed up alike, and nobody asks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.machine import measured_with
from benchmarks.service_run import await_verdicts, carried_out, empty, say, started, synthetic_images
from clustering.arrivals import Arrival
from core.errors import UnavailableError
from core.protos.joined_pb2 import JoinedImage
from core.types import ImageId, Versions
from manifests.image_files import ImageRow
from operators.in_flight_pb2 import InFlight
from operators.item_times import Timing
from operators.tracer import Tracer
from operators.tracing import BatchTracer, trace_reason
from stream.data_folders import with_data
from stream.local.supervisor import Deployment
from stream.publish import Publisher, SendSchedule
from stream.settings import Settings, load_settings
from stream.topic_reader import TopicReader
from stream.verdicts import Verdicts

__all__ = ["BEFORE", "SHARES", "TraceLoad", "halves", "summary", "turns", "untraced_us"]

SHARES: Mapping[str, int] = {"none": 0, "hundredth": 100, "all": 1}
"""The kinds of rounds: one image of so many asks for a trace; 0: nobody does."""

BEFORE = "before"
"""Rounds of the other revision."""


@dataclass(frozen=True, slots=True)
class TraceLoad:
    """How many rounds of each kind there are, how long each lasts, and how images come."""

    rate: float
    seconds: float
    warm_up_s: float
    rounds: int
    kinds: tuple[str, ...] = tuple(SHARES)

    @property
    def images(self) -> int:
        """All that are sent."""
        return round(self.rate * (self.warm_up_s + self.seconds * self.rounds * len(self.kinds)))


def turns(kinds: Sequence[str], rounds: int) -> Iterator[str]:
    """The kinds of all rounds, in turns; each turn begins with another kind, so that a growing index favours none."""
    for number in range(rounds):
        first = number % len(kinds)
        yield from (*kinds[first:], *kinds[:first])


def summary(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each kind in microseconds an image, and how many per cent more than the basis it is.

    The basis is the other revision if there is one, else the rounds in which nobody asked.
    """
    medians = {kind: median(values) for kind, values in found.items() if values}
    basis = next(medians[kind] for kind in (BEFORE, "none", *medians) if kind in medians)
    shown = {f"{kind}_us": round(value, 1) for kind, value in medians.items()}
    more = {f"{kind}_more_percent": round(100 * (value / basis - 1), 2) for kind, value in medians.items()}
    return {**shown, **{name: value for name, value in more.items() if not name.startswith(BEFORE)}}


class TraceCost:
    """One deployment, from an empty folder to the processor time of each round."""

    def __init__(self, settings: Settings, load: TraceLoad) -> None:
        self._settings = settings
        self._load = load
        self._signal = settings.signal()[1]
        self._deployment = Deployment(settings)
        self._verdicts = Verdicts()
        self._sent = 0

    def run(self) -> dict[str, list[float]]:
        """Microseconds an image, by kind of round; stops all parts in any case."""
        empty(self._deployment)
        rows = iter(synthetic_images(self._settings, [f"image-{number:08d}" for number in range(self._load.images)]))
        with started(self._deployment):
            return self._measure(rows)

    def _measure(self, rows: Iterator[ImageRow]) -> dict[str, list[float]]:
        found: dict[str, list[float]] = defaultdict(list)
        access = self._settings.kafka_access("neardup-bench-traces")
        with (
            TopicReader(access, self._signal.topic("assignments")) as changes,
            Publisher(self._settings) as publisher,
        ):
            say(f"warming up for {self._load.warm_up_s:g} s")
            self._round(rows, self._load.warm_up_s, 0, publisher, changes)
            for kind in turns(self._load.kinds, self._load.rounds):
                spent = self._round(rows, self._load.seconds, SHARES[kind], publisher, changes)
                say(f"{kind:<12}{spent:,.0f} us an image")
                found[kind].append(spent)
        return dict(found)

    def _round(
        self, rows: Iterator[ImageRow], seconds: float, one_of: int, publisher: Publisher, changes: TopicReader
    ) -> float:
        """Sends images and waits for their verdicts; the processor time of the task manager, in us an image."""
        count, before = round(self._load.rate * seconds), _processor_s(self._deployment)
        schedule = SendSchedule(self._load.rate)
        for number, row in enumerate(islice(rows, count)):
            schedule.wait()
            asks = one_of > 0 and number % one_of == 0
            publisher.send(row, **({"trace": True} if asks else {}))
            if number % 20 == 0:
                self._verdicts.take(changes.poll(0.0))
        publisher.flush()
        self._sent += count
        await_verdicts(self._verdicts, changes, self._sent)
        return 1e6 * (_processor_s(self._deployment) - before) / count


def untraced_us(batches: int = 300, size: int = 64) -> float:
    """What tracing adds to an image that nobody asks about: its calls in all three steps, in microseconds an image."""
    tracer, content = Tracer(), JoinedImage(image_id="image-00000001", image_version=1)
    batch = [InFlight(offset=offset, record=b"record") for offset in range(size)]
    arrivals = [_unasked(offset) for offset in range(size)]
    timing = Timing([1] * size, [1] * size, lambda: time.time_ns() // 10**6)
    begun = time.process_time()
    for _ in range(batches):
        for one in batch:
            trace_reason(content, one.traceparent, tracer.policy)
        for one, times in zip(batch, timing.until_now(), strict=True):
            one.search_time.CopyFrom(times)
        for one, times in zip(batch, timing.until_now(), strict=True):
            one.score_time.CopyFrom(times)
        for one in batch:
            tracer.watched("search", one)
            tracer.watched("score", one)
        noting = BatchTracer(batch, timing, lambda _decision: None, tracer.stamp)
        for arrival in arrivals:
            noting.committed(arrival, None, None)
    return 1e6 * (time.process_time() - begun) / (batches * size)


def _unasked(offset: int) -> Arrival:
    """An image without candidates."""
    return Arrival(
        offset=offset,
        checksum=0,
        image_id=ImageId("image-00000001"),
        version=1,
        place=offset,
        score_code=b"code",
        candidates=(),
        scores=(),
        exhausted=True,
        thresholds=None,
        versions=Versions("model", "index"),
        unscored="",
        search_vector=b"",
        score_vector=b"",
        created_at_ms=0,
        arrived_at_ms=0,
    )


def _processor_s(deployment: Deployment) -> float:
    """Seconds that the task manager has used, in user and system mode, by all its threads."""
    (pid,) = [part.pid for part in deployment.status() if part.name == "taskmanager"]
    if pid is None:
        raise UnavailableError("the task manager does not run")
    main = psutil.Process(pid)
    times = [each.cpu_times() for each in (main, *main.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def measured_before(checkout: Path, load: TraceLoad, data: Path) -> list[float]:
    """The rounds of another revision, by its own code. Only the benchmarks are ours, and they ask for no traces."""
    out, ours = data / "before.json", data / "ours"
    ours.mkdir(exist_ok=True)
    link = ours / "benchmarks"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(__file__).resolve().parent)
    # `-m` would look in the working directory first, where the other revision has benchmarks too.
    command = [sys.executable, "-P", "-m", "benchmarks.trace_cost", "--only", "none", "--out", str(out)]
    command += ["--rate", str(load.rate), "--seconds", str(load.seconds), "--warm-up", str(load.warm_up_s)]
    command += ["--rounds", str(load.rounds), "--data", str(data / BEFORE)]
    environment = {**os.environ, "PYTHONPATH": f"{ours}{os.pathsep}{checkout}"}
    subprocess.run(command, cwd=checkout, env=environment, check=True)
    values: list[float] = json.loads(out.read_text(encoding="utf-8"))["rounds"]["none"]
    return values


def measure(settings: Settings, load: TraceLoad, before: Path | None, data: Path) -> dict[str, Any]:
    """All rounds, with those of another revision if there is one: half of them first, half of them last."""
    found: dict[str, list[float]] = defaultdict(list)
    data.mkdir(parents=True, exist_ok=True)
    for part in halves(load) if before else [load]:
        for kind, values in TraceCost(with_data(settings, data / "now"), part).run().items():
            found[kind] += values
        if before is not None:
            found[BEFORE] += measured_before(before, part, data)
    return {
        **measured_with("benchmarks.trace_cost"),
        "load": asdict(load),
        "rounds": dict(found),
        **summary(found),
        "untraced_calls_us": round(untraced_us(), 2),
    }


def halves(load: TraceLoad) -> list[TraceLoad]:
    """The load in two parts, the first with the odd round."""
    second = load.rounds // 2
    parts = (load.rounds - second, second)
    return [TraceLoad(load.rate, load.seconds, load.warm_up_s, rounds, load.kinds) for rounds in parts if rounds]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 0 when every image got its verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200.0, help="images a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="the length of a round")
    parser.add_argument("--warm-up", type=float, default=180.0, help="seconds before the first round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each kind")
    parser.add_argument("--before", type=Path, help="a checkout of a revision without traces")
    parser.add_argument("--only", choices=SHARES, help="rounds of this kind alone")
    parser.add_argument(
        "--data", type=Path, help="data folder; default: `traces` below the data folder of the settings"
    )
    parser.add_argument("--out", type=Path, help="file of the result; default: bench/traces.json below that folder")
    arguments = parser.parse_args(argv)
    settings = load_settings()
    kinds = (arguments.only,) if arguments.only else tuple(SHARES)
    load = TraceLoad(arguments.rate, arguments.seconds, arguments.warm_up, arguments.rounds, kinds)
    data = (arguments.data or settings.data_dir / "traces").absolute()
    out = arguments.out or settings.data_dir / "bench" / "traces.json"

    def show(result: dict[str, Any]) -> None:
        for name, value in result.items():
            if name.endswith(("_us", "_percent")):
                print(f"{name:<28}{value:,}")

    return carried_out(lambda: measure(settings, load, arguments.before, data), out, show)


if __name__ == "__main__":
    sys.exit(main())
