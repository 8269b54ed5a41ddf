"""`neardup demo`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.context import AsJson, of
from stream.cli.output import counted, line, note, progress_bar, show_json, show_tree, table
from stream.cli.part_progress import tell_part
from stream.errors import NotSoundError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from stream.demo.report import DemoReport, Score
    from stream.local.status import State
    from stream.settings import Settings

__all__ = ["demo"]


def demo(
    context: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running afterwards.")] = False,
    keep_data: Annotated[
        bool,
        typer.Option("--keep-data", help="Keep the data of the last demo instead of an empty folder."),
    ] = False,
    rate: Annotated[float, typer.Option(metavar="N", min=0.1, help="Images per second.")] = 120.0,
    as_json: AsJson = False,
) -> None:
    """Run the whole service on the sample, and print the results.

    Starts all parts, sends about 2,000 photographs and edited copies, and waits for every verdict. Then it compares the
    clusters with the labels, checks the store, explains one verdict, decides ten images again, and stops everything.
    The data lies in `demo` below the data folder.

    Examples:

        neardup demo

        neardup demo --keep
    """
    from stream.demo.run import DemoOptions, run_demo
    from stream.interrupts import interruptible

    settings = of(context).settings()
    with interruptible():
        report = run_demo(settings, DemoOptions(rate=rate, keep=keep, keep_data=keep_data), _TerminalView())
    if as_json:
        show_json(report.to_dict())
    else:
        _show(report, settings, kept=keep)
    if not report.law.sound:
        raise NotSoundError(f"the store has {counted(report.law.problem_count, 'problem')}")


def _show(report: DemoReport, settings: Settings, *, kept: bool) -> None:
    shared = report.clusters - report.alone
    line("")
    line(f"images in         {report.images:,}, at {report.published_per_s:,.0f} per second")
    line(
        f"clusters found    {report.clusters:,}: {shared:,} of several images, {report.alone:,} of one image that is"
        " like no other"
    )
    line(f"dead letters      {report.dead_letters:,}")
    line("")
    line("largest clusters")
    for cluster in report.largest:
        more = f", and {cluster.count - len(cluster.members):,} more" if cluster.count > len(cluster.members) else ""
        line(f"  {cluster.head} ({cluster.count:,}): {', '.join(cluster.members)}{more}")
    _show_quality(report)
    line("")
    waits = report.latency
    line("latency, from the arrival of an image's second half in Kafka to its synced and published verdict")
    line(
        f"  p50 {waits.p50_ms:,} ms   p99 {waits.p99_ms:,} ms   longest {waits.max_ms:,} ms   of {waits.count:,} images"
    )
    line("")
    law = report.law
    outcome = "holds" if law.sound else f"BROKEN, {counted(law.problem_count, 'problem')}"
    line(
        f"law 2 (heads and members agree) {outcome}: {counted(law.images, 'image')} in"
        f" {counted(law.clusters, 'cluster')} checked"
    )
    for problem in law.problems:
        line(f"  {problem}")
    _show_look_back(report)
    _show_next(report, settings, kept=kept)


def _show_look_back(report: DemoReport) -> None:
    from core.traces import parse_trace
    from stream.traces.tree import trace_tree

    if report.explained is not None:
        line("")
        line("why one image has its head (`neardup explain`)")
        show_tree(trace_tree(parse_trace(json.dumps(report.explained).encode()), shown_candidates=3))
    if report.replay is not None:
        found = report.replay
        line("")
        counts = ", ".join(f"{change} {count:,}" for change, count in found.counts.items())
        line(f"{counted(found.images, 'image')} decided again (`neardup replay --diff`): {counts}")
        if found.changed:
            rows = [
                (each.image_id, each.change, each.old_head, each.head, each.old_score, each.score)
                for each in found.changed
            ]
            table(("image", "change", "head before", "head after", "score before", "score after"), rows)


def _show_quality(report: DemoReport) -> None:
    quality = report.quality

    def row(name: str, score: Score) -> tuple[str, ...]:
        return name, f"{score.precision:.3f}", f"{score.recall:.3f}", f"{score.f1:.3f}"

    line("")
    line(
        f"agreement with the labels: {quality.images:,} images in {quality.groups:,} groups that neither training nor"
        " the choice of thresholds has seen"
    )
    table(
        ("", "precision", "recall", "F1"),
        [row("  pairwise", quality.pairwise), row("  BCubed, self-excluded", quality.bcubed)],
        right=("precision", "recall", "F1"),
    )


def _show_next(report: DemoReport, settings: Settings, *, kept: bool) -> None:
    from stream.access import api_url

    url = api_url(settings, settings.default_signal)
    line("")
    if report.picture is not None:
        line(f"the largest cluster with pictures is drawn in {_from_here(report.picture)}")
    if not kept:
        line("everything is stopped; `make demo KEEP=1` leaves it up, `make up` starts it as a service")
        return
    head = report.largest[0].head if report.largest else "IMAGE_ID"
    line("everything is up; look at")
    line(f"  neardup similar {head}")
    line("  neardup status")
    line("  neardup tail assignments --from-start")
    line(f"  {url}/v1/images/{head}/similar")
    line(f"  {url}/docs (the API's page)")
    line(f"  https://{settings.flink.host}:{settings.flink.rest_port} (Flink; for a browser see docs/operations.md)")
    line("and stop it with `make down`")


def _from_here(file: str) -> str:
    """A path as a user would type it."""
    return file.removeprefix(f"{Path.cwd()}/")


class _TerminalView:
    """Shows the demo's progress on standard error."""

    def stage(self, text: str) -> None:
        note(text, style="bold")

    def part(self, name: str, state: State, detail: str) -> None:
        tell_part(name, state, detail)

    def note(self, text: str) -> None:
        note(f"  {text}")

    @contextmanager
    def bars(self) -> Iterator[_TerminalBars]:
        with progress_bar() as progress:
            yield _TerminalBars(progress)


class _TerminalBars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def add(self, name: str, total: int) -> None:
        self._tasks[name] = self._progress.add_task(f"  {name:<12}", total=total, note="")

    def set(self, name: str, done: int, note: str = "") -> None:
        self._progress.update(self._tasks[name], completed=done, note=note)
