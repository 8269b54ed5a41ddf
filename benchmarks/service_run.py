"""What benchmarks of the whole service share: parts of their own, synthetic images, and the wait for all verdicts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from benchmarks.machine import write_results
from benchmarks.synthetic import SyntheticSettings, Universe, write_images
from core.errors import NeardupError, UnavailableError
from manifests.image_files import ImageFile
from stream.data_folders import wipe
from stream.demo.sample import SAMPLE
from stream.interrupts import interruptible, undisturbed
from stream.local.supervisor import Deployment
from stream.settings import Settings
from stream.topic_reader import TopicReader
from stream.verdicts import Verdicts

__all__ = ["await_verdicts", "carried_out", "empty", "say", "started", "synthetic_images"]

_STALL_S = 300.0
_SAY_EVERY_S = 10.0


def say(text: str) -> None:
    """Prints a line of progress with the time, to standard error."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


def empty(deployment: Deployment) -> None:
    """Stops what an earlier run left, and empties the data folder."""
    if deployment.data.exists():
        deployment.down()
    wipe(deployment.data)


@contextmanager
def started(deployment: Deployment) -> Iterator[None]:
    """All parts run in the block, and are stopped after it in any case."""
    try:
        say("starting all parts")
        deployment.up()
        yield
    finally:
        with undisturbed():
            say("stopping all parts")
            deployment.down()


def synthetic_images(settings: Settings, ids: list[str], synthetic: SyntheticSettings | None = None) -> ImageFile:
    """Images of the default signal under these ids, in a file of the data folder."""
    say(f"making {len(ids):,} images")
    path = settings.data_dir / "images.parquet"
    write_images(Universe(settings.path(SAMPLE), synthetic or SyntheticSettings()), path, ids)
    _, signal = settings.signal()
    return ImageFile(path, signal.search_embedding.dimension, signal.score_embedding.dimension)


def await_verdicts(verdicts: Verdicts, changes: TopicReader, wanted: int) -> None:
    """Waits until so many images have a verdict.

    Args:
        verdicts: Those read so far.
        changes: Of the topic `assignments`, behind them.
        wanted: Images that were sent.

    Raises:
        UnavailableError: None came for five minutes.
    """
    moved_at = said_at = time.monotonic()
    while len(verdicts.heads) < wanted:
        before = len(verdicts.heads)
        verdicts.take(changes.poll(0.05))
        now = time.monotonic()
        if len(verdicts.heads) > before:
            moved_at = now
        elif now - moved_at > _STALL_S:
            raise UnavailableError(
                f"{before:,} of {wanted:,} images have a verdict, and none came for {_STALL_S:.0f} s"
            )
        if now - said_at > _SAY_EVERY_S:
            said_at = now
            say(f"  {len(verdicts.heads):,} of {wanted:,} verdicts")


def carried_out(measure: Callable[[], dict[str, Any]], out: Path, show: Callable[[dict[str, Any]], int | None]) -> int:
    """Measures, writes the result and shows it: what the main program of a benchmark does with its arguments.

    Args:
        measure: Gives the result.
        out: The file of the result.
        show: Prints the result. It may return an exit status.

    Returns:
        The exit status: that of `show`, or 0; 1 after an error; 130 after an interruption.
    """
    try:
        with interruptible():
            result = measure()
    except (NeardupError, CalledProcessError) as error:
        say(f"failed: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    write_results(out, result)
    status = show(result)
    say(f"written to {out}")
    return status or 0
