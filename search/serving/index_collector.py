"""The gauges of the index. One scrape reads the statistics once, so all gauges show the same moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from search.index.interface import TermIndex
from search.tuning.drift import ChosenDensity, LiveDensity, density_drift

__all__ = ["IndexCollector"]


class IndexCollector(Collector):
    """Shows the statistics of an index."""

    def __init__(self, index: TermIndex, chosen: ChosenDensity | None) -> None:
        """Takes the index and the density that its terms were chosen for (None: not known)."""
        self._index = index
        self._chosen = chosen

    def collect(self) -> Iterator[Metric]:
        """Reads the index."""
        stats = self._index.stats()
        gauges = {
            "images": ("Images that a search from the next place can find", stats.images),
            "position_offset": ("The last offset of the order that was applied", stats.position.offset),
            "released_offset": ("Storage has passed this offset: no search as of it will come", stats.released),
            "entries": ("Placed image versions, findable or not", stats.entries),
            "segments": ("Sealed segments", stats.segments),
            "tail_entries": ("Entries that are not in a sealed segment yet", stats.tail),
            "merging": ("1 while segments are merged", stats.merging),
            "term_sets": ("Distinct term sets of the sealed segments", stats.term_sets),
            "index_bytes": ("Bytes of the whole index on disk: all segments and the log", stats.bytes.total),
            "expected_postings": (
                "Postings that a search for an image of the index touches, on average",
                stats.expected_postings,
            ),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"neardup_search_{name}", text, value=float(value))
        parts = GaugeMetricFamily(
            "neardup_search_index_part_bytes", "Bytes of one part of the index on disk", labels=["part"]
        )
        for part, size in asdict(stats.bytes).items():
            parts.add_metric([part], size)
        yield parts
        if self._chosen is not None:
            yield from self._density(self._chosen, LiveDensity(stats.images, stats.expected_postings))

    @staticmethod
    def _density(chosen: ChosenDensity, live: LiveDensity) -> Iterator[Metric]:
        found = density_drift(chosen, live)
        yield GaugeMetricFamily(
            "neardup_search_density_ratio",
            "Postings of a search, divided by the number that the terms were chosen for; 1 is as planned",
            value=found.ratio,
        )
        yield GaugeMetricFamily(
            "neardup_search_density_drifted", "1 when the terms should be tuned again", value=float(found.drifted)
        )
