"""A trace of each kind of content, for tests of what reads traces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core.traces import (
    Adoption,
    Choice,
    HistoryRange,
    LossReason,
    Trace,
    TracedAdoption,
    TracedCandidate,
    TracedHalf,
    TracedSearch,
    TracedStep,
    TracedTerms,
    TracedVersions,
    TraceKind,
    TraceReason,
    Why,
)
from core.types import Cause, Outcome, Thresholds

__all__ = ["sample_trace"]

ARRIVED_MS = 1_700_000_000_000

_SAMPLE = Trace(
    kind=TraceKind.IMAGE,
    image_id="harbour-3",
    version=1,
    position=7,
    place=7,
    outcome=Outcome.DECIDED,
    cause=Cause.MATCHED,
    reason=TraceReason.FLAG,
    created_at_ms=ARRIVED_MS - 500,
    arrived_at_ms=ARRIVED_MS,
    decided_at_ms=ARRIVED_MS + 40,
    halves=(TracedHalf("search", 0, 4, ARRIVED_MS - 30), TracedHalf("score", 1, 3, ARRIVED_MS)),
    join_wait_ms=30,
    terms=TracedTerms(128, "9c4f01aa"),
    search=TracedSearch(found=5, pages=0, postings=61, truncated=False, exhausted=True),
    thresholds=Thresholds(accept=0.5, head_accept=0.25, adopt=0.75),
    candidates=(
        TracedCandidate("sunset-9", 6, 3, 0.97, "sunset-1", 0.125, LossReason.HEAD_REFUSED),
        TracedCandidate("harbour-2", 2, 40, 0.93, "harbour-1", 0.875),
        TracedCandidate("harbour-1", 1, 52, 0.875, "harbour-1", 0.875, LossReason.SAME_HEAD),
        TracedCandidate(
            "pier-1", 5, 12, 0.75, "pier-1", None, LossReason.WORSE, adoption=Adoption.ADOPTED, adopt_score=0.8125
        ),
        TracedCandidate("crowd-4", 4, 2, 0.0625, lost=LossReason.BELOW_ACCEPT),
    ),
    choice=Choice("harbour-1", None, "harbour-2", 0.93, 0.875, Why.MATCHED),
    adopted=(TracedAdoption("pier-1", 0.8125),),
    writes=HistoryRange(8, 9),
    versions=TracedVersions("2026-11-20", "5d1c0e/1000000", "41d0ab93", "0.2.0"),
    steps=(
        TracedStep("search", ARRIVED_MS + 5, ARRIVED_MS + 14, 1),
        TracedStep("score", ARRIVED_MS + 15, ARRIVED_MS + 22, 1),
        TracedStep("assign", ARRIVED_MS + 23, ARRIVED_MS + 41, 2),
    ),
)


def sample_trace(**changes: Any) -> Trace:
    """An image that joined the head of its second match and adopted a singleton; with other values if given."""
    return replace(_SAMPLE, **changes)
