"""One run of each kind: the bare loop, the service, and each consumer that somebody writes instead."""

from __future__ import annotations

import json
import os
import signal as signals
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.pipeline.load import PipelineLoad, Stretch, StretchResult
from benchmarks.pipeline.neighbours import Kind
from benchmarks.pipeline.plain import READY
from benchmarks.pipeline.usage import UsageMeter
from benchmarks.service_run import empty, say, started
from core.errors import UnavailableError
from manifests.image_files import ImageFile
from stream.data_folders import with_data
from stream.local.parts import deployment_parts
from stream.local.supervisor import Deployment
from stream.publish import Publisher
from stream.settings import SETTINGS_FILE_VARIABLE, Settings
from stream.topic_reader import TopicReader

__all__ = ["PEERS", "Peer", "Plan", "run_bare", "run_peer", "run_service", "service_stretches"]

_FILL_PATIENCE_S = 1_800.0
_STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    images: int
    """In index and store when the measurement begins."""
    saturated: int
    """Images of the measurement at full speed."""
    peer_images: int
    """The same for each alternative, which is slower."""
    seconds: float
    """Of each rate."""
    rates: tuple[float, ...]
    """Images a second."""
    seed: int

    @property
    def most(self) -> int:
        """Images that the file must have."""
        return self.images + self.saturated + round(self.seconds * (sum(self.rates) + 2 * max(self.rates)))

    def compared(self, per_s: float) -> float:
        """The rate at which waits are compared: half of a speed, and no more than there are images for."""
        return min(per_s / 2, 2 * max(self.rates))


@dataclass(frozen=True, slots=True)
class Peer:
    """One consumer that somebody writes instead of the service."""

    name: str
    kind: Kind
    options: tuple[str, ...] = ()


PEERS = (
    Peer("plain consumer, HNSW, image by image", "hnsw"),
    Peer("plain consumer, HNSW, batches of a poll", "hnsw", ("--batches",)),
    Peer("plain consumer, Flat, image by image", "flat"),
    Peer("plain consumer, Flat, batches of a poll", "flat", ("--batches",)),
    Peer("Quix Streams, HNSW, image by image", "hnsw", ("--quix",)),
)
"""The first one's speed sets the rate at which waits are compared."""


def service_stretches(plan: Plan, compared: float | None) -> list[Stretch]:
    """What the service is sent: a fill and a measurement at full speed, then each rate, and the compared one."""
    rates = [*plan.rates, *([compared] if compared else [])]
    return [
        Stretch("fill", plan.images),
        Stretch("saturated", plan.saturated),
        *(Stretch(f"{rate:g}/s", max(1, round(rate * plan.seconds)), rate) for rate in rates),
    ]


def run_bare(settings: Settings, images: ImageFile, plan: Plan) -> dict[str, Any]:
    """Runs the bare loop in a process of its own; what it wrote."""
    folder = settings.data_dir / "bare"
    empty(Deployment(with_data(settings, folder)))
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "bare.json"
    command = [sys.executable, "-m", "benchmarks.pipeline.bare", "--images", str(images.path)]
    command += ["--fill", str(plan.images), "--measured", str(plan.saturated)]
    command += ["--data", str(folder), "--out", str(out)]
    if subprocess.run(command, check=False).returncode != 0:
        raise UnavailableError("the bare loop failed")
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def run_service(settings: Settings, images: ImageFile, stretches: Sequence[Stretch]) -> list[StretchResult]:
    """Starts all parts, sends the stretches, stops all parts."""
    own = with_data(settings, settings.data_dir / "service")
    deployment = Deployment(own)
    empty(deployment)
    with started(deployment), _loading(own, images, 0, _pids(deployment)) as load:
        return [load.run(stretch) for stretch in stretches]


def run_peer(
    settings: Settings, images: ImageFile, plan: Plan, peer: Peer, recall: float, compared: float | None
) -> tuple[list[StretchResult], Mapping[str, Any]]:
    """Runs one alternative on a broker of its own: at full speed, then at the compared rate.

    Args:
        settings: Of the service. The broker has the same ports.
        images: The file; the consumer knows the first `plan.images` from the beginning.
        plan: How much is measured.
        peer: Which one.
        recall: The share of copies that a graph must find.
        compared: Images a second; None: half of what it reaches itself.

    Returns:
        What was measured, and what the consumer chose for its index.
    """
    own = with_data(settings, settings.data_dir / "peer")
    deployment = Deployment(own, [part for part in deployment_parts(own) if part.name in ("broker", "topics")])
    empty(deployment)
    folder = settings.data_dir / "consumer"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.pipeline.plain", "--images", str(images.path)]
    command += ["--fill", str(plan.images), "--kind", peer.kind, "--recall", str(recall)]
    command += ["--folder", str(folder), *peer.options]
    with started(deployment), _consumer(command, deployment, folder / READY) as process:
        chosen: Mapping[str, Any] = json.loads((folder / READY).read_text(encoding="utf-8"))
        pids = {**_pids(deployment), "consumer": process.pid}
        with _loading(own, images, plan.images, pids) as load:
            found = [load.run(Stretch("saturated", plan.peer_images))]
            rate = compared or plan.compared(found[0].per_s)
            found.append(load.run(Stretch("compared", max(1, round(rate * plan.seconds)), rate)))
    return found, chosen


def _pids(deployment: Deployment) -> dict[str, int]:
    return {part.name: part.pid for part in deployment.status() if part.pid is not None}


@contextmanager
def _loading(settings: Settings, images: ImageFile, skip: int, pids: Mapping[str, int]) -> Iterator[PipelineLoad]:
    """A load of the images after the first ones, for the consumer that runs."""
    _, signal = settings.signal()
    access = settings.kafka_access("neardup-bench-pipeline")
    with TopicReader(access, signal.topic("assignments")) as changes, Publisher(settings) as publisher:
        yield PipelineLoad(islice(images, skip, None), publisher, changes, UsageMeter(settings, pids).read)


@contextmanager
def _consumer(command: Sequence[str], deployment: Deployment, ready: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A consumer that reads the topics of a deployment while the block runs."""
    ready.unlink(missing_ok=True)
    environment = {**os.environ, SETTINGS_FILE_VARIABLE: str(deployment.settings_file)}
    process = subprocess.Popen(command, env=environment)
    try:
        until = time.monotonic() + _FILL_PATIENCE_S
        while not ready.exists():
            if process.poll() is not None:
                raise UnavailableError(f"the consumer ended with status {process.returncode}")
            if time.monotonic() > until:
                raise UnavailableError(f"the consumer was not filled within {_FILL_PATIENCE_S:.0f} s")
            time.sleep(0.2)
        yield process
    finally:
        process.send_signal(signals.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            say("the consumer does not end: killed")
            process.kill()
            process.wait()
