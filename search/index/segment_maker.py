"""Makes the files of segments: of full tails, and of older segments that are merged.

The files are the same whoever makes them. `search.index.segment_process` makes them in another process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from search.index.columns import Columns
from search.index.forgetting import Name
from search.index.planning import RecordShape
from search.index.rate_limiter import RateLimiter
from search.index.rewriting import joined_entries
from search.index.segment import Segment, write_segment

__all__ = ["LocalMaker", "SegmentMaker"]


class SegmentMaker(ABC):
    """Makes segments. One call at a time."""

    @abstractmethod
    def seal(self, path: Path, columns: Columns) -> None:
        """Writes the segment of a full tail.

        Raises:
            OSError: It could not be written.
            WorkStopped: The work must stop.
        """

    @abstractmethod
    def merge(
        self,
        path: Path,
        old: Sequence[Segment],
        hides: Sequence[Mapping[int, int]],
        released: int,
        names: Sequence[Name] = (),
    ) -> dict[int, int]:
        """Writes the merged segment of neighbouring segments; returns which of its entries stay hidden.

        Args:
            path: The file to write.
            old: The segments, in order of age.
            hides: For each segment its hidden entries, as in `Source.hides`.
            released: As for `joined_entries`.
            names: As for `joined_entries`.

        Raises:
            OSError: It could not be written.
            WorkStopped: The work must stop.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Ends what makes segments."""


class LocalMaker(SegmentMaker):
    """Makes segments in the calling thread."""

    def __init__(self, shape: RecordShape, sync: bool, limiter: RateLimiter | None = None) -> None:
        """Notes how.

        Args:
            shape: The sizes of the index.
            sync: Whether segments survive a crash of the machine.
            limiter: Limits the rate; None: no limit.
        """
        self._shape, self._sync, self._limiter = shape, sync, limiter

    def seal(self, path: Path, columns: Columns) -> None:
        """See `SegmentMaker`."""
        write_segment(path, columns, self._shape, self._sync, self._limiter)

    def merge(
        self,
        path: Path,
        old: Sequence[Segment],
        hides: Sequence[Mapping[int, int]],
        released: int,
        names: Sequence[Name] = (),
    ) -> dict[int, int]:
        """See `SegmentMaker`."""
        columns, kept = joined_entries(old, hides, released, names)
        self.seal(path, columns)
        return kept
