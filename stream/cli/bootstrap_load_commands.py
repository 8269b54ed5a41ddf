"""`neardup bootstrap load|status|abort`: the first load of a signal, and its deltas."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.bootstrap_deltas import delta_bar, delta_json, rate_and_left, show_deltas, show_results
from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import counted, line, note, progress_bar, show_json, stages, table
from stream.cli.texts import duration_text, time_text

if TYPE_CHECKING:
    from core.first_loads import LoadReport
    from operators.first_load import FirstLoad
    from storage.loading.delta_report import DeltaReport

__all__ = ["abort", "load", "status"]

_COLUMNS = ("server", "state", "rows", "rate", "left", "images", "clusters", "began", "detail")


def load(
    context: typer.Context,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A folder, or s3://BUCKET/PREFIX.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The manifest.")],
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Begin a service with the images of a snapshot, or add those of a delta to it.

    A snapshot: search and storage load by themselves, beside what is there, and check what they have. Meanwhile new
    images are joined, and wait; then storage swaps, search follows, both start again, and the images that waited are
    decided, against all that was loaded. Refused once any record was applied.

    A delta: storage checks all of it, then writes its rows into the order, a few at a time, and fewer while live images
    are late. Each image joins the cluster where the head that it names is now. It waits until the manifest before it is
    live.

    Without a terminal, each new state is a line on standard error, with what is waited for.

    Ctrl-C ends the waiting, and the servers go on loading. Say the command again to follow it: without it, nobody
    swaps to a snapshot. The folder must be reachable for the servers under the same name.

    Examples:

        neardup bootstrap load /data/old 2026-11-01

        neardup bootstrap load s3://photos/old first --json
    """
    from core.access import Right
    from manifests.manifest import SUFFIX
    from stream.bootstrap.loading import load_request, servers, until_all_entered, until_live
    from stream.interrupts import interruptible

    settings = of(context).running()
    request = load_request(settings, signal, folder, name.removesuffix(SUFFIX))
    if request.is_delta:
        with interruptible(), servers(settings, signal, Right.WRITE) as both, delta_bar() as tell_delta:
            delta = until_all_entered(request, both.storage, tell_delta)
        _show_entered(delta, as_json)
        return
    with interruptible(), servers(settings, signal, Right.WRITE) as both, _bars() as tell:
        found = until_live(request, both.storage, both.search, tell)
    if as_json:
        show_json(_json(found))
        return
    assert found.storage is not None
    stored = found.storage
    line(f"live: {counted(stored.images, 'image')} in {counted(stored.clusters, 'cluster')}")
    _note_pace(stored)


def _show_entered(delta: DeltaReport, as_json: bool) -> None:
    if as_json:
        show_json(delta_json(delta))
        return
    show_results(delta)
    _note_pace(delta.load)


def _note_pace(report: LoadReport) -> None:
    took_s = max(report.ended_ms - report.started_ms, 1) / 1000
    note(f"{counted(report.rows_total, 'row')} in {duration_text(took_s)}, {report.rows_total / took_s:,.0f} a second")


def status(context: typer.Context, signal: SignalName = None, as_json: AsJson = False) -> None:
    """Show how far the first load is in both servers, and each delta: rows, pace, time left, and what it waits for.

    Of a delta also what became of its rows, and the first of which something else became than they say.

    Examples:

        neardup bootstrap status

        neardup bootstrap status --json
    """
    from core.access import Right
    from operators.first_load import FirstLoad
    from stream.bootstrap.loading import servers

    with servers(of(context).running(), signal, Right.READ) as both:
        found, deltas = FirstLoad(both.storage.load_status(), both.search.load_status()), both.storage.deltas()
    if as_json:
        show_json({**_json(found), "deltas": [delta_json(each) for each in deltas]})
        return
    _show(found)
    if deltas:
        line("")
        show_deltas(deltas)


def abort(
    context: typer.Context,
    manifest_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the manifest, as `status` tells it.")],
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """End the first load and remove what it wrote, or end a delta: its rows that have entered stay.

    One that is live stays. A delta that was aborted goes on where it was when it is loaded again.

    Examples:

        neardup bootstrap abort 4f0c2a8be1d94e7790b6a1f3c5d8e207
    """
    from core.access import Right
    from operators import first_load
    from stream.bootstrap.loading import servers

    with servers(of(context).running(), signal, Right.WRITE) as both:
        if both.storage.deltas(manifest_id):
            both.storage.abort_load(manifest_id)
            (delta,) = both.storage.deltas(manifest_id)
            show_json(delta_json(delta)) if as_json else show_deltas([delta])
            return
        found = first_load.abort(manifest_id, both.storage, both.search)
    show_json(_json(found)) if as_json else _show(found)


def _show(found: FirstLoad) -> None:
    if found.state is None:
        note("no first load")
        return
    request = found.reports[0].request
    line(f"{request.folder}/manifests/{request.manifest}, {request.manifest_id}: {found.state}")
    now_ms = time.time_ns() // 10**6
    parts = [(name, each) for name, each in (("storage", found.storage), ("search", found.search)) if each is not None]
    table(_COLUMNS, [_row(name, each, now_ms) for name, each in parts])


def _row(server: str, report: LoadReport, now_ms: int) -> tuple[object, ...]:
    rows = f"{report.rows_done:,} of {report.rows_total:,}" if report.rows_total else ""
    images, clusters = (f"{each:,}" if each else "" for each in (report.images, report.clusters))
    began = time_text(report.started_ms) if report.started_ms else ""
    return server, report.state, rows, *rate_and_left(report), images, clusters, began, report.detail


def _json(found: FirstLoad) -> dict[str, Any]:
    def told(report: LoadReport | None) -> dict[str, Any] | None:
        return None if report is None else {**asdict(report), "state": str(report.state)}

    return {
        "state": None if found.state is None else str(found.state),
        "rows_done": found.rows_done,
        "rows_total": found.rows_total,
        "storage": told(found.storage),
        "search": told(found.search),
    }


@contextmanager
def _bars() -> Iterator[Callable[[FirstLoad], None]]:
    """A bar for each server; without a terminal, a note for each new state."""
    with progress_bar(time_left=True) as bars:
        tasks = {name: bars.add_task(name, total=None, note="") for name in ("storage", "search")}
        notes = {name: stages() for name in tasks}

        def tell(found: FirstLoad) -> None:
            for name, report in (("storage", found.storage), ("search", found.search)):
                if report is not None:
                    words = f"{report.state} {report.detail}".strip()
                    bars.update(tasks[name], completed=report.rows_done, total=report.rows_total or None, note=words)
                    notes[name](f"{name}: {words}")

        yield tell
