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
        Path, typer.Argument(metavar="FILE.parquet", help="A typical sample of images, with both embeddings.")
    ],
    out: Annotated[Path, typer.Argument(metavar="CENTRES.npz", help="The file to write the mean vectors to.")],
    signal: SignalName = None,
) -> None:
    """Fit the centres of a signal: the mean vectors that are subtracted from embeddings before hashing.

    Set `centres` of the signal to the written file. An index and a model only work with the centres they were made for.

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
