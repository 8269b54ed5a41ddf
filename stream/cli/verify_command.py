"""`neardup verify`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import UnavailableError
from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import counted, line, progress_bar, show_json
from stream.errors import NotSoundError

if TYPE_CHECKING:
    from storage.verify import VerifyProgress

__all__ = ["verify"]


def verify(
    context: typer.Context,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what the images alone can mend, then check.")] = False,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Check that heads and members agree, over the whole store.

    Every image must be a member of its head's cluster and of no other, every head must be its own head, and all counts
    must be right. The check runs on a snapshot, so the stream can go on.

    --repair takes the images as the truth. Edges, counts and lost clusters are made anew, and what belongs to no image
    is deleted, in small writes beside the stream's. It needs the write key. Lost embeddings and holes in the history
    stay: restore a snapshot, or send these images again.

    The exit code is 0 if the store is sound, 5 if it is not.

    Examples:

        neardup verify

        neardup verify --repair
    """
    from core.access import Right
    from storage.serving.client import StorageClient
    from stream.access import credentials

    settings = of(context).settings()
    name, chosen = settings.signal(signal)
    proof = credentials(settings, Right.WRITE if repair else Right.READ)
    server = chosen.storage
    found = 0
    with closing(StorageClient(server.address, 10.0, server.max_message_bytes, proof)) as storage:
        if repair:
            found = _followed("repairing", storage.repair()).problem_count
        done = _followed("checking", storage.verify())
    if as_json:
        show_json(
            {
                "signal": name,
                "sound": done.problem_count == 0,
                "images": done.images,
                "clusters": done.clusters,
                **({"repaired": max(0, found - done.problem_count)} if repair else {}),
                "problem_count": done.problem_count,
                "problems": list(done.problems),
            }
        )
    else:
        for problem in done.problems:
            line(problem)
    if done.problem_count:
        raise NotSoundError(f"the store of {name} has {counted(done.problem_count, 'problem')}")
    if not as_json:
        if repair:
            line(f"repaired: {counted(found, 'problem')}")
        line(f"sound: {counted(done.images, 'image')} in {counted(done.clusters, 'cluster')}")


def _followed(what: str, reports: Iterable[VerifyProgress]) -> VerifyProgress:
    """The last report of a check, whose progress is shown meanwhile."""
    done = None
    with progress_bar() as bar:
        task = bar.add_task(what, total=None, note="")
        for progress in reports:
            bar.update(task, completed=progress.checked, total=progress.total)
            done = progress if progress.done else None
    if done is None:
        raise UnavailableError("the storage server ended the check early")
    return done
