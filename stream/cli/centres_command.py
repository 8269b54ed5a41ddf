"""`neardup centres`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.context import SignalName, of
from stream.cli.output import counted, line, progress_bar

if TYPE_CHECKING:
    from stream.centres import VectorPair

__all__ = ["centres"]


def centres(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE.parquet", help="A typical sample of images, with both embeddings.")
    ],
    out: Annotated[Path, typer.Argument(metavar="CENTRES.npz", help="The file to write the mean vectors to.")],
    keep_means: Annotated[
        bool, typer.Option("--keep-means", help="Keep the means that CENTRES.npz holds, and only measure.")
    ] = False,
    signal: SignalName = None,
) -> None:
    """Fit the centres of a signal: the mean vectors that are subtracted from embeddings before hashing.

    Norms and distances are measured too. The job refuses vectors that are far outside of them, so the sample should
    hold edited copies and odd pictures also. Set `centres` of the signal to the written file.

    An index and a model only work with the means that they were made for. Use --keep-means to measure for them anew,
    and for files of release 0.1, which have no measurements. Restart the job to use the new file.

    Examples:

        neardup centres photos.parquet centres.npz

        neardup centres photos.parquet centres.npz --keep-means
    """
    import numpy as np

    from core.vector_limits import QUANTILES
    from manifests.image_files import ImageFile
    from stream.centres import file_vectors, fit_means, measure, read_centres, write_centres

    _, chosen = of(context).signal(signal)
    images = ImageFile(file, chosen.search_embedding.dimension, chosen.score_embedding.dimension)
    specs = chosen.search_embedding, chosen.score_embedding
    old = read_centres(out) if keep_means else None
    with progress_bar() as bar:
        task = bar.add_task("reading", total=images.rows * (1 if old else 2), note="images")

        def vectors() -> Iterator[VectorPair]:
            return file_vectors(images, lambda: bar.advance(task))

        means = old.means if old else fit_means(vectors(), *specs)
        fitted = measure(vectors(), means, *specs)
    write_centres(out, fitted)
    line(f"{out}: {'measured on' if old else 'the means of'} {counted(images.rows, 'image')}")
    for side, measured in fitted.measured.items():
        least, *_, most = measured.norms
        mean, spread = float(np.linalg.norm(measured.centre)), float(measured.distances[len(QUANTILES) // 2])
        line(f"  {side}: norms {least:.3g} to {most:.3g}, norm of the mean {mean:.3g}, median distance {spread:.3g}")
