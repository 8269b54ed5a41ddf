"""Bytes on disk that an image takes in each part, and a flood of junk beside ordinary images: `make bench-capacity`.

Starts its own parts in its own folder. Sends synthetic images at full speed and measures the folders of all parts
before and after. Then it sends junk to the topic of search embeddings at full speed, while images go on at a steady
rate. It measures how long these images wait for their verdict, and the bytes of a dead letter. It stops all parts, and
last it builds an index from the store, which shows the size of sealed segments.

    python -m benchmarks.capacity                                       what `make bench-capacity` runs
    python -m benchmarks.capacity --images 1000 --junk 5000             a short one
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from benchmarks.machine import measured_with
from benchmarks.service_run import await_verdicts, carried_out, empty, say, started, synthetic_images
from core.errors import UnavailableError
from manifests.image_files import ImageFile, ImageRow
from search.index.generations import IndexGenerations
from stream.data_folders import with_data
from stream.local.supervisor import Deployment
from stream.publish import Publisher, publish
from stream.settings import SETTINGS_FILE_VARIABLE, Settings, load_settings
from stream.topic_reader import TopicReader
from stream.verdicts import Verdicts, latency

__all__ = ["MONTH_IMAGES", "Load", "capacity_table", "topic_bytes", "used_bytes"]

MONTH_IMAGES = 100 * 86_400 * 30
"""Images of 30 days at 100 a second: 259.2 million."""

_STALL_S = 180.0
_Topic = Literal["search", "score", "joined", "assignments", "dead_letter"]
_GROWING: tuple[_Topic, ...] = ("search", "score", "joined", "assignments")
"""The topics of which every image gets its records."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much is sent: images at full speed, then junk records beside images at a rate."""

    images: int
    junk: int
    junk_bytes: int
    beside: int
    rate: float


def used_bytes(folder: Path, pattern: str = "*") -> int:
    """Sizes of the files below a folder; linked files count once. 0 if the folder is missing."""
    sizes = {}
    for path in folder.rglob(pattern):
        try:
            stat = path.lstat()
        except FileNotFoundError:
            continue  # a part has removed it in this moment
        if not path.is_symlink() and path.is_file():
            sizes[stat.st_ino] = stat.st_size
    return sum(sizes.values())


def topic_bytes(kafka: Path, topic: str) -> int:
    """Bytes of the records of a topic: its segments without their indexes, of all partitions."""
    folders = [each for each in kafka.glob(f"{topic}-*") if each.name.removeprefix(f"{topic}-").isdigit()]
    return sum(used_bytes(each, "*.log") for each in folders)


class CapacityRun:
    """One run, from an empty folder to a result."""

    def __init__(self, settings: Settings, load: Load) -> None:
        self._settings = settings
        self._load = load
        self._name, self._signal = settings.signal()
        self._deployment = Deployment(settings)
        self._verdicts = Verdicts()

    def run(self) -> dict[str, Any]:
        """Sends everything and measures; stops all parts in any case."""
        empty(self._deployment)
        count = self._load.images + self._load.beside
        images = synthetic_images(self._settings, [f"image-{number:08d}" for number in range(count)])
        with started(self._deployment):
            result = self._measure(images)
        # Only now are all writes in tables: before, they also lie in RocksDB's log.
        store = used_bytes(self._settings.signal_dir(self._name, "store"))
        result["bytes_per_image"]["store"] = round(store / (self._load.images + self._load.beside), 1)
        return {
            **measured_with("benchmarks.capacity"),
            "load": asdict(self._load),
            **result,
        }

    def _measure(self, images: ImageFile) -> dict[str, Any]:
        load, rows = self._load, iter(images)
        access = self._settings.kafka_access("neardup-capacity")
        with (
            TopicReader(access, self._signal.topic("assignments")) as changes,
            TopicReader(access, self._signal.topic("dead_letter")) as letters,
            Publisher(self._settings) as publisher,
        ):
            before = self._folders()
            say(f"{load.images:,} images at full speed")
            publish(islice(rows, load.images), publisher)
            await_verdicts(self._verdicts, changes, load.images)
            after = self._folders()
            per_image: dict[str, float] = {
                name: round((after[name] - before[name]) / load.images, 1) for name in _GROWING
            }
            say(f"{load.junk:,} junk records, {load.beside:,} images beside them")
            known = set(self._verdicts.waits_ms)
            started = time.monotonic()
            self._flood(list(rows), publisher, changes)
            sent_s = time.monotonic() - started
            await_verdicts(self._verdicts, changes, load.images + load.beside)
            verdicts_s = time.monotonic() - started
            self._await(lambda: letters.ends()[1] >= load.junk, "not all junk records are dead letters")
            flood_s = time.monotonic() - started
            flooded = self._folders()
        say("building an index of sealed segments")
        per_image["index"] = round(self._sealed_index_bytes() / (load.images + load.beside), 1)
        waits = latency(ms for image, ms in self._verdicts.waits_ms.items() if image not in known)
        return {
            "bytes_per_image": per_image,
            "steady_bytes": {name: flooded[name] for name in ("checkpoints", "logs", "flink_tmp")},
            "flood": {
                "sent_s": round(sent_s, 1),
                "all_verdicts_s": round(verdicts_s, 1),
                "all_dead_letters_s": round(flood_s, 1),
                "image_latency": asdict(waits),
                "bytes_per_dead_letter": round((flooded["dead_letter"] - after["dead_letter"]) / load.junk, 1),
            },
        }

    def _flood(self, rows: Sequence[ImageRow], publisher: Publisher, changes: TopicReader) -> None:
        """Sends the junk evenly between the images, which keep their rate."""
        share = self._load.junk // max(1, len(rows))
        junk = bytes(self._load.junk_bytes)
        topic = self._signal.topic("search")

        def with_junk() -> Iterator[ImageRow]:
            for number, row in enumerate(rows):
                for _ in range(share if number else self._load.junk - share * (len(rows) - 1)):
                    publisher.send_raw(topic, b"junk", junk)
                yield row

        def read(sent: int) -> None:
            if sent % 20 == 0:
                self._verdicts.take(changes.poll(0.0))

        publish(with_junk(), publisher, rate=self._load.rate, on_sent=read)

    def _folders(self) -> dict[str, int]:
        data = self._settings.data_dir
        kafka = data / "kafka" / "log"
        kinds: tuple[_Topic, ...] = (*_GROWING, "dead_letter")
        topics: dict[str, int] = {kind: topic_bytes(kafka, self._signal.topic(kind)) for kind in kinds}
        return {
            **topics,
            "checkpoints": used_bytes(self._settings.signal_dir(self._name, "job")),
            "logs": used_bytes(data / "log"),
            "flink_tmp": used_bytes(data / "flink" / "tmp"),
        }

    def _sealed_index_bytes(self) -> int:
        """Bytes of the index after all images were sealed: young ones lie in the log, which is larger."""
        command = (str(Path(sys.executable).with_name("neardup")), "index", "build", "--from", "storage")
        environment = {**_without_settings(), SETTINGS_FILE_VARIABLE: str(self._deployment.settings_file)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UnavailableError(f"the index cannot be built: {done.stdout}{done.stderr}")
        generations = IndexGenerations(self._settings.signal_dir(self._name, "index"))
        built = generations.current()
        if built is None:
            raise UnavailableError(f"{generations.path} has no index after the build")
        return used_bytes(generations.folder(built), "segment-*")

    @staticmethod
    def _await(done: Callable[[], bool], problem: str) -> None:
        until = time.monotonic() + _STALL_S
        while not done():
            if time.monotonic() > until:
                raise UnavailableError(f"{problem} after {_STALL_S:.0f} s")
            time.sleep(0.05)


def _without_settings() -> dict[str, str]:
    """The environment without settings, which would win over the file."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("NEARDUP_")}


def capacity_table(per_image: dict[str, float], images: int = MONTH_IMAGES) -> str:
    """Bytes an image and GB (1e9 bytes) for so many images, by part."""
    lines = [f"{'part':<14}{'bytes/image':>12}{f'GB for {images / 1e6:.0f} million':>22}"]
    lines += [f"{part:<14}{size:>12,.0f}{size * images / 1e9:>22,.0f}" for part, size in per_image.items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 0 when every image got its verdict and every junk record its dead letter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5_000, help="images whose bytes are measured")
    parser.add_argument("--junk", type=int, default=50_000, help="junk records of the flood")
    parser.add_argument("--junk-bytes", type=int, default=1_000, help="bytes of a junk record")
    parser.add_argument("--beside", type=int, default=1_000, help="images beside the flood")
    parser.add_argument("--rate", type=float, default=50.0, help="images a second beside the flood")
    arguments = parser.parse_args(argv)
    settings = load_settings()
    load = Load(arguments.images, arguments.junk, arguments.junk_bytes, arguments.beside, arguments.rate)
    out = settings.data_dir / "bench" / "capacity.json"

    def show(result: dict[str, Any]) -> None:
        print(capacity_table(result["bytes_per_image"]))
        flood = result["flood"]
        print(f"\nflood: {flood['image_latency']}, {flood['bytes_per_dead_letter']:,.0f} bytes a dead letter")

    return carried_out(CapacityRun(with_data(settings, settings.data_dir / "capacity"), load).run, out, show)


if __name__ == "__main__":
    sys.exit(main())
