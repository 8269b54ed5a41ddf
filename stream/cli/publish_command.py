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
    signal: SignalName = None,
) -> None:
    """Send the images of a Parquet file: both embeddings of each, to Kafka.

    Columns: image_id (string), search and score (lists of float16 or float32); optional are image_version (default 1)
    and created_at (timestamp, or milliseconds since the epoch). A file may be sent twice: known image versions are
    ignored.

    Examples:

        neardup publish examples/photos/photos.parquet --rate 200

        neardup publish more.parquet --signal texts
    """
    from stream.image_files import ImageFile
    from stream.publish import Publisher
    from stream.publish import publish as send

    settings = of(context).settings()
    name, chosen = settings.signal(signal)
    images = ImageFile(file, chosen.search_embedding.dimension, chosen.score_embedding.dimension)
    started = time.monotonic()
    with Publisher(settings, name) as publisher, progress_bar() as bar:
        task = bar.add_task("publishing", total=images.rows, note="")
        sent = send(images, publisher, rate=rate, on_sent=lambda count: bar.update(task, completed=count))
    took_s = time.monotonic() - started
    note(
        f"{counted(sent, 'image')} sent to {' and '.join(publisher.topics)} in {took_s:.1f} s"
        f" ({sent / max(took_s, 1e-9):,.0f} per second)"
    )
