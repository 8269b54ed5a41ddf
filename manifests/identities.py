"""Do the ids, versions and heads of a manifest fit together? Asked of all rows at once, in bounded memory.

    versions    a row that has an image again has a higher version than the row before it
    heads       the last row of an image names a head, whose own last row names it too
    order       a head has a row before the last ones of its members

Each row is noted under a hash of its image id, in one of many buckets on disk. Then each bucket is sorted by itself,
which tells the last row of each image. That row is noted once more under a hash of its head, and sorted in the same
way. So only one bucket is in memory at a time: the join is that of GRACE (Kitsuregawa et al., 1983).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from manifests.id_hashes import id_hashes, numbered

__all__ = ["Checked", "Fault", "Identities", "Problem"]

BUCKET_ROWS = 2**20
"""Rows of a bucket, about: some 200 MB while it is sorted."""

MAX_BUCKETS = 1024
"""Files that are open at once; with a billion rows each of them is sorted in 200 MB."""

MAX_LISTED = 1000
"""Problems that are listed; the others are counted."""

_ROW = np.dtype([("id", ">u8", 2), ("row", "<i8"), ("version", "<i8"), ("head", ">u8", 2), ("named", "?")])
_IMAGE = np.dtype([("id", ">u8", 2), ("first", "<i8"), ("last", "<i8"), ("own", "?")])
_MEMBER = np.dtype([("id", ">u8", 2), ("row", "<i8")])
"""The id is that of the head."""


class Fault(StrEnum):
    """What is wrong with a row."""

    SAME_VERSION = "has the same image and version as row {other}"
    LOWER_VERSION = "has a lower version of the image than row {other}"
    NO_HEAD = "names no head, and no later row has the image again"
    UNKNOWN_HEAD = "names a head that has no row"
    NOT_A_HEAD = "names a head that is in another cluster by row {other}"
    LATE_HEAD = "names a head whose first row is a later one, {other}"


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault of one row. Rows are numbered over the whole manifest."""

    row: int
    fault: Fault
    other: int | None = None
    """Another row that it is about."""


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """What all rows say together."""

    images: int
    clusters: int
    superseded: NDArray[np.int64]
    """The rows that a later one of the same image takes the place of, sorted."""
    problems: Sequence[Problem]
    """By row, the first `MAX_LISTED` of them."""
    problem_count: int


class Identities:
    """Takes the rows in their order. Use it as a context manager: its buckets are removed at the end."""

    def __init__(
        self, spool: Path, rows: int, bucket_rows: int = BUCKET_ROWS, *, heads_elsewhere: bool = False
    ) -> None:
        """Makes a folder for the buckets.

        Args:
            spool: It is made in this folder; it takes about 100 bytes a row.
            rows: How many rows there will be, about.
            bucket_rows: How many rows are sorted at once, about.
            heads_elsewhere: Whether a head may have no row here, as in a delta.
        """
        self._heads_elsewhere = heads_elsewhere
        self._buckets = min(MAX_BUCKETS, 1 + rows // bucket_rows)
        self._temporary = tempfile.TemporaryDirectory(dir=spool, prefix="identities-")
        self._rows = _Buckets(Path(self._temporary.name), "rows", self._buckets)
        self._members = _Buckets(Path(self._temporary.name), "members", self._buckets)

    def __enter__(self) -> Identities:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the buckets."""
        self._rows.close()
        self._members.close()
        self._temporary.cleanup()

    def add(self, first: int, ids: Sequence[str], versions: NDArray[np.int64], heads: Sequence[str | None]) -> None:
        """Notes n rows.

        Args:
            first: The number of the first of them.
            ids: n image ids.
            versions: (n,)
            heads: n heads.

        Raises:
            OSError: The disk is full.
        """
        notes = np.empty(len(ids), _ROW)
        known: dict[str | None, bytes] = {}
        notes["id"], notes["head"] = id_hashes(ids, known), id_hashes(heads, known)
        notes["row"] = np.arange(first, first + len(ids))
        notes["version"] = versions
        notes["named"] = [head is not None for head in heads]
        self._rows.add(notes)

    def check(self, on_progress: Callable[[int, int], None] | None = None) -> Checked:
        """What the rows say; no more can be added.

        Args:
            on_progress: Called with the number of steps that are done, and that of all.

        Raises:
            OSError: The disk is full.
        """
        tell = on_progress or (lambda done, total: None)
        found = _Problems()
        superseded: list[NDArray[np.int64]] = []
        images: list[Path] = []
        for number in range(self._buckets):
            rows = _sorted(self._rows.read(number, _ROW), "row")
            last = _ends(rows["id"])
            superseded.append(rows["row"][~last])
            self._note_members(rows, last, found)
            images.append(Path(self._temporary.name) / f"images-{number}")
            _images(rows, last).tofile(images[-1])
            tell(number + 1, 2 * self._buckets)
        image_count = clusters = 0
        for number, path in enumerate(images):
            known = np.fromfile(path, _IMAGE)
            members = _sorted(self._members.read(number, _MEMBER), "row")
            image_count += len(known)
            clusters += int(known["own"].sum())
            _check_heads(known, members, found, self._heads_elsewhere)
            tell(self._buckets + number + 1, 2 * self._buckets)
        rows_left = np.sort(np.concatenate(superseded))
        return Checked(image_count, clusters, rows_left, found.listed(), found.count)

    def _note_members(self, rows: NDArray[Any], last: NDArray[np.bool_], found: _Problems) -> None:
        """Checks the versions in a sorted bucket, and notes the last row of each image under its head."""
        again = np.flatnonzero(~last) + 1  # rows after one of the same image
        before, after = rows["version"][again - 1], rows["version"][again]
        found.add(Fault.SAME_VERSION, rows["row"][again], rows["row"][again - 1], after == before)
        found.add(Fault.LOWER_VERSION, rows["row"][again], rows["row"][again - 1], after < before)
        ends = rows[last]
        found.add(Fault.NO_HEAD, ends["row"], None, ~ends["named"])
        named = ends[ends["named"]]
        members = np.empty(len(named), _MEMBER)
        members["id"], members["row"] = named["head"], named["row"]
        self._members.add(members)


class _Buckets:
    """Files of notes, each by the hash of the id that it is under."""

    def __init__(self, folder: Path, name: str, count: int) -> None:
        self._files: list[BinaryIO] = [(folder / f"{name}-{number}").open("w+b") for number in range(count)]

    def add(self, notes: NDArray[Any]) -> None:
        bucket = notes["id"][:, 0] % np.uint64(len(self._files))
        order = np.argsort(bucket, kind="stable")
        bounds = np.searchsorted(bucket[order], np.arange(len(self._files) + 1, dtype=np.uint64))
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            self._files[number].write(notes[order[bounds[number] : bounds[number + 1]]].tobytes())

    def read(self, number: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        file = self._files[number]
        file.seek(0)
        return np.frombuffer(file.read(), dtype)

    def close(self) -> None:
        for file in self._files:
            file.close()


class _Problems:
    """The problems so far."""

    def __init__(self) -> None:
        self.count = 0
        self._found: list[Problem] = []

    def add(self, fault: Fault, rows: NDArray[Any], others: NDArray[Any] | None, wrong: NDArray[np.bool_]) -> None:
        """Adds the rows where `wrong` is true."""
        chosen = np.flatnonzero(wrong)
        self.count += len(chosen)
        for each in chosen[np.argsort(rows[chosen])][:MAX_LISTED].tolist():
            self._found.append(Problem(int(rows[each]), fault, None if others is None else int(others[each])))
        if len(self._found) > 2 * MAX_LISTED:
            self._found = self.listed()

    def listed(self) -> list[Problem]:
        return sorted(self._found, key=lambda problem: problem.row)[:MAX_LISTED]


def _sorted(notes: NDArray[Any], last: str) -> NDArray[Any]:
    """By id, then by the last field."""
    order = np.lexsort((notes[last], notes["id"][:, 1], notes["id"][:, 0]))
    found: NDArray[Any] = notes[order]
    return found


def _ends(ids: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of sorted ids are the last of their kind."""
    ends = np.ones(len(ids), np.bool_)
    ends[:-1] = (ids[:-1] != ids[1:]).any(axis=1)
    return ends


def _images(rows: NDArray[Any], last: NDArray[np.bool_]) -> NDArray[Any]:
    """One record for each image of a sorted bucket."""
    ends = np.flatnonzero(last)
    images = np.empty(len(ends), _IMAGE)
    images["id"] = rows["id"][ends]
    images["first"] = rows["row"][np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends]
    images["last"] = rows["row"][ends]
    images["own"] = (rows["id"][ends] == rows["head"][ends]).all(axis=1) & rows["named"][ends]
    return images


def _check_heads(images: NDArray[Any], members: NDArray[Any], found: _Problems, heads_elsewhere: bool) -> None:
    """Compares members, by head, with the images of the same bucket; both are sorted by id."""
    if not len(members):
        return
    # Equal ids get equal numbers, so that one number can be searched for.
    numbers, _ = numbered(np.concatenate((images["id"], members["id"])))
    known, wanted = numbers[: len(images)], numbers[len(images) :]
    at = np.searchsorted(known, wanted)
    there = at < len(known)
    there[there] = known[at[there]] == wanted[there]
    if not heads_elsewhere:
        found.add(Fault.UNKNOWN_HEAD, members["row"], None, ~there)
    members, heads = members[there], images[at[there]]
    found.add(Fault.NOT_A_HEAD, members["row"], heads["last"], ~heads["own"])
    found.add(Fault.LATE_HEAD, members["row"], heads["first"], heads["own"] & (heads["first"] > members["row"]))
