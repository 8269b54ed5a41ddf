"""`neardup centres`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream.cli.context import SignalName, of
from stream.cli.output import counted, line, progress_bar

__all__ = ["centres"]


def centres(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE.parquet", help="Images with both embeddings: a sample of what will come.")
    ],
    out: Annotated[Path, typer.Argument(metavar="CENTRES.npz", help="Where the mean vectors go.")],
    signal: SignalName = None,
) -> None:
    """Fit the centres of a signal: the mean embeddings, and the mean of the search embedding's roots.

    They are taken away before anything is hashed.

    Name the file under `centres` of the signal. Index and model belong to the centres they were made with.

    Examples:

        neardup centres photos.parquet centres.npz
    """
    from stream.centres import fit_centres, write_centres
    from stream.image_files import ImageFile

    _, chosen = of(context).signal(signal)
    images = ImageFile(file, chosen.search_embedding.dimension, chosen.score_embedding.dimension)
    with progress_bar() as bar:
        task = bar.add_task("reading", total=images.rows, note="images")
        fitted = fit_centres(images, lambda: bar.advance(task))
    write_centres(out, fitted)
    line(f"{out}: the means of {counted(images.rows, 'image')}")
