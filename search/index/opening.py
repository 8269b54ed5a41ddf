"""How a term index is opened: the one place that knows which implementation serves."""

from __future__ import annotations

from pathlib import Path

from search.index.chained import ChainedIndex
from search.index.interface import TermIndex
from search.index.postings import warm_up
from search.index.settings import IndexSettings

__all__ = ["open_term_index", "warm_up"]


def open_term_index(folder: Path, settings: IndexSettings) -> TermIndex:
    """Opens the index of a folder, or makes it.

    Raises:
        IndexLockedError: Another process has the folder open.
        MismatchError: The folder was made for other settings; the message has both values.
        IndexDamagedError: The files are damaged.
    """
    return ChainedIndex(folder, settings)
