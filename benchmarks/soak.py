"""The whole service under a steady load: `make soak`.

Starts its own parts in its own folder, with checkpoints on. Sends 100,000 synthetic images at full speed, then 100 a
second for ten minutes, then 200 a second for one minute. Measures for each phase how long images wait for their
verdict: from the arrival of the second half in Kafka to the publication of the verdict, which follows its durable
write. Reads the memory of every part when the parts are up, after the preload, and at the end. Checks the store last.

    python -m benchmarks.soak                                                          what `make soak` runs
    python -m benchmarks.soak --preload 5000 --steady-s 30 --peak-s 10                 a short one
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.machine import measured_with, resident_mb
from benchmarks.service_run import await_verdicts, carried_out, empty, say, started, synthetic_images
from benchmarks.synthetic import SyntheticSettings
from core.access import Right
from manifests.image_files import ImageFile, ImageRow
from storage.serving.client import StorageClient
from stream.access import credentials
from stream.data_folders import with_data
from stream.local.supervisor import Deployment
from stream.publish import Publisher, publish
from stream.settings import Settings, load_settings
from stream.topic_reader import TopicReader
from stream.verdicts import Latency, Verdicts, latency

_POLL_EVERY = 50
_SAY_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Phase:
    """A number of images at one rate; `rate` is in images per second, None for full speed."""

    name: str
    images: int
    rate: float | None


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """What was measured in one phase. `drained_s` is the time from the last image to the last verdict."""

    name: str
    images: int
    sent_per_s: float
    drained_s: float
    latency: Latency


def phases(arguments: argparse.Namespace) -> list[Phase]:
    """The phases that the arguments describe; phases without images are left out."""
    wanted = [
        Phase("preload", arguments.preload, None),
        Phase("steady", round(arguments.steady_rate * arguments.steady_s), arguments.steady_rate),
        Phase("peak", round(arguments.peak_rate * arguments.peak_s), arguments.peak_rate),
    ]
    return [phase for phase in wanted if phase.images]


def image_ids(load: Sequence[Phase]) -> list[str]:
    """One id per image, in the order of sending; the phase is in the name."""
    return [f"{phase.name}-{number:07d}" for phase in load for number in range(phase.images)]


def waits_by_phase(verdicts: Verdicts) -> dict[str, list[int]]:
    """The waits of each phase, in milliseconds."""
    waits: dict[str, list[int]] = defaultdict(list)
    for (image_id, _), wait_ms in verdicts.waits_ms.items():
        waits[image_id.partition("-")[0]].append(wait_ms)
    return waits


class Soak:
    """One run, from an empty folder to a result."""

    def __init__(self, settings: Settings, load: list[Phase], synthetic: SyntheticSettings) -> None:
        self._settings = settings
        self._load = load
        self._synthetic = synthetic
        self._deployment = Deployment(settings)
        self._signal = settings.signal()[1]
        self._memory: dict[str, dict[str, int]] = {}
        self._verdicts = Verdicts()

    def run(self) -> dict[str, Any]:
        """Makes the images, starts all parts, sends the load, checks the store; stops all parts in any case."""
        empty(self._deployment)
        images = synthetic_images(self._settings, image_ids(self._load), self._synthetic)
        with started(self._deployment):
            self._remember_memory("up")
            results = self._measure(images)
            self._remember_memory("end")
            say("checking the store")
            law = self._verify()
        return {
            **measured_with("benchmarks.soak"),
            "synthetic": asdict(self._synthetic),
            "checkpoint_interval_s": self._settings.flink.checkpoint_interval_s,
            "phases": [asdict(result) for result in results],
            "memory_mb": self._memory,
            "law_2": law,
            "clusters": len(self._verdicts.clusters()),
            "largest_cluster": max(map(len, self._verdicts.clusters().values()), default=0),
        }

    def _measure(self, images: ImageFile) -> list[PhaseResult]:
        rows = iter(images)
        found = []
        access = self._settings.kafka_access("neardup-soak")
        with (
            TopicReader(access, self._signal.topic("assignments")) as reader,
            Publisher(self._settings) as publisher,
        ):
            sent_before = 0
            for phase in self._load:
                say(f"{phase.name}: {phase.images:,} images" + (f" at {phase.rate:g} a second" if phase.rate else ""))
                started = time.monotonic()
                self._send(islice(rows, phase.images), phase, publisher, reader)
                sent_s = time.monotonic() - started
                sent_before += phase.images
                await_verdicts(self._verdicts, reader, sent_before)
                drained_s = time.monotonic() - started - sent_s
                waits = latency(waits_by_phase(self._verdicts)[phase.name])
                found.append(
                    PhaseResult(phase.name, phase.images, round(phase.images / sent_s, 1), round(drained_s, 1), waits)
                )
                say(f"  p50 {waits.p50_ms:,} ms, p99 {waits.p99_ms:,} ms, longest {waits.max_ms:,} ms")
                if phase.rate is None:
                    self._remember_memory("preloaded")
        return found

    def _send(self, rows: Iterable[ImageRow], phase: Phase, publisher: Publisher, reader: TopicReader) -> None:
        said_at = time.monotonic()

        def on_sent(sent: int) -> None:
            nonlocal said_at
            if sent % _POLL_EVERY == 0:
                self._verdicts.take(reader.poll(0.0))
                if time.monotonic() - said_at > _SAY_EVERY_S:
                    said_at = time.monotonic()
                    say(f"  {sent:,} sent, {len(self._verdicts.heads):,} verdicts in all")

        publish(rows, publisher, rate=phase.rate, on_sent=on_sent)

    def _verify(self) -> dict[str, Any]:
        server = self._signal.storage
        proof = credentials(self._settings, Right.READ)
        with closing(StorageClient(server.address, 10.0, server.max_message_bytes, proof)) as storage:
            *_, last = storage.verify()
        return {
            "sound": last.done and last.problem_count == 0,
            "images": last.images,
            "clusters": last.clusters,
            "problem_count": last.problem_count,
            "problems": list(last.problems),
        }

    def _remember_memory(self, moment: str) -> None:
        self._memory[moment] = resident_mb(self._deployment)


def report(result: dict[str, Any]) -> str:
    """The result as tables."""
    lines = [f"{'phase':<10}{'images':>10}{'sent/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}{'drained s':>11}"]
    for phase in result["phases"]:
        waits = phase["latency"]
        lines.append(
            f"{phase['name']:<10}{phase['images']:>10,}{phase['sent_per_s']:>10,.0f}{waits['p50_ms']:>10,}"
            f"{waits['p99_ms']:>10,}{waits['max_ms']:>10,}{phase['drained_s']:>11,.1f}"
        )
    moments = list(result["memory_mb"])
    lines += ["", f"{'memory, MB':<20}" + "".join(f"{moment:>12}" for moment in moments)]
    for part in result["memory_mb"][moments[-1]] if moments else ():
        cells = (result["memory_mb"][moment].get(part) for moment in moments)
        lines.append(f"{part:<20}" + "".join(f"{'' if cell is None else f'{cell:,}':>12}" for cell in cells))
    law = result["law_2"]
    lines += [
        "",
        f"law 2: {'sound' if law['sound'] else 'BROKEN'}, {law['images']:,} images, {law['clusters']:,} clusters",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 0 when it finished and the store is sound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preload", type=int, default=100_000, help="images sent at full speed before the measurement")
    parser.add_argument("--steady-rate", type=float, default=100.0, help="images a second")
    parser.add_argument("--steady-s", type=float, default=600.0, help="how long")
    parser.add_argument("--peak-rate", type=float, default=200.0, help="images a second")
    parser.add_argument("--peak-s", type=float, default=60.0, help="how long")
    parser.add_argument("--seed", type=int, default=1, help="seed of the synthetic images")
    parser.add_argument("--data", type=Path, help="data folder; default: `soak` below the data folder of the settings")
    parser.add_argument(
        "--out", type=Path, help="file of the result; default: bench/soak.json below the data folder of the settings"
    )
    arguments = parser.parse_args(argv)
    settings = load_settings()
    soaked = with_data(settings, arguments.data or settings.data_dir / "soak")
    out = arguments.out or settings.data_dir / "bench" / "soak.json"

    def show(result: dict[str, Any]) -> int:
        print(report(result))
        return 0 if result["law_2"]["sound"] else 5

    return carried_out(Soak(soaked, phases(arguments), SyntheticSettings(seed=arguments.seed)).run, out, show)


if __name__ == "__main__":
    sys.exit(main())
