"""Live latency beside a replay, the pace of replays and trials, and finding one trace of many: `make bench-replay`.

Starts its own parts in its own folder and loads synthetic images. Then live images come at a steady rate, in turns
without and with a replay of many ids by force. Then the same ids are tried outside the order. Last it fills the topic
`debug` with traces, and measures seconds and memory of `neardup debug show` for the oldest and the newest of them.

    python -m benchmarks.replay                                         what `make bench-replay` runs
    python -m benchmarks.replay --images 2000 --ids 500 --traces 2000 --rounds 1 --seconds 10      a short one
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import measured_with
from benchmarks.service_run import await_verdicts, carried_out, empty, say, started, synthetic_images
from core.access import Right
from core.errors import NeardupError, UnavailableError
from core.traces import Choice, Trace, TracedCandidate, trace_json
from core.types import ImageId
from manifests.image_files import ImageFile, ImageRow
from stream.data_folders import with_data
from stream.local.supervisor import Deployment
from stream.publish import Publisher, publish
from stream.replay.choice import ReplaySelection
from stream.replay.differences import DiffReport
from stream.replay.service import ReplayService
from stream.replay.trial_service import TrialService
from stream.requests import new_request, replay_of
from stream.settings import SETTINGS_FILE_VARIABLE, Settings, load_settings
from stream.topic_reader import TopicReader
from stream.verdicts import Latency, Verdicts, latency

__all__ = ["ReplayLoad", "RoundResult", "some_traces", "summary"]

SLOWEST_PER_S = 12
"""Live images are made for a replay of so many ids a second."""

_TRACED_CANDIDATES = 30
"""Candidates of each trace: about 6 kB."""


@dataclass(frozen=True, slots=True)
class ReplayLoad:
    """How much is loaded, replayed and traced, and how live images come meanwhile."""

    images: int
    ids: int
    traces: int
    rate: float
    seconds: float
    rounds: int


@dataclass(frozen=True, slots=True)
class RoundResult:
    """Live images in one round, and the pace of the replay beside them; 0: there was none."""

    live: Latency
    replayed_per_s: float = 0.0


SUMMARY = ("live_p99_ms", "live_p99_beside_replay_ms", "ratio", "replayed_per_s")
"""What `summary` gives."""


def summary(without: Sequence[RoundResult], beside: Sequence[RoundResult]) -> dict[str, float]:
    """The medians of the rounds: live p99 without and beside a replay, their ratio, replayed ids a second."""
    alone = median(each.live.p99_ms for each in without)
    together = median(each.live.p99_ms for each in beside)
    return {
        "live_p99_ms": alone,
        "live_p99_beside_replay_ms": together,
        "ratio": round(together / max(alone, 1), 2),
        "replayed_per_s": round(median(each.replayed_per_s for each in beside), 1),
    }


def some_traces(count: int, seed: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of made-up traces, of the size of ordinary ones."""
    dice = random.Random(seed)
    for number in range(count):
        image_id = f"traced-{number:08d}"
        candidates = tuple(
            TracedCandidate(
                f"image-{dice.randrange(10**8):08d}", number, dice.randrange(128), dice.random(), lost="worse"
            )
            for _ in range(_TRACED_CANDIDATES)
        )
        trace = Trace(
            kind="image",
            image_id=image_id,
            version=1,
            position=number,
            place=number,
            outcome="decided",
            cause="founded",
            reason="sampled",
            decided_at_ms=time.time_ns() // 10**6,
            candidates=candidates,
            choice=Choice(image_id, None, None, None, None, "no_match"),
        )
        yield image_id.encode(), trace_json(trace)


class ReplayRun:
    """One run, from an empty folder to a result."""

    def __init__(self, settings: Settings, load: ReplayLoad) -> None:
        self._settings = settings
        self._load = load
        self._name, self._signal = settings.signal()
        self._deployment = Deployment(settings)
        self._verdicts = Verdicts()
        self._sent = 0

    def run(self) -> dict[str, Any]:
        """Loads, measures, and stops all parts in any case."""
        empty(self._deployment)
        images = self._images()
        with started(self._deployment):
            result = self._measure(iter(images))
        return {**measured_with("benchmarks.replay"), "load": asdict(self._load), **result}

    def _images(self) -> ImageFile:
        load = self._load
        # A round beside a replay lasts until the replay is done: there must be images enough.
        live = int(load.rate * load.rounds * (2 * load.seconds + load.ids / SLOWEST_PER_S))
        return synthetic_images(self._settings, [f"image-{number:08d}" for number in range(load.images + live)])

    def _measure(self, rows: Iterator[ImageRow]) -> dict[str, Any]:
        load = self._load
        access = self._settings.kafka_access("neardup-bench-replay")
        with (
            TopicReader(access, self._signal.topic("assignments")) as changes,
            Publisher(self._settings) as publisher,
        ):
            say(f"loading {load.images:,} images")
            loaded = list(islice(rows, load.images))
            ids = [ImageId(row.image_id) for row in random.Random(2).sample(loaded, load.ids)]
            self._publish(iter(loaded), publisher, changes, rate=None)
            await_verdicts(self._verdicts, changes, self._sent)
            without, beside = [], []
            for number in range(load.rounds):
                without.append(self._round(rows, publisher, changes, None))
                say(f"round {number + 1} without a replay: {without[-1].live}")
                beside.append(self._round(rows, publisher, changes, ids))
                say(f"round {number + 1} beside a replay: {beside[-1]}")
            tried_per_s = self._trials(ids)
            say(f"trials outside the order: {tried_per_s:,.0f} a second")
            shown = self._traces(publisher)
        return {
            **summary(without, beside),
            "tried_per_s": round(tried_per_s, 1),
            "debug_show": shown,
            "rounds": [asdict(each) for pair in zip(without, beside, strict=True) for each in pair],
        }

    def _round(
        self, rows: Iterator[ImageRow], publisher: Publisher, changes: TopicReader, ids: Sequence[ImageId] | None
    ) -> RoundResult:
        """Live images for some seconds, or until the replay of the ids is done."""
        known, until = set(self._verdicts.waits_ms), time.monotonic() + self._load.seconds
        replay = None if ids is None else _Replay(self._settings, self._name, ids)
        if replay is not None:
            replay.start()

        def live() -> Iterator[ImageRow]:
            while time.monotonic() < until or (replay is not None and replay.is_alive()):
                row = next(rows, None)
                if row is None:
                    raise UnavailableError(f"no live images are left: fewer than {SLOWEST_PER_S} ids/s came back")
                yield row

        self._publish(live(), publisher, changes, rate=self._load.rate)
        await_verdicts(self._verdicts, changes, self._sent)
        pace = 0.0 if replay is None else replay.pace()
        waits = [ms for image, ms in self._verdicts.waits_ms.items() if image not in known]
        return RoundResult(latency(waits), pace)

    def _publish(
        self, rows: Iterator[ImageRow], publisher: Publisher, changes: TopicReader, rate: float | None
    ) -> None:
        def read(sent: int) -> None:
            if sent % 20 == 0:
                self._verdicts.take(changes.poll(0.0))

        self._sent += publish(rows, publisher, rate=rate, on_sent=read)

    def _trials(self, ids: Sequence[ImageId]) -> float:
        started, report = time.monotonic(), DiffReport()
        with (
            ReplayService(self._settings, self._name, Right.READ) as service,
            TrialService(self._settings, self._name, service.storage, "") as trial,
        ):
            for page in service.images(ReplaySelection(ids), lambda done, total: None):
                trial.add(page, report)
        return len(ids) / (time.monotonic() - started)

    def _traces(self, publisher: Publisher) -> dict[str, Any]:
        topic, count = self._signal.topic("debug"), self._load.traces
        say(f"{count:,} traces")
        for key, value in some_traces(count):
            publisher.send_raw(topic, key, value)
        publisher.flush()
        return {
            "oldest": self._show(f"traced-{0:08d}"),
            "newest": self._show(f"traced-{count - 1:08d}"),
        }

    def _show(self, image_id: str) -> dict[str, float]:
        """Seconds and peak memory of `neardup debug show`."""
        environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("NEARDUP_")}
        environment[SETTINGS_FILE_VARIABLE] = str(self._deployment.settings_file)
        command = [str(Path(sys.executable).with_name("neardup")), "debug", "show", image_id, "--json"]
        started, peak_mb = time.monotonic(), 0.0
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                peak_mb = max(peak_mb, _peak_mb(process.pid))
                time.sleep(0.01)
        if process.returncode:
            raise UnavailableError(f"{' '.join(command)} failed with status {process.returncode}")
        return {"seconds": round(time.monotonic() - started, 2), "peak_mb": round(peak_mb, 1)}


def _peak_mb(pid: int) -> float:
    """The most memory that a process has had. `wait4` would count that of its parent, before the program began."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


class _Replay(threading.Thread):
    """A replay by force, beside the live images."""

    def __init__(self, settings: Settings, name: str, ids: Sequence[ImageId]) -> None:
        super().__init__(name="replay", daemon=True)
        self._settings, self._signal_name, self._ids = settings, name, ids
        self._pace = 0.0
        self._error: NeardupError | None = None

    def run(self) -> None:
        wanted = replay_of(new_request("bench"), force=True, bulk=True)
        started = time.monotonic()
        try:
            with ReplayService(self._settings, self._signal_name, Right.WRITE) as service:
                pages = service.images(ReplaySelection(self._ids), lambda done, total: None)
                done = service.send(pages, wanted, resumed=False, keep_old=False, on_look=lambda progress: None)
            self._pace = done.applied / (time.monotonic() - started)
        except NeardupError as error:
            self._error = error

    def pace(self) -> float:
        """Ids a second.

        Raises:
            NeardupError: The replay failed.
        """
        self.join()
        if self._error is not None:
            raise self._error
        return round(self._pace, 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 0 when every image got its verdict and every id was replayed and tried."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000, help="images that are loaded first")
    parser.add_argument("--ids", type=int, default=10_000, help="ids that are replayed and tried")
    parser.add_argument("--traces", type=int, default=100_000, help="traces in the topic `debug`")
    parser.add_argument("--rate", type=float, default=100.0, help="live images a second")
    parser.add_argument("--seconds", type=float, default=40.0, help="the least length of a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds without and with a replay")
    arguments = parser.parse_args(argv)
    settings = load_settings()
    load = ReplayLoad(
        arguments.images, arguments.ids, arguments.traces, arguments.rate, arguments.seconds, arguments.rounds
    )
    out = settings.data_dir / "bench" / "replay.json"

    def show(result: dict[str, Any]) -> None:
        for name in (*SUMMARY, "tried_per_s", "debug_show"):
            print(f"{name:<28}{result[name]}")

    return carried_out(ReplayRun(with_data(settings, settings.data_dir / "replay"), load).run, out, show)


if __name__ == "__main__":
    sys.exit(main())
