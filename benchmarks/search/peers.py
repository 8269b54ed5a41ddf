"""Exact peers: the alternatives for an exact top k by number of shared terms, ties by age.

Each gets one core, batches of any size, prepared queries (what can be made before the clock starts is made before),
and the fastest way of choosing the top that was found for it.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from benchmarks.search.corpus import Shape

__all__ = ["BruteForce", "Peer", "SparseProduct", "Tantivy", "top"]

Hits = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Places and overlaps, best first."""


class Peer(ABC):
    """Something that answers exact searches."""

    name: str

    @abstractmethod
    def prepare(self, terms: NDArray[np.uint32]) -> Any:
        """A batch of queries in the peer's own form; not timed."""

    @abstractmethod
    def search(self, prepared: Any, k: int) -> list[Hits]:
        """The answers to a prepared batch."""


def top(places: NDArray[Any], overlaps: NDArray[Any], k: int, most: int) -> Hits:
    """The k best of candidates in any order: by overlap, then by place, as one number that is partitioned."""
    keys = ((most - overlaps.astype(np.int64)) << 32) | places
    if len(keys) > k:
        keys = np.partition(keys, k - 1)[:k]
    keys.sort()
    return keys & 0xFFFFFFFF, most - (keys >> 32)


class SparseProduct(Peer):
    """scipy: the queries' rows times the transposed matrix of images and terms."""

    name = "scipy sparse product"

    def __init__(self, terms: NDArray[np.uint32], shape: Shape) -> None:
        """Makes the matrix, term by term: 5 bytes a posting."""
        from scipy.sparse import csr_matrix

        self._matrix_of = csr_matrix
        self._shape = shape
        self._columns = shape.groups << shape.bits_per_group
        starts = np.zeros(self._columns + 1, np.int64)
        images = np.empty(terms.size, np.int32)
        _invert(terms, shape.bits_per_group, starts, images)
        ones = np.ones(len(images), np.uint8)
        # Indices of four bytes each: scipy would otherwise copy them to eight at every product.
        self._by_term = csr_matrix(
            (ones, images, starts.astype(np.int32)), shape=(self._columns, len(terms)), copy=False
        )

    def prepare(self, terms: NDArray[np.uint32]) -> Any:
        """The queries as rows of a sparse matrix."""
        groups = np.arange(self._shape.groups, dtype=np.int64) << self._shape.bits_per_group
        columns = (groups + terms).ravel().astype(np.int32)
        starts = np.arange(len(terms) + 1, dtype=np.int32) * np.int32(self._shape.groups)
        ones = np.ones(len(columns), np.uint8)
        return self._matrix_of((ones, columns, starts), shape=(len(terms), self._columns))

    def search(self, prepared: Any, k: int) -> list[Hits]:
        """One product for the batch, then the best of each row."""
        product = prepared @ self._by_term
        bounds = product.indptr
        return [
            top(product.indices[start:end], product.data[start:end], k, self._shape.groups)
            for start, end in pairwise(bounds)
        ]


class BruteForce(Peer):
    """numpy: every image's terms compared with the query's, group by group."""

    name = "numpy brute force"

    def __init__(self, terms: NDArray[np.uint32], shape: Shape) -> None:
        """Keeps the terms by group, in two bytes each where they fit."""
        kind = np.uint16 if shape.bits_per_group <= 16 else np.uint32
        self._shape = shape
        self._by_group = np.ascontiguousarray(terms.T.astype(kind))

    def prepare(self, terms: NDArray[np.uint32]) -> Any:
        """The terms themselves."""
        return terms.astype(self._by_group.dtype)

    def search(self, prepared: Any, k: int) -> list[Hits]:
        """One query after the other."""
        return [self._one(query, k) for query in prepared]

    def _one(self, query: NDArray[Any], k: int) -> Hits:
        overlaps = np.zeros(self._by_group.shape[1], np.uint8 if self._shape.groups < 256 else np.uint16)
        for column, term in zip(self._by_group, query, strict=True):
            overlaps += column == term
        places = np.flatnonzero(overlaps)
        return top(places, overlaps[places], k, self._shape.groups)


class Tantivy(Peer):
    """tantivy: a boolean query of constant scores over one text field of terms, one segment."""

    name = "tantivy"

    def __init__(self, terms: NDArray[np.uint32], shape: Shape, folder: Path) -> None:
        """Opens the index in a folder, or makes it there: one to two minutes for a million images."""
        import tantivy

        self._tantivy = tantivy
        builder = tantivy.SchemaBuilder()
        builder.add_text_field("terms", stored=False, tokenizer_name="whitespace", index_option="basic")
        self._schema = builder.build()
        self._queries: dict[tuple[int, int], Any] = {}
        done = folder / "done"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._fill(tantivy.Index(self._schema, path=str(folder)), terms)
            done.touch()
        self._searcher = tantivy.Index.open(str(folder)).searcher()
        if self._searcher.num_segments != 1 or self._searcher.num_docs != len(terms):
            raise RuntimeError(
                f"{folder} holds {self._searcher.num_docs} images in {self._searcher.num_segments} segments, "
                f"{len(terms)} in one were expected: remove the folder"
            )

    def prepare(self, terms: NDArray[np.uint32]) -> Any:
        """Query objects, one a row."""
        tantivy, schema = self._tantivy, self._schema
        return [
            tantivy.Query.boolean_query(
                [
                    (
                        tantivy.Occur.Should,
                        tantivy.Query.const_score_query(tantivy.Query.term_query(schema, "terms", word, "basic"), 1.0),
                    )
                    for word in words
                ]
            )
            for words in _words(terms)
        ]

    def search(self, prepared: Any, k: int) -> list[Hits]:
        """One query after the other; a document's number is its place, for there is one segment."""
        found = []
        for query in prepared:
            hits = self._searcher.search(query, limit=k, count=False).hits
            found.append(
                (
                    np.array([address.doc for _, address in hits], np.int64),
                    np.array([score for score, _ in hits], np.int64),
                )
            )
        return found

    def _fill(self, index: Any, terms: NDArray[np.uint32]) -> None:
        # One thread and room for everything, so that there is one segment.
        writer = index.writer(heap_size=3_900_000_000, num_threads=1)
        for first in range(0, len(terms), 4096):
            for words in _words(terms[first : first + 4096]):
                document = self._tantivy.Document()
                document.add_text("terms", " ".join(words))
                writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()


def _words(terms: NDArray[np.uint32]) -> Iterator[list[str]]:
    for row in terms.tolist():
        yield [f"{group}x{term}" for group, term in enumerate(row)]


@numba.njit(cache=True)
def _invert(
    terms: NDArray[np.uint32], bits_per_group: int, starts: NDArray[np.int64], images: NDArray[np.int32]
) -> None:
    """Fills `starts` and `images` with the posting lists of all terms, oldest image first."""
    for image in range(terms.shape[0]):
        for group in range(terms.shape[1]):
            starts[(group << bits_per_group) + terms[image, group] + 1] += 1
    for term in range(len(starts) - 1):
        starts[term + 1] += starts[term]
    heads = starts[:-1].copy()
    for image in range(terms.shape[0]):
        for group in range(terms.shape[1]):
            term = (group << bits_per_group) + terms[image, group]
            images[heads[term]] = image
            heads[term] += 1
