"""`neardup show`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import UnavailableError
from stream.cli.choices import since_ms
from stream.cli.context import AsJson, SignalName, of
from stream.cli.nested import show_nested
from stream.cli.output import line, note, progress_bar, show_json, show_tree, table

if TYPE_CHECKING:
    from stream.dead_letters.groups import ListedDeadLetter
    from stream.image_report import ImageReport

__all__ = ["show"]


def show(
    context: typer.Context,
    image_id: Annotated[str, typer.Argument(metavar="IMAGE_ID", help="The image.")],
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Dead letters and traces since then: 90m, 2h, 7d, or an ISO time (UTC)."),
    ] = None,
    changes: Annotated[int, typer.Option(metavar="N", min=1, help="The last N changes of its head.")] = 100,
    traces: Annotated[int, typer.Option(metavar="N", min=1, help="Its last N traces.")] = 3,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Show everything that is known of an image: verdict, cluster, index, history, dead letters, traces and rules.

    Without --since, the topics of dead letters and traces are read whole. A part that does not answer is named, and the
    exit code is 4 then.

    Examples:

        neardup show clothing-0152ec2ee8

        neardup show clothing-0152ec2ee8 --since 1d --json | jq .history
    """
    from stream.errors import NotKnownError
    from stream.image_report import ReportLimits, report_on
    from stream.interrupts import interruptible

    settings = of(context).settings()
    limits = ReportLimits(changes=changes, traces=traces, since_ms=0 if since is None else since_ms(since, time.time()))
    with interruptible(), progress_bar() as bar:
        task = bar.add_task("asking for", total=6, note="")

        def step(what: str) -> None:
            bar.update(task, advance=1, note=what)

        report = report_on(image_id, settings, signal, limits, step)
        bar.update(task, completed=6, note="done")
    if not report.known and not report.problems:
        raise NotKnownError(f"nothing is known of {image_id!r}: no verdict, dead letter or trace has this id")
    if as_json:
        show_json(_as_json(report))
    else:
        _show(report)
    if report.problems:
        raise UnavailableError("\n".join(["not everything could be asked", *report.problems]))


def _as_json(report: ImageReport) -> dict[str, Any]:
    return {
        "image_id": report.image_id,
        "verdict": report.verdict,
        "deleted": report.deleted,
        "cluster": report.cluster,
        "indexed": report.indexed,
        "history": report.history,
        "dead_letters": [_dead_letter_json(each) for each in report.dead_letters],
        "traces": [json.loads(record.value) for record, _ in report.traces],
        "rules": report.rules,
        "problems": report.problems,
    }


def _show(report: ImageReport) -> None:
    from stream.traces.tree import trace_tree
    from stream.traces.words import trace_line

    line(f"image {report.image_id}")
    if report.deleted is not None:
        line(f"  deleted at {report.deleted}")
    elif report.storage_silent:
        line("  its verdict could not be asked for")
    elif report.verdict is None:
        line("  no verdict: it is unknown, or still waits")
    sections = {"verdict": report.verdict, "cluster": report.cluster, "index": report.indexed}
    for title, values in sections.items():
        if values:
            line("")
            show_nested({title: values})
    if report.history:
        _show_table("history", list(map(_change_row, report.history)), _CHANGE_COLUMNS)
    if report.dead_letters:
        rows = [tuple(_dead_letter_json(each).values()) for each in report.dead_letters]
        _show_table("dead letters", rows, tuple(_dead_letter_json(report.dead_letters[0])))
    if report.traces:
        line("")
        line("traces")
        for record, trace in report.traces[:-1]:
            line(f"  {trace_line(trace, record.timestamp_ms)}")
        show_tree(trace_tree(report.traces[-1][1]))
    line("")
    line(f"rules: {', '.join(report.rules) or 'none'}")
    if not report.traces and report.verdict is not None:
        note("(no trace: `neardup explain` asks again what its verdict would be)", style="dim")


_CHANGE_COLUMNS = ("number", "when", "version", "head", "head before", "cause", "score", "match", "model", "index")


def _change_row(change: dict[str, Any]) -> tuple[object, ...]:
    versions = change["versions"]
    return (
        change["history_number"],
        change["decided_at"],
        change["version"],
        change["head"] or "(deleted)",
        change["old_head"],
        change["cause"],
        change["score"],
        change["matched"],
        versions["model"],
        versions["index"],
    )


def _dead_letter_json(one: ListedDeadLetter) -> dict[str, Any]:
    from stream.times import time_text

    return {
        "offset": one.record.offset,
        "when": time_text(one.record.timestamp_ms),
        "state": one.state.value,
        "reason": one.dead.reason.value,
        "detail": one.dead.detail,
    }


def _show_table(title: str, rows: list[tuple[object, ...]], columns: tuple[str, ...]) -> None:
    line("")
    line(title)
    table(columns, rows, right=("number", "version", "score", "offset"))
