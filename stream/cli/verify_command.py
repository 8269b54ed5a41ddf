"""`neardup verify`."""

from __future__ import annotations

from contextlib import closing

import typer

from core.errors import UnavailableError
from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import counted, line, progress_bar, show_json
from stream.errors import NotSoundError

__all__ = ["verify"]


def verify(context: typer.Context, signal: SignalName = None, as_json: AsJson = False) -> None:
    """Check that heads and members agree, over the whole store.

    Every image must be a member of its head's cluster and of no other, every head must be its own head, and all counts
    must be right. The check runs on a snapshot, so the stream can go on.

    The exit code is 0 if the store is sound, 5 if it is not.

    Example:

        neardup verify
    """
    from core.access import Right
    from storage.serving.client import StorageClient
    from stream.access import credentials

    settings = of(context).settings()
    name, chosen = settings.signal(signal)
    proof = credentials(settings, Right.READ)
    server = chosen.storage
    done = None
    with (
        closing(StorageClient(server.address, 10.0, server.max_message_bytes, proof)) as storage,
        progress_bar() as bar,
    ):
        task = bar.add_task("checking", total=None, note="")
        for progress in storage.verify():
            bar.update(task, completed=progress.checked, total=progress.total)
            done = progress if progress.done else None
    if done is None:
        raise UnavailableError("the storage server ended the check early")
    if as_json:
        show_json(
            {
                "signal": name,
                "sound": done.problem_count == 0,
                "images": done.images,
                "clusters": done.clusters,
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
        line(f"sound: {counted(done.images, 'image')} in {counted(done.clusters, 'cluster')}")
