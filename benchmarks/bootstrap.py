"""First loads and a delta of synthetic images: `make bench-bootstrap`.

Loads: a manifest is made, then broker, storage and search server start in an empty folder of their own, and load it as
`neardup bootstrap load` does. Measured are the seconds until both are ready and until both are live, the processor
time, and the most memory of both servers with all of their processes (PSS).

Delta: the whole service begins with a snapshot, and live images come at a steady rate, in turns without and with a
delta that flows beside them.

    python -m benchmarks.bootstrap                                          what `make bench-bootstrap` runs
    python -m benchmarks.bootstrap --loads 20000:hashed --snapshot 5000 --delta 500 --seconds 10     a short one

A load is ROWS:hashed (with terms and codes), ROWS:vectors, or ROWS:small (with terms and codes, and small embeddings).
It writes `var/bench/bootstrap.json`.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.machine import measured_with
from benchmarks.manifests import write_manifest
from benchmarks.search.results import table
from benchmarks.service_run import await_verdicts, carried_out, empty, say, started
from benchmarks.synthetic import SyntheticSettings, Universe, write_images
from core.access import Right
from core.errors import NeardupError, UnavailableError
from core.manifest_rows import RowResult
from manifests.image_files import ImageFile, ImageRow
from operators.first_load import FirstLoad
from stream.bootstrap.loading import load_request, servers, until_all_entered, until_live
from stream.broker import Broker
from stream.data_folders import with_data
from stream.demo.sample import SAMPLE
from stream.local.parts import deployment_parts
from stream.local.supervisor import Deployment
from stream.publish import Publisher, publish
from stream.settings import Settings, load_settings
from stream.topic_plans import topic_plans
from stream.topic_reader import TopicReader
from stream.verdicts import Latency, Verdicts, latency

DEFAULT_LOADS = ("1000000:hashed", "1000000:vectors", "100000:small", "1000000:small", "5000000:small")
"""The small ones give the exponent: whole embeddings of so many images take 60 GB of disk."""

SMALL = (64, 32)
"""Dimensions of small embeddings."""

MIB = 1 << 20
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """A manifest of so many rows."""

    rows: int
    kind: str
    """hashed: with terms and codes; vectors: without; small: with them, and small embeddings."""

    @classmethod
    def of(cls, text: str) -> Load:
        """From ROWS:KIND."""
        rows, _, kind = text.partition(":")
        if not rows.isdecimal() or kind not in ("hashed", "vectors", "small"):
            raise argparse.ArgumentTypeError(f"{text!r} is not ROWS:hashed, ROWS:vectors or ROWS:small")
        return cls(int(rows), kind)


@dataclass(frozen=True, slots=True)
class Delta:
    """The delta, and the live images beside it."""

    snapshot: int
    rows: int
    rate: float
    seconds: float
    rounds: int


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The exponent b of seconds = a * size^b, by least squares of the logarithms; at least two sizes."""
    x, y = [math.log(size) for size in sizes], [math.log(each) for each in seconds]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    across = sum((each - mean_x) ** 2 for each in x)
    return sum((one - mean_x) * (other - mean_y) for one, other in zip(x, y, strict=True)) / across


class _Watch(threading.Thread):
    """Looks at processes until `end`: the most memory of all of them together, and the processor time of each part."""

    def __init__(self, parts: dict[str, int]) -> None:
        super().__init__(name="watch", daemon=True)
        self._parts = parts
        self._ended = threading.Event()
        self._cpu: dict[tuple[str, int], float] = {}
        self.peak_mib = 0

    def run(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self.peak_mib = max(self.peak_mib, round(sum(self._look(name) for name in self._parts) / MIB))

    def end(self) -> dict[str, float]:
        """Ends the watch; returns the processor seconds of each part."""
        self._ended.set()
        self.join()
        seconds = dict.fromkeys(self._parts, 0.0)
        for (name, _), spent in self._cpu.items():
            seconds[name] += spent
        return {name: round(spent, 1) for name, spent in seconds.items()}

    def _look(self, name: str) -> int:
        """The proportional share of a part in bytes; one that starts again meanwhile has none."""
        share = 0
        with suppress(psutil.Error):
            main = psutil.Process(self._parts[name])
            for each in (main, *main.children(recursive=True)):
                with suppress(psutil.Error):
                    share += each.memory_full_info().pss
                    times = each.cpu_times()
                    self._cpu[name, each.pid] = times.user + times.system
        return share


def measured_load(settings: Settings, load: Load) -> dict[str, Any]:
    """Makes a manifest and loads it into empty servers."""
    if load.kind == "small":
        settings = _small(settings)
    _, signal = settings.signal()
    wanted = [part for part in deployment_parts(settings) if _is_server(part.name)]
    deployment = Deployment(settings, wanted)
    empty(deployment)
    folder = settings.data_dir / "manifests-made"
    say(f"making a manifest of {load.rows:,} rows: {load.kind}")
    manifest = write_manifest(settings, folder, "snapshot", _ids(load.rows), hashed=load.kind != "vectors")
    with started(deployment):
        with Broker(settings.kafka_access("neardup-bench-bootstrap")) as kafka:
            kafka.create(topic_plans(signal, settings.kafka))
        pids = {part.name: part.pid for part in deployment.status() if part.pid is not None and part.name != "broker"}
        watch = _Watch(pids)
        watch.start()
        found, live_s = _until_live(settings, folder)
        cpu = watch.end()
    shutil.rmtree(settings.data_dir)
    reports = found.reports
    seconds = (max(each.ended_ms for each in reports) - min(each.started_ms for each in reports)) / 1000
    storage_s, search_s = ((each.ended_ms - each.started_ms) / 1000 for each in reports)
    result = {
        "rows": load.rows,
        "kind": load.kind,
        "manifest_mb": round(manifest.size / 1e6),
        "rows_per_s": round(load.rows / seconds),
        "ready_s": round(seconds, 1),
        "storage_s": round(storage_s, 1),
        "search_s": round(search_s, 1),
        "live_s": round(live_s, 1),
        "cpu_s": cpu,
        "cpu_us_a_row": {name: round(1e6 * spent / load.rows, 1) for name, spent in cpu.items()},
        "peak_mib": watch.peak_mib,
    }
    say(f"  {result}")
    return result


def _until_live(settings: Settings, folder: Path) -> tuple[FirstLoad, float]:
    """Loads; returns what both servers said once they were ready, and the seconds until both were live."""
    started_s, said_s = time.monotonic(), 0.0
    ready: list[FirstLoad] = []

    def look(found: FirstLoad) -> None:
        nonlocal said_s
        now = time.monotonic()
        if len(found.reports) == 2 and all(each.ended_ms for each in found.reports):
            ready.append(found)
        elif now - said_s > 10.0:
            said_s = now
            say("  " + ", ".join(f"{each.rows_done:,} {each.detail}" for each in found.reports))

    with servers(settings, None, Right.WRITE) as both:
        until_live(load_request(settings, None, str(folder), "snapshot"), both.storage, both.search, look)
    return ready[0], time.monotonic() - started_s


class _DeltaRun:
    """A service that begins with a snapshot, live images, and a delta beside them."""

    def __init__(self, settings: Settings, delta: Delta) -> None:
        self._settings, self._delta = settings, delta
        self._folder = settings.data_dir / "manifests-made"
        self._verdicts = Verdicts()
        self._sent = 0

    def run(self) -> dict[str, Any]:
        """Begins, measures, and stops all parts in any case."""
        delta, settings = self._delta, self._settings
        deployment = Deployment(settings)
        empty(deployment)
        say(f"making a snapshot of {delta.snapshot:,} rows and {delta.rounds} deltas of {delta.rows:,}")
        ids = _ids(delta.snapshot + delta.rounds * delta.rows)
        known = delta.snapshot
        last = write_manifest(settings, self._folder, "snapshot", ids[:known], hashed=True)
        for number in range(delta.rounds):
            end = known + delta.rows
            last = write_manifest(
                settings,
                self._folder,
                f"delta-{number}",
                ids[:end],
                hashed=True,
                known=known,
                previous=last.id,
            )
            known = end
        images = self._live_images()
        _, signal = settings.signal()
        with started(deployment), ExitStack() as stack:
            _until_live(settings, self._folder)
            changes = stack.enter_context(
                TopicReader(settings.kafka_access("neardup-bench-bootstrap"), signal.topic("assignments"))
            )
            publisher = stack.enter_context(Publisher(settings))
            rows = iter(images)
            self._publish(islice(rows, 1_000), publisher, changes)  # the parts grow warm
            await_verdicts(self._verdicts, changes, self._sent)
            without, beside, paces = [], [], []
            for number in range(delta.rounds):
                without.append(self._round(rows, publisher, changes, None))
                say(f"round {number + 1} without a delta: {without[-1]}")
                flowing = _Flowing(settings, self._folder, f"delta-{number}")
                beside.append(self._round(rows, publisher, changes, flowing))
                paces.append(delta.rows / flowing.seconds)
                say(f"round {number + 1} beside a delta: {beside[-1]}, {paces[-1]:,.0f} rows a second")
        shutil.rmtree(settings.data_dir)
        alone, together = median(each.p99_ms for each in without), median(each.p99_ms for each in beside)
        return {
            "load": asdict(delta),
            "live_p99_ms": alone,
            "live_p99_beside_delta_ms": together,
            "ratio": round(together / max(alone, 1), 2),
            "delta_rows_per_s": round(median(paces), 1),
            "rounds": [asdict(each) for pair in zip(without, beside, strict=True) for each in pair],
        }

    def _live_images(self) -> ImageFile:
        """As many as the slowest delta leaves time for."""
        delta = self._delta
        count = 1_000 + int(delta.rate * delta.rounds * (2 * delta.seconds + delta.rows / _SLOWEST_PER_S))
        say(f"making {count:,} live images")
        path = self._settings.data_dir / "live.parquet"
        universe = Universe(self._settings.path(SAMPLE), SyntheticSettings(seed=2))
        write_images(universe, path, [f"live-{number:09d}" for number in range(count)])
        _, signal = self._settings.signal()
        return ImageFile(path, signal.search_embedding.dimension, signal.score_embedding.dimension)

    def _round(
        self, rows: Iterator[ImageRow], publisher: Publisher, changes: TopicReader, flowing: _Flowing | None
    ) -> Latency:
        """Live images for some seconds, or until the delta has flowed."""
        known, until = set(self._verdicts.waits_ms), time.monotonic() + self._delta.seconds
        if flowing is not None:
            flowing.start()

        def live() -> Iterator[ImageRow]:
            while flowing.is_alive() if flowing is not None else time.monotonic() < until:
                row = next(rows, None)
                if row is None:
                    raise UnavailableError(f"no live images are left: fewer than {_SLOWEST_PER_S} rows/s flowed")
                yield row

        self._publish(live(), publisher, changes)
        if flowing is not None:
            flowing.check()
        await_verdicts(self._verdicts, changes, self._sent)
        waits = [
            ms for image, ms in self._verdicts.waits_ms.items() if image not in known and image[0].startswith("live-")
        ]
        return latency(waits)

    def _publish(self, rows: Iterator[ImageRow], publisher: Publisher, changes: TopicReader) -> None:
        def read(sent: int) -> None:
            if sent % 20 == 0:
                self._verdicts.take(changes.poll(0.0))

        self._sent += publish(rows, publisher, rate=self._delta.rate, on_sent=read)


_SLOWEST_PER_S = 50
"""Live images are made for a delta of so many rows a second."""


class _Flowing(threading.Thread):
    """A delta, from the request until its last row is applied."""

    def __init__(self, settings: Settings, folder: Path, name: str) -> None:
        super().__init__(name="delta", daemon=True)
        self._settings, self._folder, self._manifest = settings, folder, name
        self._error: NeardupError | None = None
        self.seconds = 0.0
        self.results: Mapping[RowResult, int] = {}
        """What became of its rows."""

    def run(self) -> None:
        started_s = time.monotonic()
        try:
            with servers(self._settings, None, Right.WRITE) as both:
                request = load_request(self._settings, None, str(self._folder), self._manifest)
                self.results = until_all_entered(request, both.storage, lambda report: None).counts
        except NeardupError as error:
            self._error = error
        self.seconds = time.monotonic() - started_s

    def check(self) -> None:
        """Waits for its end.

        Raises:
            NeardupError: It ended before its last row.
        """
        self.join()
        if self._error is not None:
            raise self._error


def _small(settings: Settings) -> Settings:
    """The same settings for small embeddings, whose codes are sides of random hyperplanes."""
    name, signal = settings.signal()
    search, score = (
        replace(spec, dimension=dimension)
        for spec, dimension in zip((signal.search_embedding, signal.score_embedding), SMALL, strict=True)
    )
    code = signal.code.model_copy(update={"projection": None, "signs": False})
    changes = {"search_embedding": search, "score_embedding": score, "centres": None, "code": code}
    return settings.model_copy(update={"signals": {**settings.signals, name: signal.model_copy(update=changes)}})


def _ids(count: int) -> list[str]:
    return [f"old-{number:010d}" for number in range(count)]


def _is_server(part: str) -> bool:
    return part == "broker" or part.endswith(("-storage", "-search"))


def measure(settings: Settings, loads: Sequence[Load], delta: Delta | None) -> dict[str, Any]:
    """All loads, then the delta."""
    found = [measured_load(settings, load) for load in loads]
    small = [each for each in found if each["kind"] == "small"]
    result: dict[str, Any] = {**measured_with("benchmarks.bootstrap"), "loads": found}
    if len({each["rows"] for each in small}) > 1:
        sizes = [each["rows"] for each in small]
        result["exponent"] = round(exponent(sizes, [each["ready_s"] for each in small]), 3)
    if delta is not None:
        result["delta"] = _DeltaRun(settings, delta).run()
    return result


def show(result: dict[str, Any]) -> None:
    """Prints the tables."""
    columns = ("rows", "kind", "rows_per_s", "ready_s", "storage_s", "search_s", "live_s", "peak_mib")
    table("first loads", columns, [[each[name] for name in columns] for each in result["loads"]])
    if "exponent" in result:
        print(f"seconds grow with rows to the power of {result['exponent']}")
    for name, value in result.get("delta", {}).items():
        if name not in ("load", "rounds"):
            print(f"{name:<28}{value}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add: Callable[..., Any] = parser.add_argument
    add("--loads", type=Load.of, nargs="*", default=[Load.of(each) for each in DEFAULT_LOADS], metavar="ROWS:KIND")
    add("--snapshot", type=int, default=100_000, help="images that the service begins with; 0: no delta")
    add("--delta", type=int, default=100_000, help="rows of each delta")
    add("--rate", type=float, default=50.0, help="live images a second")
    add("--seconds", type=float, default=60.0, help="the length of a round without a delta")
    add("--rounds", type=int, default=1, help="rounds without and with a delta")
    add("--data", type=Path, help="data folder; default: `bootstrap` below that of the settings")
    add("--out", type=Path, help="file of the result; default: bench/bootstrap.json below that folder")
    arguments = parser.parse_args(argv)
    settings = load_settings()
    own = with_data(settings, arguments.data or settings.data_dir / "bootstrap")
    delta = Delta(arguments.snapshot, arguments.delta, arguments.rate, arguments.seconds, arguments.rounds)
    out = arguments.out or settings.data_dir / "bench" / "bootstrap.json"
    return carried_out(lambda: measure(own, arguments.loads, delta if delta.snapshot else None), out, show)


if __name__ == "__main__":
    sys.exit(main())
