"""`neardup store`: what is done to the store of a stopped service."""

from __future__ import annotations

import time
from dataclasses import asdict

import typer

from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import counted, line, note, progress_bar, show_json

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Change the store of a stopped service.")


@app.callback()
def _store() -> None:
    """Change the store of a stopped service."""


@app.command()
def convert(context: typer.Context, signal: SignalName = None, as_json: AsJson = False) -> None:
    """Give the store the score codes of the settings: after a change of the projection, the bits or the centre.

    All codes are made anew from the stored embeddings, those of heads at the founding of their clusters too. Heads,
    members, history and positions stay. The embeddings must be the same, and the served model must compare the new
    codes.

    Stop the service first: `neardup job stop`, `neardup down`. The codes are written into a copy of the database, which
    then takes its place in one step. If the command is interrupted, the old store stays; run it again. The copy needs
    as much space as the embeddings.

    Where a head was deleted, or embedded again since its cluster began, its founding embedding is gone. Then the code
    of the member most like it is taken; the command says how many.

    Afterwards build the index anew, which holds codes too, and start the service.

    Examples:

        neardup store convert

        neardup index build --from storage --no-catch-up

        neardup up
    """
    from core.blas import use_one_blas_thread
    from stream.interrupts import interruptible
    from stream.store_conversion import convert_store

    settings = of(context).running()
    name, _ = settings.signal(signal)
    use_one_blas_thread()
    started = time.monotonic()
    with interruptible(), progress_bar(time_left=True) as bar:
        task = bar.add_task("codes", total=None, note="images and clusters")
        found = convert_store(settings, name, lambda done, total: bar.update(task, completed=done, total=total))
    folder, took_s = settings.signal_dir(name, "store"), time.monotonic() - started
    if as_json:
        told = {"converted": False} if found is None else {"converted": True, **asdict(found)}
        show_json({"signal": name, "folder": str(folder), **told, "seconds": round(took_s, 3)})
        return
    if found is None:
        line(f"{folder}: it has these codes already")
        return
    line(f"{folder}: new codes of {counted(found.images, 'image')} and {counted(found.clusters, 'cluster')}")
    if found.from_members:
        note(
            f"{counted(found.from_members, 'cluster')} took the code of the member most like the founding one, whose "
            "embedding is gone"
        )
    if found.without:
        note(f"{counted(found.without, 'cluster')} have no code any more, and no image will join them")
    note(
        f"converted in {took_s:.1f} s; now run `neardup index build --from storage --no-catch-up`, then `neardup up` "
        "and `neardup job start`"
    )
