"""The file of hidden entries of the sealed segments: their places, each with the last place that sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from search.index.section_file import SectionFile, write_sections
from search.index.source import Source

__all__ = ["read_hidden", "write_hidden"]


def write_hidden(path: Path, sources: Sequence[Source], hides: Sequence[Mapping[int, int]], sync: bool) -> int:
    """Writes the hidden entries (`hides`) of some sources (in order of age); returns how many there are."""
    places, seen_by = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for source, hidden in zip(sources, hides, strict=True):
        entries = np.fromiter(hidden.keys(), np.int64, len(hidden))
        values = np.fromiter(hidden.values(), np.int64, len(hidden))
        order = np.argsort(entries)
        places.append(np.asarray(source.places[entries[order]]))
        seen_by.append(values[order] - 1)
    count = sum(len(part) for part in places)
    write_sections(path, {"entries": count}, {"places": places, "seen_by": seen_by}, sync)
    return count


def read_hidden(path: Path, sources: Sequence[Source]) -> None:
    """Hides the entries of a file in the sources.

    Raises:
        IndexDamagedError: It is missing or damaged.
    """
    file = SectionFile(path)
    places, seen_by = file["places"], file["seen_by"]
    for source in sources:
        here = np.flatnonzero((places >= source.places[0]) & (places <= source.places[-1]))
        entries = np.searchsorted(source.places, places[here]).tolist()
        for entry, last in zip(entries, seen_by[here].tolist(), strict=True):
            source.hide(entry, last)
