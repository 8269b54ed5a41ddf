"""`neardup bootstrap load|status|abort`: the first load of a signal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import counted, line, note, progress_bar, show_json, table
from stream.cli.texts import duration_text, time_text

if TYPE_CHECKING:
    from core.first_loads import LoadReport
    from operators.first_load import FirstLoad

__all__ = ["abort", "load", "status"]

_COLUMNS = ("server", "state", "rows", "rate", "left", "images", "clusters", "began", "detail")


def load(
    context: typer.Context,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A folder, or s3://BUCKET/PREFIX.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The manifest, a snapshot.")],
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Begin a service with the images of a manifest.

    Search and storage load by themselves, beside what is there, and check what they have. Meanwhile new images are
    joined, and wait; then storage swaps, search follows, both start again, and the images that waited are decided,
    against all that was loaded. Refused once any record was applied.

    Ctrl-C ends the waiting, and the servers go on loading. Say the command again to follow it: without it, nobody
    swaps. The folder must be reachable for the servers under the same name.

    Examples:

        neardup bootstrap load /data/old 2026-11-01

        neardup bootstrap load s3://photos/old first --json
    """
    from core.access import Right
    from manifests.manifest import SUFFIX
    from stream.bootstrap.loading import load_request, servers, until_live
    from stream.interrupts import interruptible

    settings = of(context).running()
    request = load_request(settings, signal, folder, name.removesuffix(SUFFIX))
    with interruptible(), servers(settings, signal, Right.WRITE) as both, _bars() as tell:
        found = until_live(request, both.storage, both.search, tell)
    if as_json:
        show_json(_json(found))
        return
    assert found.storage is not None
    stored = found.storage
    took_s = max(stored.ended_ms - stored.started_ms, 1) / 1000
    line(f"live: {counted(stored.images, 'image')} in {counted(stored.clusters, 'cluster')}")
    note(f"{counted(stored.rows_total, 'row')} in {duration_text(took_s)}, {stored.rows_total / took_s:,.0f} a second")


def status(context: typer.Context, signal: SignalName = None, as_json: AsJson = False) -> None:
    """Show how far the first load is in both servers: rows, pace, time left, and what it waits for.

    Examples:

        neardup bootstrap status

        neardup bootstrap status --json
    """
    from core.access import Right
    from operators.first_load import FirstLoad
    from stream.bootstrap.loading import servers

    with servers(of(context).running(), signal, Right.READ) as both:
        _show(FirstLoad(both.storage.load_status(), both.search.load_status()), as_json)


def abort(
    context: typer.Context,
    manifest_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the manifest, as `status` tells it.")],
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """End the first load and remove what it wrote. One that is live stays.

    Examples:

        neardup bootstrap abort 4f0c2a8be1d94e7790b6a1f3c5d8e207
    """
    from core.access import Right
    from operators import first_load
    from stream.bootstrap.loading import servers

    with servers(of(context).running(), signal, Right.WRITE) as both:
        _show(first_load.abort(manifest_id, both.storage, both.search), as_json)


def _show(found: FirstLoad, as_json: bool) -> None:
    if as_json:
        show_json(_json(found))
        return
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
    rate, left = "", ""
    if report.rows_per_s > 0:
        rate = f"{report.rows_per_s:,.0f}/s"
        left = duration_text((report.rows_total - report.rows_done) / report.rows_per_s)
    images, clusters = (f"{each:,}" if each else "" for each in (report.images, report.clusters))
    began = time_text(report.started_ms) if report.started_ms else ""
    return server, report.state, rows, rate, left, images, clusters, began, report.detail


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
    """A bar for each server."""
    with progress_bar(time_left=True) as bars:
        tasks = {name: bars.add_task(name, total=None, note="") for name in ("storage", "search")}

        def tell(found: FirstLoad) -> None:
            for name, report in (("storage", found.storage), ("search", found.search)):
                if report is not None:
                    words = f"{report.state} {report.detail}".strip()
                    bars.update(tasks[name], completed=report.rows_done, total=report.rows_total or None, note=words)

        yield tell
