"""Where a forgotten image still lies, and until when: for each place it is erased, or there is a time, or advice. Pure.

Kafka deletes whole segments, so a record may outlive the retention of its topic by as long as a segment is written to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from storage.forgotten import ForgottenImage

__all__ = [
    "ERASED_WITHIN_MS",
    "Fate",
    "Remains",
    "backup_remains",
    "checkpoint_remains",
    "file_remains",
    "index_remains",
    "override_remains",
    "store_remains",
    "topic_remains",
]

ERASED_WITHIN_MS = 24 * 3600 * 1000
"""The servers erase an image within a day."""

KAFKA_SLACK_MS = 10 * 60 * 1000
"""Kafka looks for old segments every five minutes, and removes their files a minute later."""

CHECKPOINTS_KEPT = 3
"""Flink keeps so many of a running job."""


class Fate(StrEnum):
    """What becomes of an image in one place."""

    ERASED = "erased"
    UNTIL = "until"
    STAYS = "stays"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Remains:
    """One place."""

    place: str
    fate: Fate
    at_ms: int | None = None
    """When it was erased, or by when it will be gone; milliseconds since the epoch."""
    note: str = ""
    """What to do, or why."""


def store_remains(image: ForgottenImage) -> Remains:
    """The store: heads, members, embeddings and history, with all its files."""
    if image.erased_at_ms:
        return Remains("store", Fate.ERASED, image.erased_at_ms)
    return Remains("store", Fate.UNTIL, image.forgotten_at_ms + ERASED_WITHIN_MS)


def override_remains(image: ForgottenImage) -> Remains:
    """The overrides that name it."""
    if not image.overrides:
        return Remains("overrides", Fate.ERASED)
    numbers = ", ".join(map(str, image.overrides))
    return Remains("overrides", Fate.STAYS, note=f"overrides.log names it in {numbers}: overrides are kept for ever")


def index_remains(image: ForgottenImage, erased: bool | None) -> Remains:
    """The segments and logs of the term index; None: the search server does not answer."""
    if erased is None:
        return Remains("index", Fate.UNKNOWN, note="the search server does not answer: ask again")
    if erased:
        return Remains("index", Fate.ERASED)
    return Remains("index", Fate.UNTIL, image.forgotten_at_ms + ERASED_WITHIN_MS)


def topic_remains(topic: str, configs: Mapping[str, str], since_ms: int) -> Remains:
    """A topic whose last record about the image is not younger than a time.

    Args:
        topic: Its name.
        configs: Its settings in effect.
        since_ms: Milliseconds since the epoch.
    """
    retention_ms = int(configs.get("retention.ms", -1))
    if retention_ms < 0 or "delete" not in configs.get("cleanup.policy", "delete"):
        return Remains(
            topic,
            Fate.STAYS,
            note="records never expire: if any is about the image, set retention.ms, or delete up to it with "
            "kafka-delete-records",
        )
    segment_ms = int(configs.get("segment.ms", ERASED_WITHIN_MS * 7))
    return Remains(topic, Fate.UNTIL, since_ms + retention_ms + segment_ms + KAFKA_SLACK_MS)


def checkpoint_remains(since_ms: int, join_timeout_s: float, interval_s: float) -> Remains:
    """The checkpoints of a running job: its state lets go within the join's time, and newer ones replace them."""
    kept_s = join_timeout_s + (CHECKPOINTS_KEPT + 1) * interval_s
    return Remains("checkpoints", Fate.UNTIL, since_ms + round(1000 * kept_s), "while the job runs")


def file_remains(place: str, files: Iterable[tuple[Path, int]], since_ms: int, advice: str) -> Remains:
    """Copies that may be older than a time.

    Args:
        place: What they are called.
        files: Each with the time when it was made.
        since_ms: Copies from before this time may hold the image.
        advice: How they are deleted.
    """
    old = sorted(path.name for path, made_ms in files if made_ms <= since_ms)
    if not old:
        return Remains(place, Fate.ERASED)
    return Remains(place, Fate.STAYS, note=f"{', '.join(old)}: {advice}")


def backup_remains() -> Remains:
    """Copies that nobody here knows of."""
    return Remains(
        "backups",
        Fate.UNKNOWN,
        note="copies of folders or topics that you made before: delete them, or let them age",
    )
