"""An answer of `explain` for tests of what asks and shows it."""

from __future__ import annotations

from core.traces import TraceKind, TraceReason
from core.types import Thresholds
from storage.api.explaining import AskedOut, ExplainOut, PairOut
from storage.api.schemas import ImageOut
from storage.interfaces import ClusterStore
from storage.records import ImageRecord
from tests.support.traces import sample_trace

__all__ = ["KnownAnswers"]


class KnownAnswers:
    """Explains every image of a store alike, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []

    def explain(self, store: ClusterStore, image: ImageRecord, against: ImageRecord | None) -> ExplainOut:
        """The sample's verdict now, and none as of its place."""
        self.asked.append((image.image_id, None if against is None else against.image_id))
        verdict = sample_trace(image_id=image.image_id, kind=TraceKind.QUESTION, reason=TraceReason.ASKED)
        return ExplainOut(
            image_id=image.image_id,
            recorded=ImageOut.of(image),
            now=AskedOut(as_of=99, incomplete=False, verdict=verdict, problem=None),
            at_place=AskedOut(
                as_of=image.place, incomplete=True, verdict=None, problem="the index cannot search for it"
            ),
            against=None if against is None else _pair(image, against),
        )


def _pair(image: ImageRecord, against: ImageRecord) -> PairOut:
    return PairOut(
        image_id=image.image_id,
        other_id=against.image_id,
        head=image.head,
        other_head=against.head,
        same_head=False,
        would_match=False,
        would_join=False,
        apart="below_accept",
        why="it scores below `accept`, so it is no match",
        shared_terms=12,
        needed_terms=1,
        distance_bits=301,
        code_bits=1024,
        score=0.25,
        head_score=None,
        thresholds=Thresholds(0.5, 0.25, 0.75),
        later_id=image.image_id,
        asked=sample_trace(image_id=image.image_id),
    )
