"""What training sees: an image, copies of it, and different images that are candidates for it.

A neighbourhood is a row of image numbers: a seed, `COPIES` copies of it, then look-alikes. Training uses all pairs in
it, except those that are never trained on (`training.never_trained`). Look-alikes are drawn from the candidates of the
seed (`training.candidates`), so training sees the pairs that the classifier will see. Look-alikes that the network
confuses with copies are drawn more often.

Neighbourhoods are written to a Parquet file and read in batches, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.errors import BadInputError
from training.candidates import RankedCandidates
from training.labelled import LabelledPhotos
from training.never_trained import NeverTrained

__all__ = ["COPIES", "Neighbourhoods", "read_neighbourhoods", "write_neighbourhoods"]

COPIES = 2
"""Copies of the seed in a neighbourhood. If there are fewer, the seed itself, edited, stands in for them."""

_LOOK_ALIKES = 40
"""The different candidates of an image from which look-alikes are drawn: the first ones."""

_HARDEST, _EASIEST = 3.0, -6.0
"""Bounds of the logit that weights a look-alike, so that neither wrong labels nor easy pairs dominate."""

_ROWS_PER_GROUP = 4096


@dataclass(frozen=True, eq=False, slots=True)
class _Lists:
    """One list of image numbers per image, concatenated; that of image n is at `starts[n]` to `starts[n + 1]`."""

    starts: NDArray[np.int64]
    rows: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    def drawn(self, images: NDArray[np.int64], places: NDArray[np.float64]) -> NDArray[np.int64]:
        """For each image the entry at a relative place (0 to 1) in its list; the image itself if the list is empty."""
        lengths = self.lengths[images]
        found = self.starts[images] + np.minimum((places * lengths).astype(np.int64), np.maximum(0, lengths - 1))
        padded = np.append(self.rows, 0)
        return np.where(lengths > 0, padded[np.minimum(found, len(self.rows))], images)


class Neighbourhoods:
    """Draws neighbourhoods from labelled photographs."""

    def __init__(
        self, photos: LabelledPhotos, ranked: RankedCandidates, look_alikes: int, never: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Makes the lists of copies and look-alikes.

        Args:
            photos: The photographs to train on.
            ranked: Their candidates.
            look_alikes: How many a neighbourhood has.
            never: Pairs of image ids that are never trained on (`training.never_trained`). A seed is drawn with none of
                its partners in them; `forbidden` gives the pairs that occur elsewhere in a row.

        Raises:
            BadInputError: There are no copies, or no look-alikes.
        """
        self._never = NeverTrained(photos, never)
        self._copies = _copies(photos, self._never)
        self._look_alikes = _look_alike_lists(photos, ranked, self._never)
        self._count = look_alikes
        self._photos = np.flatnonzero(photos.is_photo)
        self._edits = np.flatnonzero(~photos.is_photo)
        self._cumulated: NDArray[np.float64] | None = None
        copies, different = len(self._copies.rows) // 2, len(self._look_alikes.rows)
        if not copies or not different or not len(self._photos):
            raise BadInputError(
                f"{copies} pairs of copies and {different} candidate pairs of different images: too few to train on"
            )

    @property
    def width(self) -> int:
        """How many images a neighbourhood has."""
        return 1 + COPIES + self._count

    def forbidden(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pairs of neighbourhoods (count, width) are not trained on.

        Returns:
            (count, width (width - 1) / 2), pairs in the order of `numpy.triu_indices(width, 1)`.
        """
        one, other = np.triu_indices(rows.shape[1], 1)
        return self._never.among(rows[:, one], rows[:, other])

    def look_alike_pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All pairs of an image and a look-alike that may be drawn."""
        lists = self._look_alikes
        return np.repeat(np.arange(len(lists.lengths)), lists.lengths), lists.rows

    def weigh(self, logits: NDArray[np.float64], hardness: float) -> None:
        """Sets the weights with which `look_alike_pairs` are drawn: exp(hardness * logit), within bounds."""
        weights = np.exp(np.clip(hardness * logits, _EASIEST, _HARDEST))
        self._cumulated = np.concatenate([[0.0], np.cumsum(weights)])

    def draw(self, count: int, random: np.random.Generator) -> NDArray[np.int32]:
        """`count` neighbourhoods: (count, width). Half of the seeds are photographs, half are edits."""
        seeds = random.choice(self._photos, count)
        if len(self._edits):
            seeds = np.where(random.random(count) < 0.5, seeds, random.choice(self._edits, count))
        drawn = [seeds]
        drawn += [self._copies.drawn(seeds, random.random(count)) for _ in range(COPIES)]
        drawn += [self._drawn_look_alikes(seeds, random.random(count)) for _ in range(self._count)]
        # A seed without look-alikes gets random images; a copy among them is still labelled as a copy.
        table = np.stack(drawn, axis=1)
        lone = self._look_alikes.lengths[seeds] == 0
        table[lone, 1 + COPIES :] = random.integers(0, len(self._copies.lengths), (int(lone.sum()), self._count))
        drawn_rows: NDArray[np.int32] = table.astype(np.int32)
        return drawn_rows

    def _drawn_look_alikes(self, seeds: NDArray[np.int64], places: NDArray[np.float64]) -> NDArray[np.int64]:
        if self._cumulated is None:
            return self._look_alikes.drawn(seeds, places)
        starts = self._look_alikes.starts
        low, high = self._cumulated[starts[seeds]], self._cumulated[starts[seeds + 1]]
        found = np.searchsorted(self._cumulated, low + places * (high - low), side="right") - 1
        found = np.clip(found, starts[seeds], np.maximum(starts[seeds], starts[seeds + 1] - 1))
        rows: NDArray[np.int64] = self._look_alikes.rows[np.minimum(found, len(self._look_alikes.rows) - 1)]
        return rows


def write_neighbourhoods(neighbourhoods: Neighbourhoods, count: int, random: np.random.Generator, path: Path) -> None:
    """Writes `count` drawn neighbourhoods as a Parquet file of fixed-size lists."""
    schema = pa.schema([("images", pa.list_(pa.int32(), neighbourhoods.width))])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, count, _ROWS_PER_GROUP):
            drawn = neighbourhoods.draw(min(_ROWS_PER_GROUP, count - start), random)
            rows = pa.FixedSizeListArray.from_arrays(pa.array(drawn.reshape(-1)), drawn.shape[1])
            writer.write_table(pa.table({"images": rows}, schema=schema))


def read_neighbourhoods(path: Path, batch: int) -> Iterator[NDArray[np.int64]]:
    """Batches of `batch` neighbourhoods, (batch, width), in the order of the file; an incomplete batch is left out."""
    with pq.ParquetFile(path) as file:
        for part in file.iter_batches(batch, columns=["images"]):
            if len(part) == batch:
                rows: NDArray[np.int64] = part.column(0).flatten().to_numpy().reshape(batch, -1).astype(np.int64)
                yield rows


def _copies(photos: LabelledPhotos, never: NeverTrained) -> _Lists:
    """For each image the others of its group, except pairs that are never trained on."""
    groups = np.unique(photos.group_id, return_inverse=True)[1]
    order = np.argsort(groups, kind="stable")
    found: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * len(groups)
    for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        apart = never.among(*np.broadcast_arrays(members[:, None], members[None, :]))
        for image, refused in zip(members, apart, strict=True):
            found[image] = members[(members != image) & ~refused]
    return _lists(found)


def _look_alike_lists(photos: LabelledPhotos, ranked: RankedCandidates, never: NeverTrained) -> _Lists:
    """For each image its first different candidates, except pairs that are never trained on."""
    images, others = ranked.images, ranked.others
    different = (photos.group_id[images] != photos.group_id[others]) & ~photos.unclear(images, others)
    different &= ~never.among(images, others)
    images, others = images[different], others[different]
    counts = np.bincount(images, minlength=len(photos))
    position = np.arange(len(images)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = position < _LOOK_ALIKES
    counts = np.minimum(counts, _LOOK_ALIKES)
    return _Lists(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), others[first])


def _lists(found: list[NDArray[np.int64]]) -> _Lists:
    starts = np.cumsum([0, *map(len, found)], dtype=np.int64)
    return _Lists(starts, np.concatenate([np.empty(0, np.int64), *found]))
