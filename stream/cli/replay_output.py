"""What `neardup replay` shows: the images as the job passes them, what has changed, and what was left out."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from stream.cli.output import counted, line, note, show_json, table, write_json_line

if TYPE_CHECKING:
    from core.known_verdicts import KnownVerdict
    from stream.replay.differences import Difference, DiffReport
    from stream.replay.sending import LeftOut, ReplayProgress
    from stream.settings import Settings

__all__ = ["ReplayWatch", "show_differences", "show_left_out", "show_replay"]

SHOWN = 50
"""How many changed images the table has, those with the most important changes first."""

NAMED = 20
"""How many images that were left out are named."""

DRAIN_S = 10.0
"""How long the last traces are waited for: they are written after the verdicts."""


class ReplayWatch:
    """Shows the traces of one request as they are written. Use it as a context manager."""

    def __init__(self, settings: Settings, name: str, request: str, *, as_json: bool) -> None:
        """Begins at the end of the topic. As JSON each trace is one line, before the result."""
        from stream.names import client_id
        from stream.topic_reader import TopicReader
        from stream.traces.choice import TraceChoice
        from stream.traces.reading import Unread

        topic = settings.signal(name)[1].topic("debug")
        self._reader = TopicReader(settings.kafka_access(client_id(name, "replay-watch")), topic)
        self._reader.seek(self._reader.ends()[1])
        self._choice, self._unread = TraceChoice(requests=(request,)), Unread()
        self._as_json = as_json
        self._verdicts = 0

    def __enter__(self) -> ReplayWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.__exit__(kind, error, trace)

    def show(self, timeout_s: float = 0.0) -> None:
        """Shows what has come since the last call."""
        from core.traces import TraceKind
        from stream.traces.reading import chosen
        from stream.traces.words import trace_line

        for record, trace in chosen(iter(self._reader.poll(timeout_s)), self._choice, self._unread):
            self._verdicts += trace.kind != TraceKind.STEP
            if self._as_json:
                write_json_line(record.value.decode())
            else:
                line(trace_line(trace, record.timestamp_ms), flush=True)

    def drain(self, verdicts: int) -> None:
        """Waits for the traces of so many verdicts, for a while."""
        until = time.monotonic() + DRAIN_S
        while self._verdicts < verdicts and time.monotonic() < until:
            self.show(0.2)
        if self._verdicts < verdicts:
            note(f"{counted(verdicts - self._verdicts, 'trace')} did not come within {DRAIN_S:.0f} s")


def show_replay(
    request: str, done: ReplayProgress, report: DiffReport | None, settled: int | None, *, as_json: bool
) -> None:
    """The result of a replay through the order."""
    if as_json:
        result: dict[str, Any] = {
            "request": request,
            "sent": done.sent,
            "sent_before": len(done.earlier),
            "applied": done.applied,
            **_left_out_json(done.left_out),
        }
        if settled is not None:
            result["settled"] = settled
        show_json({**result, **({} if report is None else _report_json(report))})
        return
    if report is not None:
        _show_report(report)
    before = f", {len(done.earlier):,} of them by an earlier run" if done.earlier else ""
    line(f"{counted(done.sent, 'image')} decided again{before} (request {request})")
    if settled is not None:
        line(f"{counted(settled, 'image')} of dead letters settled")
    show_left_out(done.left_out)


def show_differences(report: DiffReport, left_out: LeftOut, *, as_json: bool) -> None:
    """What would change."""
    if as_json:
        show_json({**_left_out_json(left_out), **_report_json(report)})
    else:
        _show_report(report)


def show_left_out(left_out: LeftOut) -> None:
    """Names the images that could not be decided."""
    for images, why in (
        (left_out.unknown, "not known to storage"),
        (left_out.without_embeddings, "left out: their embeddings are not stored"),
    ):
        if images:
            more = f" and {len(images) - NAMED:,} more" if len(images) > NAMED else ""
            note(f"{counted(len(images), 'image')} {why}: {', '.join(images[:NAMED])}{more}")


def _show_report(report: DiffReport) -> None:
    from stream.replay.differences import Change

    if report.changed:
        columns = ("image", "change", "head before", "head after", "cause", "score before", "score after")
        importance = {change: rank for rank, change in enumerate(Change)}
        first = sorted(report.changed, key=lambda each: importance[each.change])[:SHOWN]
        table(columns, [_row(each) for each in first], right=columns[5:])
        if len(report.changed) > SHOWN:
            note(f"and {len(report.changed) - SHOWN:,} more; --json names all")
    for change in Change:
        if report.counts[change]:
            line(f"{change}: {report.counts[change]:,}")


def _row(one: Difference) -> tuple[object, ...]:
    new = one.new
    if new is None:
        return one.image_id, one.change, one.old.head, "", one.old.cause, _score(one.old), ""
    cause = new.cause if new.cause == one.old.cause else f"{one.old.cause} -> {new.cause}"
    return one.image_id, one.change, one.old.head, new.head, cause, _score(one.old), _score(new)


def _score(verdict: KnownVerdict) -> str:
    return "" if verdict.score is None else f"{verdict.score:.5f}"


def _left_out_json(left_out: LeftOut) -> dict[str, Any]:
    return {"unknown": left_out.unknown, "without_embeddings": left_out.without_embeddings}


def _report_json(report: DiffReport) -> dict[str, Any]:
    from stream.replay.differences import Change

    return {
        "counts": {change.value: report.counts[change] for change in Change},
        "changed": [
            {
                "image_id": each.image_id,
                "change": each.change.value,
                "old": each.old.as_json(),
                "new": None if each.new is None else each.new.as_json(),
            }
            for each in report.changed
        ],
    }
