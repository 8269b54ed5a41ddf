"""The store that its benchmarks fill: ordinary images in clusters of six, and two large clusters."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from core.types import Cause, Decision, ImageId, Move, Outcome, Versions
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore

__all__ = ["BATCH", "LOG", "PAGE", "SMALL", "Filler", "decision", "fill", "giant_member", "name_of", "small_member"]

LOG = "benchmark"
SMALL = 6_000
"""Members of the cluster that the giant one is compared with."""

PAGE = 1_000
BATCH = 64
FILL_BATCH = 512


def name_of(number: int) -> ImageId:
    """The id of an ordinary image."""
    return ImageId(f"image-{number:010d}")


def decision(offset: int, image: ImageId, head: ImageId, version: int = 1, old: ImageId | None = None) -> Decision:
    """A decision of the size that real ones have: vectors of 1,280 and 768 values in float16, a code of 576 bytes."""
    cause, score = (Cause.FOUNDED, None) if image == head else (Cause.MATCHED, 0.97)
    return Decision(
        offset=offset,
        checksum=offset % 2**32,
        outcome=Outcome.DECIDED,
        image_id=image,
        version=version,
        place=offset,
        moves=(Move(image, old, head, cause, score, None if score is None else head),),
        score_code=offset.to_bytes(8, "big") * 72,
        search_vector=offset.to_bytes(8, "big") * 320,
        score_vector=offset.to_bytes(8, "big") * 192,
        versions=Versions("pair-0123456789", "0123456789ab"),
        created_at_ms=offset,
        arrived_at_ms=offset,
        decided_at_ms=offset,
    )


class Filler:
    """Writes decisions one after the other, in batches."""

    def __init__(self, store: RocksStore, kinds: Sequence[str] = ()) -> None:
        self._store = store
        self._kinds = kinds
        self._batch: list[Decision] = []
        self.offset = store.position().offset

    def add(self, image: ImageId, head: ImageId, version: int = 1, old: ImageId | None = None) -> None:
        """One more decision."""
        self._batch.append(decision(self.offset + len(self._batch) + 1, image, head, version, old))
        if len(self._batch) == FILL_BATCH:
            self.flush()

    def flush(self) -> None:
        """Writes what is left."""
        if self._batch:
            self._store.apply(LOG, self._batch, self.offset, self._store.state().revision, self._kinds)
            self.offset += len(self._batch)
            self._batch = []


def giant_member(number: int) -> ImageId:
    """The id of a member of the giant cluster; 0 is its head."""
    return ImageId(f"giant-{number:010d}")


def small_member(number: int) -> ImageId:
    """The id of a member of the other large cluster; 0 is its head."""
    return ImageId(f"small-{number:010d}")


def fill(folder: Path, images: int, giant: int) -> None:
    """Makes the store. It is not synced."""
    with closing(RocksStore(folder, options=RocksOptions(sync=False))) as store:
        filler = Filler(store)
        for number in range(images):
            filler.add(name_of(number), name_of(number - number % 6))
        for number in range(SMALL):
            filler.add(small_member(number), small_member(0))
        for number in range(giant):
            filler.add(giant_member(number), giant_member(0))
        filler.flush()
