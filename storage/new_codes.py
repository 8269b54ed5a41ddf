"""Other score codes for a whole store: what becomes of each embedding and of each founding code. Pure.

The vectors lie beside the old codes, so the code of an image is made anew from them. A founding code is that of the
moment when its cluster began, and its head may have been embedded again or deleted since. So each founding code is
taken from the member whose old code equals it: nearly always the head. Where no member has that code any more, it is
taken from the member whose old code is nearest. An empty code, of an image that could not be scored, stays empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from itertools import chain, islice

from core.errors import BadInputError
from storage.interfaces import StoreView
from storage.records import ClusterRecord, EmbeddingRecord

__all__ = ["MEMBERS", "FoundingSource", "Recode", "new_embeddings", "new_founding"]

Recode = Callable[[Sequence[EmbeddingRecord]], Sequence[bytes]]
"""Makes the new score codes of some images from their vectors; each code depends on its own image alone."""

BATCH = 1024
"""Images that are encoded at once: about 10 MB of float32."""

MEMBERS = 1000
"""So many members of a cluster, the oldest ones, are compared with a founding code that its head no longer has."""


class FoundingSource(StrEnum):
    """What a new founding code was made of."""

    SAME = "same"
    """The vectors that the old one was made of."""
    MEMBER = "member"
    """Those of the member that is most like it: its own vectors are gone."""
    NOTHING = "nothing"
    """No member has a code any more, so nothing will join the cluster."""
    UNSCORED = "unscored"
    """There was no founding code."""


def new_embeddings(embeddings: Iterable[EmbeddingRecord], recode: Recode) -> Iterator[list[EmbeddingRecord]]:
    """The same embeddings with new codes, in batches.

    Raises:
        BadInputError: An image has a code and no vectors. The message names the first one and counts all.
    """
    remaining = iter(embeddings)
    while batch := list(islice(remaining, BATCH)):
        lacking = next(filter(_lacks_vectors, batch), None)
        if lacking is not None:
            count = sum(map(_lacks_vectors, chain(batch, remaining)))
            raise BadInputError(
                f"images that have a score code and no vectors: {count}, the first one is {lacking.image_id!r} at place"
                f" {lacking.place}. Their codes cannot be made anew. Delete these images, or send them again with a "
                "higher version; nothing was changed"
            )
        coded = [one for one in batch if one.score_code]
        codes = iter(recode(coded) if coded else ())
        yield [replace(one, score_code=next(codes)) if one.score_code else one for one in batch]


def new_founding(
    view: StoreView, cluster: ClusterRecord, bits: int, code_at: Callable[[int], bytes]
) -> tuple[ClusterRecord, FoundingSource]:
    """A cluster with its new founding code.

    Args:
        view: The store with the old codes.
        cluster: One of its clusters.
        bits: The leading bits of an old code that count where no code is equal.
        code_at: Gives the new code of the image at a place.

    Returns:
        The cluster, and where its code comes from.
    """
    if not cluster.founding_code:
        return cluster, FoundingSource.UNSCORED
    nearest: tuple[int, int] | None = None
    for edge in islice(view.edges_of(cluster.head, 0), MEMBERS):
        image = view.image(edge.member)
        embedding = None if image is None else view.embedding(image.place)
        if embedding is None or not embedding.score_code:
            continue
        if embedding.score_code == cluster.founding_code:
            return replace(cluster, founding_code=code_at(embedding.place)), FoundingSource.SAME
        distance = _distance(embedding.score_code, cluster.founding_code, bits)
        if nearest is None or distance < nearest[0]:
            nearest = distance, embedding.place
    if nearest is None:
        return replace(cluster, founding_code=b""), FoundingSource.NOTHING
    return replace(cluster, founding_code=code_at(nearest[1])), FoundingSource.MEMBER


def _lacks_vectors(embedding: EmbeddingRecord) -> bool:
    return bool(embedding.score_code) and not (embedding.search_vector and embedding.score_vector)


def _distance(one: bytes, other: bytes, bits: int) -> int:
    """In how many of the leading bits two codes differ."""
    size = bits // 8
    return (int.from_bytes(one[:size]) ^ int.from_bytes(other[:size])).bit_count()
