"""The memory of all parts over a large corpus: `make bench-memory`.

A million images through the stream take more than an hour. So the store is filled directly with synthetic images, each
with its embeddings, code and cluster, and the index is built from the store. Then all parts start on these, on a new
topic `joined` that begins after the last position, and images pass at a steady rate. Measured is the proportional share
(PSS) of each part's processes: memory that several processes share counts once.

    python -m benchmarks.memory                                         what `make bench-memory` runs
    python -m benchmarks.memory --images 20000 --passing 500            a short one

It writes `var/bench/memory.json`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.machine import measured_with
from benchmarks.pipeline.corpus import image_name, open_images
from benchmarks.search.results import table
from benchmarks.service_run import await_verdicts, carried_out, empty, say, started
from benchmarks.synthetic import SyntheticSettings, Universe, write_images
from core.errors import UnavailableError
from core.overrides import JOB_KINDS
from core.types import Cause, Decision, ImageId, Move, Outcome, Versions
from storage.opening import open_store
from storage.records import StoreEpoch
from stream.broker import Broker
from stream.data_folders import with_data
from stream.demo.sample import SAMPLE
from stream.hashing import code_settings
from stream.local.parts import deployment_parts
from stream.local.supervisor import Deployment
from stream.publish import Publisher, publish
from stream.servers import store_identity
from stream.settings import SETTINGS_FILE_VARIABLE, Settings, load_settings
from stream.topic_plans import topic_plans
from stream.topic_reader import TopicReader
from stream.verdicts import Verdicts

BATCH = 512
RATE = 100.0
"""Images a second that pass while memory is read."""

MIB = 1 << 20


def new_topic(settings: Settings) -> str:
    """Makes the topics of the signal on a new broker; returns Kafka's id of `joined`."""
    _, signal = settings.signal()
    broker = Deployment(settings, [part for part in deployment_parts(settings) if part.name == "broker"])
    with started(broker), Broker(settings.kafka_access("neardup-memory")) as kafka:
        kafka.create(topic_plans(signal, settings.kafka))
        return kafka.topic_id(signal.topic("joined"))


def fill(settings: Settings, images: int, topic_id: str) -> None:
    """Writes images into the store, which then goes on with an empty topic."""
    name, signal = settings.signal()
    universe, coder = Universe(settings.path(SAMPLE), SyntheticSettings()), code_settings(settings, signal).build()
    originals = universe.originals(images)
    heads: dict[int, ImageId] = {}
    with closing(
        open_store(signal.store_class, settings.signal_dir(name, "store"), store_identity(settings, name))
    ) as store:
        for first in range(0, images, BATCH):
            numbers = np.arange(first, min(first + BATCH, images))
            search, score = universe.vectors(numbers, originals[numbers])
            codes = coder.codes(score.astype(np.float32), search.astype(np.float32))
            batch = []
            for row, number in enumerate(numbers.tolist()):
                image = ImageId(image_name(number))
                head = heads.setdefault(int(originals[number]), image)
                cause = Cause.FOUNDED if head == image else Cause.MATCHED
                matched = (None, None) if head == image else (0.99, head)
                batch.append(
                    Decision(
                        offset=number,
                        checksum=0,
                        outcome=Outcome.DECIDED,
                        image_id=image,
                        version=0,
                        place=number,
                        moves=(Move(image, None, head, cause, *matched),),
                        score_code=codes[row].tobytes(),
                        search_vector=search[row].tobytes(),
                        score_vector=score[row].tobytes(),
                        versions=Versions("filled", "filled"),
                    )
                )
            store.apply("filled", batch, first - 1, 0, JOB_KINDS)
            if first % (100 * BATCH) == 0:
                say(f"{first:,} of {images:,} images are in the store")
        store.renew(topic_id, images)
        # What was filled is not for the topic of changes.
        store.begin_epoch(StoreEpoch(time.time_ns() // 10**6, "filled", images + 1))


def build_index(deployment: Deployment) -> None:
    """Builds the index from the folder of the store, by the command that people use."""
    say("building the index from the store")
    command = (str(Path(sys.executable).with_name("neardup")), "index", "build", "--from", "storage", "--no-catch-up")
    environment = {**os.environ, SETTINGS_FILE_VARIABLE: str(deployment.settings_file)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UnavailableError(f"the index cannot be built: {done.stdout}{done.stderr}")


def memory_mib(deployment: Deployment) -> dict[str, int]:
    """The proportional share of each part with all of its processes, MiB."""
    found = {}
    for part in deployment.status():
        if part.pid is not None:
            main = psutil.Process(part.pid)
            shares = [each.memory_full_info().pss for each in (main, *main.children(recursive=True))]
            found[part.name] = round(sum(shares) / MIB)
    return found


def pass_images(settings: Settings, images: int, passing: int) -> None:
    """Sends further images at a steady rate, and waits for their verdicts."""
    _, signal = settings.signal()
    path = settings.data_dir / "passing.parquet"
    universe = Universe(settings.path(SAMPLE), SyntheticSettings(seed=2))
    write_images(universe, path, [image_name(images + number) for number in range(passing)])
    verdicts = Verdicts()
    with (
        TopicReader(settings.kafka_access("neardup-memory"), signal.topic("assignments")) as changes,
        Publisher(settings) as publisher,
    ):
        _, end = changes.ends()
        changes.seek(end)
        publish(open_images(settings, path), publisher, rate=RATE)
        await_verdicts(verdicts, changes, passing)


def measure(settings: Settings, images: int, passing: int) -> dict[str, Any]:
    """Fills, builds, starts and reads."""
    deployment = Deployment(settings)
    empty(deployment)
    topic_id = new_topic(settings)
    fill(settings, images, topic_id)
    build_index(deployment)
    with started(deployment):
        idle = memory_mib(deployment)
        say(f"{passing:,} images at {RATE:g}/s")
        pass_images(settings, images, passing)
        loaded = memory_mib(deployment)
    return {
        **measured_with("benchmarks.memory"),
        "images": images,
        "passing": passing,
        "started_mib": idle,
        "passed_mib": loaded,
        "all_parts_gb": round(sum(loaded.values()) * MIB / 1e9, 2),
    }


def show(result: dict[str, Any]) -> None:
    """Prints the table."""
    rows = [(name, result["started_mib"].get(name, ""), mib) for name, mib in result["passed_mib"].items()]
    table(f"memory of the parts, MiB (PSS), {result['images']:,} images", ("part", "started", "passed"), rows)
    print(f"all parts: {result['all_parts_gb']} GB")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000, help="in store and index")
    parser.add_argument("--passing", type=int, default=5_000, help="images that pass while all parts run")
    parser.add_argument("--data", type=Path, help="data folder; default: `memory` below that of the settings")
    parser.add_argument("--out", type=Path, help="file of the result; default: bench/memory.json below that folder")
    arguments = parser.parse_args(argv)
    settings = load_settings()
    own = with_data(settings, arguments.data or settings.data_dir / "memory")
    out = arguments.out or settings.data_dir / "bench" / "memory.json"
    return carried_out(lambda: measure(own, arguments.images, arguments.passing), out, show)


if __name__ == "__main__":
    sys.exit(main())
