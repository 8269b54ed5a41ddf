"""Opens a term index, and compiles its kernels."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from core.types import ImageId
from search.index.engine import SegmentedIndex
from search.index.folder import Identity
from search.index.interface import Insert, MoreQuery, TermIndex, TermQuery
from search.index.settings import IndexSettings
from search.ranking import Ranking

__all__ = ["open_term_index", "warm_up"]


def open_term_index(folder: Path, settings: IndexSettings) -> TermIndex:
    """Opens the index in a folder, or makes it.

    Raises:
        IndexLockedError: Another process has the folder open.
        MismatchError: The folder was made for other settings; the message has both values.
        IndexDamagedError: The files are damaged.
    """
    return SegmentedIndex(folder, settings)


def warm_up() -> None:
    """Compiles or loads the kernels: it seals, merges and searches indexes of a few entries."""
    for bits in (1, 17):  # terms of up to 16 bits have a narrower type
        settings = IndexSettings(
            groups=1, bits_per_group=bits, code_bytes=1, identity=Identity("", "", {}), ranking=Ranking(1), sync=False,
            seal_entries=1, merge_fan=2, max_postings=2,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            index = SegmentedIndex(Path(folder) / "index", settings, background=False)
            for offset in range(4):
                record = Insert(offset, 0, ImageId(f"{offset % 3}"), offset, np.zeros(1, np.uint32), b"0")
                index.insert_and_search("warm-up", [record])
                if offset == 1:  # one entry is sealed, the other in the tail, and a list of both is within the limit
                    _ask(index)
                if offset != 2:
                    index.tidy()
            index.close()


def _ask(index: TermIndex) -> None:
    terms = np.zeros(1, np.uint32)
    index.rank(terms[np.newaxis], 2)
    index.search([TermQuery(terms, k=2), TermQuery(terms, k=2, code=b"0")])
    index.search_more([MoreQuery(0, 0)])
