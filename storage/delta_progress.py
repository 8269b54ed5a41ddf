"""How far a manifest after the first load is: what its rows, as records of the order, change of that.

The records may be written twice, since whoever writes them begins again after the last row that was applied. So a row
counts only if it comes after that one.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from core.first_loads import LoadRequest, LoadState
from core.manifest_rows import MemberRow, RowResult
from core.types import ImageId
from storage.records import DeltaProgress, RowExample

__all__ = ["MOST_EXAMPLES", "as_said", "begun", "with_row", "without"]

MOST_EXAMPLES = 20
"""Rows that are named because something else became of them than they say."""

_EXPECTED = (RowResult.JOINED, RowResult.FOUNDED)


def begun(manifest_id: str, now_ms: int) -> DeltaProgress:
    """Of a manifest that the store hears of by its first row: it is built again from the order."""
    return DeltaProgress(LoadRequest("", "", manifest_id, ""), LoadState.LOADING, started_ms=now_ms)


def with_row(progress: DeltaProgress, member: MemberRow, image_id: ImageId, now_ms: int) -> DeltaProgress:
    """Once a row is applied, at a time in milliseconds since the epoch."""
    if member.row <= progress.applied:
        return progress
    examples = progress.examples
    if member.result not in _EXPECTED and len(examples) < MOST_EXAMPLES:
        examples = (*examples, RowExample(member.row, image_id, member.result))
    counts = {**progress.counts, member.result: progress.counts.get(member.result, 0) + 1}
    return _ended(replace(progress, applied=member.row, counts=counts, examples=examples), now_ms)


def as_said(kept: DeltaProgress | None, said: DeltaProgress, now_ms: int) -> DeltaProgress:
    """What the writer of the rows says of a manifest. What became of rows is the store's own, and stays."""
    if kept is None:
        return said
    if kept.state is LoadState.LIVE:
        return kept
    return _ended(replace(said, applied=kept.applied, counts=kept.counts, examples=kept.examples), now_ms)


def without(progress: DeltaProgress, image_ids: Container[ImageId]) -> DeltaProgress:
    """Without the examples that name these images, since they were forgotten."""
    kept = tuple(each for each in progress.examples if each.image_id not in image_ids)
    return progress if len(kept) == len(progress.examples) else replace(progress, examples=kept)


def _ended(progress: DeltaProgress, now_ms: int) -> DeltaProgress:
    if progress.applied != progress.rows - 1 or not progress.rows:
        return progress
    return replace(progress, state=LoadState.LIVE, detail="", ended_ms=now_ms)
