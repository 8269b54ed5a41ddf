"""`neardup publish`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from stream.cli.context import SignalName, of
from stream.cli.output import counted, note, progress_bar

__all__ = ["publish"]


def publish(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE.parquet", help="The images with their embeddings.")],
    rate: Annotated[
        float | None,
        typer.Option(metavar="N", help="Images per second; default: as fast as possible."),
    ] = None,
    skip: Annotated[
        int, typer.Option("--skip", metavar="N", min=0, help="Leave out the first N rows: go on after an error.")
    ] = 0,
    trace: Annotated[
        bool, typer.Option("--trace", help="Ask for a trace of each verdict: `neardup debug` shows them.")
    ] = False,
    signal: SignalName = None,
) -> None:
    """Send the images of a Parquet file: both embeddings of each, to Kafka.

    Columns: image_id (string), search and score (lists of float16 or float32); optional are image_version (default 1)
    and created_at (timestamp, or milliseconds since the epoch). A file may be sent twice: known image versions are
    ignored. What is counted is acknowledged by Kafka. After an error or Ctrl-C the last line says how to go on.

    Examples:

        neardup publish examples/photos/photos.parquet --rate 200

        neardup publish more.parquet --signal texts
    """
    from manifests.image_files import ImageFile
    from stream.interrupts import interruptible
    from stream.publish import Publisher
    from stream.publish import publish as send

    settings = of(context).settings()
    name, chosen = settings.signal(signal)
    images = ImageFile(file, chosen.search_embedding.dimension, chosen.score_embedding.dimension)
    started = time.monotonic()
    with interruptible(), Publisher(settings, name) as publisher, progress_bar() as bar:
        task = bar.add_task("publishing", total=max(0, images.rows - skip), note="")

        def show(_: int) -> None:
            bar.update(task, completed=publisher.acknowledged)

        try:
            sent = send(images.rows_from(skip), publisher, rate=rate, trace=trace, on_sent=show)
            bar.update(task, completed=sent)
        except BaseException:
            done = publisher.acknowledged
            bar.update(task, completed=done)
            note(f"Kafka has acknowledged {counted(done, 'image')} of this run; go on with --skip {skip + done}")
            raise
    took_s = time.monotonic() - started
    note(
        f"{counted(sent, 'image')} sent to {' and '.join(publisher.topics)} in {took_s:.1f} s"
        f" ({sent / max(took_s, 1e-9):,.0f} per second)"
    )
