"""Images of another system: a snapshot, a chain of deltas, and what must become of each row. Pure, but for writing.

The snapshot has a part of the sample in its groups. Some heads are copies of others, each alone in its cluster: once
copies of both come by the stream, the older one adopts it. The rows of a delta, in an order drawn by chance:

    founded               a new image that names itself
    joined                a new image whose head is in the same delta, in an earlier one or in the snapshot; a later
                          version of an image of the snapshot; in later deltas, one whose head was adopted meanwhile
    kept                  a version that is there, of the snapshot or of the stream
    superseded            a version below the one that an earlier delta has brought
    elsewhere_head_gone   its head is nowhere
    elsewhere_forbidden   somebody has forbidden that it shares a cluster with the head
    elsewhere_pinned      somebody has pinned it to a member of another cluster
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.manifest_rows import RowResult
from core.types import Cause
from manifests.clustered_files import ClusteredBatch, Signal
from manifests.folder import open_folder
from manifests.image_files import NO_PLACE, ImageBatch, ImageRow, Vector
from manifests.manifest import Kind, Manifest
from manifests.metadata import FileMetadata
from manifests.writer import FileSizes, ManifestWriter

__all__ = ["DELTAS", "LONE", "Delta", "OldImages", "Row", "write_manifest"]

DELTAS = 12
LONE = 6
"""Copies of heads, each alone in its cluster."""

_TOGETHER = 25
"""Rows of a file, so that a load does not take all of them at once."""

_SECOND_VERSIONS = 5
"""Images of the snapshot of which an earlier row has another version."""


class Row(NamedTuple):
    """One row of a manifest."""

    image: ImageRow
    head: str | None
    result: RowResult
    """What must become of it, if it is a row of a delta."""


@dataclass(frozen=True, slots=True)
class Delta:
    """The rows of one, and what must be said before it comes."""

    rows: Sequence[Row]
    pins: Mapping[str, str]
    """To which image somebody has pinned which new one."""
    forbids: Mapping[str, str]
    """With which image which new one must not share a cluster."""


class OldImages:
    """Makes the rows. The same arguments give the same ones."""

    def __init__(self, sample: Sequence[ImageRow], groups: Sequence[str], rows: int, chance: random.Random) -> None:
        """Makes the snapshot.

        Args:
            sample: Images.
            groups: The group of each.
            rows: How many of them are in the snapshot; the heads of their clusters are the first of each group.
            chance: Of everything else.
        """
        self._sample = sample
        self._chance = chance
        self._names = count()
        first: dict[str, str] = {}
        self.snapshot = [
            Row(image, first.setdefault(group, image.image_id), RowResult.JOINED)
            for image, group in zip(sample[:rows], groups, strict=False)
        ]
        members = [row for row in self.snapshot if row.head != row.image.image_id]
        clusters = dict.fromkeys(str(row.head) for row in members)
        by_id = {row.image.image_id: row.image for row in self.snapshot}
        self.lone = {f"lone-{head}": head for head in chance.sample(list(clusters), LONE)}
        """Copies of heads, and which head adopts each."""
        self.copies = [replace(by_id[head], image_id=f"copy-{head}") for head in self.lone.values()]
        """What the stream must bring so that it does."""
        self.snapshot += [
            Row(replace(by_id[head], image_id=lone), lone, RowResult.FOUNDED) for lone, head in self.lone.items()
        ]
        self._heads = list(clusters)
        """Those of clusters with more members."""
        self._members = chance.sample(members, len(members))
        """Each is used once."""
        for _ in range(_SECOND_VERSIONS):
            self._begin_with_another_version(self._members.pop())
        self._upgraded: list[ImageRow] = []

    @property
    def heads(self) -> dict[str, str]:
        """The head of each image of the snapshot."""
        return {row.image.image_id: row.head for row in self.snapshot if row.head is not None}

    def deltas(self, streamed: Sequence[ImageRow]) -> list[Delta]:
        """The chain.

        Args:
            streamed: Images of the stream that have a head; three of them are used by each delta.
        """
        known = list(streamed)
        return [self._delta(number, [known.pop() for _ in range(3)]) for number in range(DELTAS)]

    def _begin_with_another_version(self, member: Row) -> None:
        """A row for version 1 goes somewhere before the row of the member, which becomes version 2."""
        at = self.snapshot.index(member)
        self.snapshot[at] = member._replace(image=replace(member.image, version=2))
        other = self._chance.choice(self._sample)
        earlier = replace(other, image_id=member.image.image_id, version=1)
        self.snapshot.insert(self._chance.randrange(at + 1), Row(earlier, None, RowResult.SUPERSEDED))

    def _delta(self, number: int, streamed: Sequence[ImageRow]) -> Delta:
        chance, found, pins, forbids = self._chance, list[Row](), dict[str, str](), dict[str, str]()
        founders = [self._new() for _ in range(12)]
        found += [Row(image, image.image_id, RowResult.FOUNDED) for image in founders]
        found += [self._joined() for _ in range(22)]
        found += [Row(image, chance.choice(self._heads), RowResult.KEPT) for image in streamed]
        found += [self._members.pop()._replace(result=RowResult.KEPT) for _ in range(3)]
        found += [
            Row(image, chance.choice(self._heads), RowResult.SUPERSEDED)
            for image in chance.sample(self._upgraded, min(2, len(self._upgraded)))
        ]
        found += [Row(self._new(), f"nobody-{number}-{each}", RowResult.ELSEWHERE_HEAD_GONE) for each in range(3)]
        for _ in range(2):
            forbidden, head = self._new(), chance.choice(self._heads)
            forbids[forbidden.image_id] = head
            found.append(Row(forbidden, head, RowResult.ELSEWHERE_FORBIDDEN))
            pinned, target = self._new(), self._members.pop()
            pins[pinned.image_id] = target.image.image_id
            head = chance.choice([each for each in self._heads if each != target.head])
            found.append(Row(pinned, head, RowResult.ELSEWHERE_PINNED))
        if number >= DELTAS // 2:
            found += [Row(self._new(), head, RowResult.JOINED) for head in chance.sample(list(self.lone), 3)]
        for _ in range(4):
            member = self._members.pop().image
            head = chance.choice(self._heads)
            found.append(Row(self._like(member.image_id, member.version + 1), head, RowResult.JOINED))
            self._upgraded.append(member)
        chance.shuffle(found)
        for _ in range(14):  # a head comes before its members
            head = chance.choice(founders).image_id
            at = next(at for at, row in enumerate(found) if row.image.image_id == head)
            found.insert(chance.randrange(at + 1, len(found) + 1), Row(self._new(), head, RowResult.JOINED))
        self._heads += [image.image_id for image in founders]
        return Delta(found, pins, forbids)

    def _joined(self) -> Row:
        """A new image of a cluster of an earlier manifest."""
        return Row(self._new(), self._chance.choice(self._heads), RowResult.JOINED)

    def _new(self) -> ImageRow:
        return self._like(f"old-{next(self._names)}", 1)

    def _like(self, image_id: str, version: int) -> ImageRow:
        return replace(self._chance.choice(self._sample), image_id=image_id, version=version)


def write_manifest(
    root: Path, name: str, rows: Sequence[Row], signal: Signal, previous: Manifest | None = None
) -> Manifest:
    """Writes a snapshot, or a delta that follows another manifest. The manifest itself appears last."""
    kind = Kind.SNAPSHOT if previous is None else Kind.DELTA
    follows = None if previous is None else previous.id
    metadata, sizes = FileMetadata(signal=signal.name), FileSizes(_TOGETHER, _TOGETHER)
    with ManifestWriter(open_folder(str(root)), name, metadata, kind, follows, sizes) as writer:
        writer.add(_batch(rows))
        return writer.finish()


def _batch(rows: Sequence[Row]) -> ClusteredBatch:
    nothing = [None] * len(rows)
    images = [row.image for row in rows]
    return ClusteredBatch(
        images=ImageBatch(
            first=0,
            image_ids=[image.image_id for image in images],
            versions=np.array([image.version for image in images]),
            created_at_ms=np.zeros(len(rows), np.int64),
            search=_matrix(image.search for image in images),
            score=_matrix(image.score for image in images),
            places=np.full(len(rows), NO_PLACE),
        ),
        heads=[row.head for row in rows],
        causes=[Cause.BOOTSTRAPPED] * len(rows),
        scores=np.full(len(rows), np.nan),
        matched=list(nothing),
        founding_codes=list(nothing),
        terms=None,
        codes=None,
    )


def _matrix(vectors: Iterator[Vector]) -> NDArray[np.float16]:
    """(n, dimension) of the sample's embeddings, which are float16."""
    return np.stack([np.frombuffer(each.data, np.dtype(np.float16)) for each in vectors])
