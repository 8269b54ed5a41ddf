"""Building an index beside the live one and putting it in its place: the way back from a loss, and to other terms.

The embeddings become a generation that stands where they end; then the order is read from there to its end, as the job
reads it; then the pointer is switched. A build that ends early leaves nothing but what the next one removes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.types import LogPosition
from search.index.builder import IndexBuilder
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
    """Who is told how far a build is."""

    def embeddings(self, done: int, total: int) -> None:
        """So many images are in."""
        ...

    def order(self, done: int, total: int) -> None:
        """So many records of the order were applied behind them."""
        ...


@dataclass(frozen=True, slots=True)
class Built:
    """A generation that serves now."""

    folder: Path
    position: LogPosition
    images: int
    """That can be found."""
    unfindable: int
    """Images of the source that have a place and cannot be found: search or scorer could not take them."""


def build_index(
    generations: IndexGenerations,
    settings: IndexSettings,
    parser: RequestParser,
    source: ImageSource,
    joined: OrderedLog,
    watcher: Watcher,
) -> Built:
    """Builds a generation of an index and makes it the one that serves. Main thread only.

    Args:
        generations: Where the index lives; the live generation stays as it is.
        settings: What the index is told, and made for.
        parser: Hashes.
        source: The embeddings.
        joined: The order, which goes on behind them.
        watcher: Is told how far it is.

    Raises:
        IndexLockedError: Somebody builds already.
        MismatchError: The order does not go on from where the embeddings end.
        BadInputError: The embeddings are not those of this signal, or not in order.
        UnavailableError: The order cannot be read, or the disk does not take the index.
    """
    check_log(source.position, joined)
    with generations.building() as folder:
        unfindable = 0
        with IndexBuilder(folder, settings) as builder:
            for rows in index_rows(source, parser.extractor, parser.coder):
                builder.add(rows.places, rows.image_ids, rows.versions, rows.terms, rows.codes, rows.findable)
                unfindable += int((~rows.findable).sum())
                watcher.embeddings(builder.entries, source.images)
            builder.finish(source.position)
        index = open_term_index(folder, settings)
        try:
            catch_up(index, joined, parser, watcher.order)
            position, images = index.position, index.images
        finally:
            index.close()
        with undisturbed():
            served = generations.adopt(folder, settings.identity)
    return Built(served, position, images, unfindable)
