"""`neardup replay`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import BadInputError
from stream.cli.choices import IdsFile, chosen_ids, since_ms
from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import counted, note, progress_bar
from stream.cli.replay_output import ReplayWatch, show_differences, show_left_out, show_replay

if TYPE_CHECKING:
    from core.replay_requests import ReplayRequest
    from core.types import ImageId
    from stream.replay.choice import ReplaySelection
    from stream.replay.differences import DiffReport
    from stream.replay.sending import LeftOut, ReplayProgress
    from stream.settings import Settings

__all__ = ["replay", "send_replay", "try_replay"]

PATIENCE_S = 5.0
"""After so many seconds without progress, the bar says what it waits for."""


def replay(
    context: typer.Context,
    image: Annotated[list[str] | None, typer.Option("--id", metavar="IMAGE_ID", help="This image; repeatable.")] = None,
    ids_file: IdsFile = None,
    head: Annotated[str | None, typer.Option(metavar="IMAGE_ID", help="The members of this cluster.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Decided since then: 90m, 2h, 7d, or an ISO time (UTC).")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Decided before then, in the same forms.")] = None,
    cause: Annotated[
        list[str] | None, typer.Option(metavar="CAUSE", help="Whose last verdict has this cause; repeatable.")
    ] = None,
    dead_letters: Annotated[
        bool, typer.Option("--dead-letters", help="Those that a server refused or failed on; by force.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing: show what would change. The job need not run.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show each image as search, score and assign pass it.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show what has changed, image by image.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also images whose verdicts rest on the model and index that serve.")
    ] = False,
    model_version: Annotated[
        str, typer.Option(metavar="V", help="With --dry-run: score with this version of the model.")
    ] = "",
    request: Annotated[
        str | None, typer.Option(metavar="ID", help="Go on with this request: what it has sent is left out.")
    ] = None,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Decide images again: each as of now, without itself, with the model and the index that serve.

    An image keeps its place, and its verdict is written only if it changes. Images go into the order a few at a time,
    so live images hardly wait. After Ctrl-C or an error the last line says how to go on. An image that is sent twice
    is decided twice, with the same verdict.

    With --dry-run nothing is written. The same rule is applied on read-only calls, so the job need not run.
    With --dry-run --watch the images pass the job, and traces show the verdicts.

    Examples:

        neardup replay --id clothing-0152ec2ee8 --watch --diff

        neardup replay --since 2h --cause unscored

        neardup replay --since 7d --dry-run --model-version v12 --json
    """
    from stream.requests import new_request, replay_of

    if model_version and not dry_run:
        raise BadInputError("--model-version needs --dry-run: serve a version with `neardup model`, then replay")
    if dry_run and watch and diff:
        raise BadInputError("a dry run that is watched leaves no verdict to compare: leave --watch or --diff out")
    selection = _selection(chosen_ids(image or (), ids_file), head, since, until, cause or (), dead_letters)
    settings = of(context).running()
    wanted = replay_of(
        request or new_request("replay"),
        force=force or dead_letters,
        dry_run=dry_run,
        model_version=model_version,
        watch=watch,
        bulk=selection.bulk,
    )
    name = settings.signal(signal)[0]
    if dry_run and not watch:
        if request is not None:
            raise BadInputError("a dry run sends no request: leave --request out")
        try_replay(settings, name, selection, model_version, as_json=as_json)
        return
    send_replay(settings, name, selection, wanted, resumed=request is not None, diff=diff, as_json=as_json)


def _selection(
    ids: Sequence[ImageId],
    head: str | None,
    since: str | None,
    until: str | None,
    causes: Sequence[str],
    dead_letters: bool,
) -> ReplaySelection:
    from core.notifications import image_id
    from storage.selecting import ImageSelection
    from stream.dead_letters.choice import DeadLetterChoice
    from stream.replay.choice import ReplaySelection, causes_of

    now_s = time.time()
    stored = None
    if head is not None or since is not None or until is not None or causes:
        stored = ImageSelection(
            head=None if head is None else image_id(head),
            since_ms=None if since is None else since_ms(since, now_s),
            until_ms=None if until is None else since_ms(until, now_s, "--until"),
            causes=causes_of(causes),
        )
    return ReplaySelection(ids, stored, DeadLetterChoice() if dead_letters else None)


def send_replay(
    settings: Settings,
    name: str,
    selection: ReplaySelection,
    wanted: ReplayRequest,
    *,
    resumed: bool,
    diff: bool,
    as_json: bool,
) -> None:
    """Through the order: sends, waits, and says what became of the images."""
    from core.access import Right
    from stream.interrupts import interruptible
    from stream.replay.service import ReplayService

    with ExitStack() as parts:
        parts.enter_context(interruptible())
        service = parts.enter_context(ReplayService(settings, name, Right.WRITE))
        watching = None
        if wanted.watch:
            watching = parts.enter_context(ReplayWatch(settings, name, wanted.request, as_json=as_json))
        bar = parts.enter_context(progress_bar(time_left=True))
        choosing = bar.add_task("choosing", total=None, note="")
        task = bar.add_task("deciding", total=None, note=f"request {wanted.request}")

        def looked(done: int, total: int) -> None:
            bar.update(choosing, completed=done, total=total)

        applied, moved = -1, time.monotonic()

        def look(progress: ReplayProgress) -> None:
            nonlocal applied, moved
            if progress.applied != applied:
                applied, moved = progress.applied, time.monotonic()
            slow = "; waiting for the job to apply them" if time.monotonic() - moved > PATIENCE_S else ""
            bar.update(task, completed=progress.applied, total=progress.sent, note=f"request {wanted.request}{slow}")
            if watching is not None:
                watching.show()

        try:
            pages = service.images(selection, looked)
            done = service.send(pages, wanted, resumed=resumed, keep_old=diff, on_look=look)
            settled = (
                service.settle(wanted.request) if selection.dead_letters is not None and not wanted.dry_run else None
            )
            report = service.differences(done.old) if diff else None
            if watching is not None:
                watching.drain(done.sent - len(done.earlier))
        except BaseException:
            bar.stop()
            command = f"neardup replay --request {wanted.request}"
            same = f"`{command}` and the same choice of images"
            going_on = same if selection.dead_letters is None else f"`{command} --dead-letters`"
            note(f"go on with {going_on}; what is sent is decided anyway")
            raise
    show_replay(wanted.request, done, report, settled, as_json=as_json)


def try_replay(settings: Settings, name: str, selection: ReplaySelection, model_version: str, *, as_json: bool) -> None:
    """Outside the order: shows what would change."""
    from core.access import Right
    from stream.interrupts import interruptible
    from stream.replay.differences import DiffReport
    from stream.replay.sending import LeftOut
    from stream.replay.service import ReplayService
    from stream.replay.trial_service import TrialService

    report, started, left_out = DiffReport(), time.monotonic(), LeftOut()
    try:
        with ExitStack() as parts:
            parts.enter_context(interruptible())
            service = parts.enter_context(ReplayService(settings, name, Right.READ))
            trial = parts.enter_context(TrialService(settings, name, service.storage, model_version))
            left_out = trial.left_out
            bar = parts.enter_context(progress_bar(time_left=True))
            task = bar.add_task("trying", total=None, note="")

            def looked(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total, note=f"{len(report.changed):,} would change")

            for page in service.images(selection, looked):
                trial.add(page, report)
    except BaseException:
        if report.counts:  # it may have taken hours
            _show_tried(report, left_out, started, as_json=as_json)
        raise
    _show_tried(report, left_out, started, as_json=as_json)


def _show_tried(report: DiffReport, left_out: LeftOut, started_s: float, *, as_json: bool) -> None:
    took_s = max(time.monotonic() - started_s, 1e-9)
    tried = sum(report.counts.values())
    show_differences(report, left_out, as_json=as_json)
    if not as_json:
        show_left_out(left_out)
        pace = f"in {took_s:.1f} s ({tried / took_s:,.0f} per second)"
        note(f"{counted(tried, 'image')} tried {pace}; nothing was written")
