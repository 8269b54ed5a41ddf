"""The rows of one side, on disk: hashes of ids and clusters, versions, and the texts that they stand for.

    ids        (rows, 2) u64, see `manifests.id_hashes`
    clusters   (rows, 2) u64
    versions   (rows,) i64
    texts      the id and the cluster of each row, one after another
    ends       (rows, 2) i64, where each of these ends

So no text is held in memory, and those of a few rows are found at once.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from manifests.id_hashes import Hashes, id_hashes
from stream.comparing.interface import Clustering

__all__ = ["RowTexts", "SpooledClustering"]

MOST_KNOWN = 1 << 20
"""Hashes of clusters that are kept in memory, so that they need not be made again: some 200 MB."""


class RowTexts(NamedTuple):
    """What a row says."""

    image_id: str
    cluster: str


class SpooledClustering:
    """The rows of one side."""

    def __init__(self, folder: Path, name: str) -> None:
        """Takes the folder that `read` has filled."""
        self.name = name
        self._folder = folder

    @classmethod
    def read(cls, side: Clustering, folder: Path, on_rows: Callable[[int, int | None], None]) -> SpooledClustering:
        """Reads a side.

        Args:
            side: What is read.
            folder: Is made, and filled.
            on_rows: Told how many rows were read, of how many.

        Raises:
            BadInputError: An image has no id, or a value is wrong.
            MismatchError: A file is not the one that a manifest names.
            UnavailableError: The side does not answer.
            OSError: The disk is full.
        """
        folder.mkdir()
        files = {name: (folder / name).open("wb") for name in ("ids", "clusters", "versions", "texts", "ends")}
        known: dict[str | None, bytes] = {}
        end = 0
        try:
            for rows in side.rows():
                if len(known) > MOST_KNOWN:
                    known.clear()
                texts = [
                    "" if each is None else each
                    for each in chain.from_iterable(zip(rows.image_ids, rows.clusters, strict=True))
                ]
                encoded = [each.encode(errors="surrogatepass") for each in texts]
                ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded))) + end
                end = int(ends[-1]) if len(ends) else end
                files["ids"].write(id_hashes(rows.image_ids).tobytes())
                files["clusters"].write(id_hashes(rows.clusters, known).tobytes())
                files["versions"].write(rows.versions.astype("<i8").tobytes())
                files["texts"].write(b"".join(encoded))
                files["ends"].write(ends.astype("<i8").tobytes())
                on_rows(rows.done, rows.total)
        finally:
            for file in files.values():
                file.close()
        return cls(folder, side.name)

    def ids(self) -> Hashes:
        """(rows, 2) hashes of the images."""
        return self._array("ids", ">u8").reshape(-1, 2)

    def clusters(self) -> Hashes:
        """(rows, 2) hashes of their clusters; zeros: the row names none."""
        return self._array("clusters", ">u8").reshape(-1, 2)

    def versions(self) -> NDArray[np.int64]:
        """(rows,)"""
        return self._array("versions", "<i8")

    def texts(self, row: int) -> RowTexts:
        """What a row says."""
        with (self._folder / "ends").open("rb") as ends, (self._folder / "texts").open("rb") as texts:
            first = max(0, 2 * row - 1)
            ends.seek(8 * first)
            found = np.frombuffer(ends.read(8 * (2 * row + 2 - first)), "<i8").tolist()
            start, middle, end = found if row else (0, *found)
            texts.seek(start)
            content = texts.read(end - start)
        return RowTexts(
            *(part.decode(errors="surrogatepass") for part in (content[: middle - start], content[middle - start :]))
        )

    def last_rows(self, numbers: NDArray[np.int64], images: int) -> NDArray[np.int64]:
        """(images,) of each image the row that counts; -1: there is none.

        Args:
            numbers: (rows,) the number of each row's image.
            images: How many numbers there are.

        Raises:
            BadInputError: Two rows have the same image and version.
        """
        rows = np.full(images, -1, np.int64)
        rows[numbers] = np.arange(len(numbers))
        if int((rows >= 0).sum()) == len(numbers):
            return rows
        versions = self.versions()
        order = np.lexsort((versions, numbers))
        again = numbers[order][1:] == numbers[order][:-1]
        twice = np.flatnonzero(again & (versions[order][1:] == versions[order][:-1]))
        if twice.size:
            row = int(order[1:][twice].min())
            raise BadInputError(
                f"{self.name} has the image {self.texts(row).image_id!r} twice in version {versions[row]}"
                f"{f', and {twice.size - 1:,} others so' if twice.size > 1 else ''}: an image is in one cluster"
            )
        last = order[np.append(~again, True)]
        rows[numbers[last]] = last
        return rows

    def _array(self, name: str, kind: str) -> NDArray[Any]:
        return np.fromfile(self._folder / name, kind)
