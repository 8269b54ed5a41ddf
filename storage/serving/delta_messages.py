"""Deltas as messages."""

from __future__ import annotations

from collections.abc import Iterable

from core.load_messages import load_fields, load_of
from core.manifest_rows import RowResult
from core.types import ImageId
from storage.loading.delta_report import DeltaReport
from storage.records import RowExample
from storage.serving import storage_pb2 as pb

__all__ = ["delta_of", "deltas_message"]


def deltas_message(reports: Iterable[DeltaReport]) -> pb.DeltasResponse:
    """How far deltas are."""
    return pb.DeltasResponse(deltas=map(_delta_message, reports))


def delta_of(message: pb.DeltaStatus) -> DeltaReport:
    """How far a delta is, from its message."""
    counts = {RowResult(each.result): each.rows for each in message.counts}
    examples = [RowExample(each.row, ImageId(each.image_id), RowResult(each.result)) for each in message.examples]
    return DeltaReport(load_of(message.load), counts, examples)


def _delta_message(report: DeltaReport) -> pb.DeltaStatus:
    return pb.DeltaStatus(
        load=pb.LoadStatusResponse(**load_fields(report.load)),
        counts=[pb.RowCount(result=result, rows=rows) for result, rows in report.counts.items()],
        examples=[pb.RowExample(row=each.row, image_id=each.image_id, result=each.result) for each in report.examples],
    )
