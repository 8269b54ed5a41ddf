"""How far a delta is, as it is told: its state, what became of its rows, and the first with other results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.first_loads import LoadReport, LoadState
from core.manifest_rows import RowResult
from storage.records import DeltaProgress, RowExample

__all__ = ["DeltaReport", "delta_report"]


@dataclass(frozen=True, slots=True)
class DeltaReport:
    """How far a delta is."""

    load: LoadReport
    """Its rows are done once they are applied."""
    counts: Mapping[RowResult, int]
    """What became of the rows that are applied."""
    examples: Sequence[RowExample]
    """The first rows of which something else became than they say."""


def delta_report(progress: DeltaProgress, doing: str = "", waits: str | None = None, per_s: float = 0.0) -> DeltaReport:
    """What is told of a delta.

    Args:
        progress: What the store knows of it.
        doing: What is done at present.
        waits: Why nothing can be done; None: it goes on, or has ended.
        per_s: Rows a second, of late.
    """
    state, detail = progress.state, progress.detail
    entered = progress.applied + 1
    if state is LoadState.LOADING:
        if waits is not None:
            state, doing, per_s = LoadState.WAITING, waits, 0.0
        detail = doing
    elif state in (LoadState.FAILED, LoadState.ABORTED):
        stay = f"{entered:,} of its rows have entered, and stay" if entered else "no row has entered"
        detail = f"{detail}; {stay}" if detail else stay
    load = LoadReport(
        progress.request,
        state,
        detail,
        rows_done=entered,
        rows_total=progress.rows,
        rows_per_s=per_s if state is LoadState.LOADING else 0.0,
        started_ms=progress.started_ms,
        ended_ms=progress.ended_ms,
    )
    return DeltaReport(load, progress.counts, progress.examples)
