"""Builds an index beside the live one, then switches to it: after a loss, or for other terms.

The embeddings become a new generation at their position in the order. The records of the order after that position are
applied as the job applies them. Then the pointer to the serving generation is switched. If a build stops early, the
next one removes what it left.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.types import LogPosition
from operators.decided import Decided
from search.index.builder import IndexBuilder
from search.index.columns import Kind
from search.index.generations import IndexGenerations
from search.index.opening import open_term_index
from search.index.settings import IndexSettings
from search.serving.request_parser import RequestParser
from stream.index_build.catch_up import OrderedLog, catch_up, check_log
from stream.index_build.rows import index_rows
from stream.index_build.sources import ImageSource
from stream.interrupts import undisturbed

__all__ = ["Built", "Watcher", "build_index"]


class Watcher(Protocol):
    """Is told the progress of a build."""

    def embeddings(self, done: int, total: int) -> None:
        """So many images of `total` were added."""
        ...

    def order(self, done: int, total: int) -> None:
        """So many records of the order, of `total`, were applied after them."""
        ...


@dataclass(frozen=True, slots=True)
class Built:
    """The new generation, which serves now."""

    folder: Path
    position: LogPosition
    images: int
    """Images that can be found."""
    unfindable: int
    """Images that have a place and cannot be found, because search or scorer could not process them."""


def build_index(
    generations: IndexGenerations,
    settings: IndexSettings,
    parser: RequestParser,
    source: ImageSource,
    joined: OrderedLog | None,
    watcher: Watcher,
    decided: Decided | None = None,
) -> Built:
    """Builds a generation of an index and makes it the one that serves. Main thread only.

    Args:
        generations: The folder of the index; the live generation is not changed.
        settings: The settings of the index.
        parser: Checks and hashes the records.
        source: The embeddings.
        joined: The order, for the records after the embeddings.
        watcher: Is told the progress.
        decided: What storage has decided on records of the order after the embeddings; None: nothing, or not known.

    Raises:
        IndexLockedError: Another process is building.
        MismatchError: The order no longer has the records after the embeddings.
        BadInputError: The embeddings are not those of this signal, or not in order.
        UnavailableError: The order cannot be read, or the disk does not take the index.
    """
    if joined is not None:
        check_log(source.position, joined)
    with generations.building() as folder:
        unfindable = 0
        with IndexBuilder(folder, settings) as builder:
            for rows in index_rows(source, parser.extractor, parser.coder):
                builder.add(rows.places, rows.image_ids, rows.versions, rows.terms, rows.codes, rows.kinds)
                unfindable += int((rows.kinds == Kind.SKIPPED).sum())
                watcher.embeddings(builder.entries, source.images)
            builder.finish(source.position, source.released, source.pseudonyms)
        index = open_term_index(folder, settings)
        try:
            if joined is not None:
                catch_up(index, joined, parser, decided, watcher.order)
            position, images = index.position, index.images
        finally:
            index.close()
        with undisturbed():
            served = generations.adopt(folder, settings.identity)
    return Built(served, position, images, unfindable)
