"""`neardup search`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import note, show_json, table

if TYPE_CHECKING:
    from search.serving import search_pb2

__all__ = ["search"]

CALL_S = 10.0
"""The deadline of one call, in seconds."""


def search(
    context: typer.Context,
    image_id: Annotated[str | None, typer.Option("--image-id", metavar="ID", help="An image that is indexed.")] = None,
    embedding: Annotated[
        Path | None, typer.Option(metavar="FILE.npy", help="A search embedding: one vector, float16 or float32.")
    ] = None,
    score_embedding: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npy", help="The score embedding of the same image, by which candidates are ranked."),
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, max=10_000, help="How many candidates to show.")] = 10,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Show the candidates of an image or an embedding: what the classifier would score, nearest first.

    A search embedding alone has no score code. Its candidates are ordered by shared terms, without distances.
    `neardup head` shows the score of the match that decided. Nothing is inserted.

    Examples:

        neardup search --image-id clothing-0152ec2ee8

        neardup search --embedding search.npy --score-embedding score.npy --k 20 --json
    """
    from core.access import Right
    from core.errors import BadInputError
    from search.serving import search_pb2 as pb
    from search.serving.admission import Caller
    from search.serving.client import SearchClient
    from stream.access import credentials
    from stream.errors import NotIndexedError

    if (image_id is None) == (embedding is None):
        raise BadInputError("give either --image-id or --embedding")
    if score_embedding is not None and embedding is None:
        raise BadInputError("--score-embedding needs --embedding: an indexed image has its own code")
    query = pb.SearchQuery(k=k, image_id=image_id) if image_id is not None else None
    if embedding is not None:
        score = None if score_embedding is None else _vector(score_embedding)
        query = pb.SearchQuery(k=k, vector=_vector(embedding), score=score)
    assert query is not None
    settings = of(context).settings()
    server, proof = settings.signal(signal)[1].search, credentials(settings, Right.READ)
    with closing(SearchClient(server.address, CALL_S, server.max_message_bytes, Caller.INTERACTIVE, proof)) as client:
        answer = client.search([query]).answers[0]
    if not answer.known:
        raise NotIndexedError(f"the index has no image {image_id!r} that can be searched for")
    candidates = answer.candidates
    found = _rows(candidates)
    if as_json:
        show_json({"candidates": found, "exhausted": candidates.exhausted, "truncated": candidates.truncated})
        return
    columns = ("image", "shared terms", "distance", "place")
    table(columns, [tuple(row.values()) for row in found], right=columns[1:])
    if found and not candidates.distances:
        note("ordered by shared terms alone: no codes were compared")


def _vector(path: Path) -> search_pb2.Vector:
    """The vector in a file.

    Raises:
        BadInputError: The file does not hold one vector of float16 or float32.
    """
    import numpy as np

    from core.errors import BadInputError
    from neardup.events_pb2 import FLOAT16, FLOAT32
    from search.serving.search_pb2 import Vector

    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInputError(f"{path} cannot be read as .npy: {error}") from error
    if values.ndim != 1 or values.dtype not in (np.float16, np.float32):
        raise BadInputError(
            f"{path} must hold one vector of float16 or float32, it holds {values.dtype} of shape {values.shape}"
        )
    kind, dtype = (FLOAT16, "<f2") if values.dtype == np.float16 else (FLOAT32, "<f4")
    return Vector(element_type=kind, data=values.astype(dtype).tobytes())


def _rows(found: search_pb2.Candidates) -> list[dict[str, Any]]:
    import numpy as np

    overlaps, places = np.frombuffer(found.overlaps, "<u2").tolist(), np.frombuffer(found.places, "<i8").tolist()
    distances = np.frombuffer(found.distances, "<u2").tolist() or [None] * len(places)
    return [
        {"image_id": image_id, "overlap": overlap, "distance": distance, "place": place}
        for image_id, overlap, distance, place in zip(found.image_ids, overlaps, distances, places, strict=True)
    ]
