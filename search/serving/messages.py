"""From the answers of a term index to the messages of `search.proto`."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from search.index.interface import Answer, IndexStats, SearchResult, Stored
from search.ranking import Order, Ranking
from search.serving import search_pb2 as pb
from search.tuning.drift import DensityDrift

__all__ = [
    "fill_answer",
    "fill_candidates",
    "fill_terms",
    "index_version",
    "stats_message",
    "stored_message",
]


def index_version(terms_fingerprint: str, max_postings: int, ranking: Ranking) -> str:
    """The name of an index in verdicts: all that its candidates depend on beside the images.

    The first 12 digits of the fingerprint of its terms, the bound on a search, and how it ranks. For example
    `41d0ab93c2f1/1000000/20-of-1000-by-1024-bits`: the nearest 20 of the first 1,000 by shared terms. In the order of
    shared terms it is `41d0ab93c2f1/1000000/100-by-overlap`.
    """
    depth = f"-of-{ranking.depth}-by-{ranking.distance_bits}-bits"
    order = depth if ranking.order is Order.DISTANCE else "-by-overlap"
    sharing = f"-sharing-{ranking.min_overlap}" if ranking.min_overlap > 1 else ""
    return f"{terms_fingerprint[:12]}/{max_postings}/{ranking.candidates}{order}{sharing}"


def fill_answer(message: pb.Answer, answer: Answer) -> None:
    """The answer to one record."""
    message.offset = answer.offset
    message.place = answer.place
    message.score_code = answer.code
    message.superseded = answer.superseded
    message.image_version = answer.version
    message.deleted = answer.deleted
    fill_candidates(message.candidates, answer.result)


def fill_candidates(message: pb.Candidates, found: SearchResult) -> None:
    """Fills in the candidates of one search, in place: protobuf would copy a message that is made separately."""
    message.image_ids.extend(found.image_ids)
    message.overlaps = found.overlaps.astype("<u2", copy=False).tobytes()
    message.places = found.places.astype("<i8", copy=False).tobytes()
    message.score_codes = np.ascontiguousarray(found.codes).tobytes()
    message.exhausted = found.exhausted
    message.truncated = found.truncated
    message.postings = found.postings
    if found.distances is not None:
        message.distances = found.distances.astype("<u2", copy=False).tobytes()


def fill_terms(message: pb.Terms, terms: NDArray[np.uint32] | None) -> None:
    """Fills in the terms of one search; nothing for None."""
    if terms is not None:
        message.values = terms.astype("<u4", copy=False).tobytes()


def stored_message(stored: Stored) -> pb.StoredImage:
    """What the index knows of one image."""
    return pb.StoredImage(
        image_id=stored.image_id,
        image_version=stored.version,
        place=stored.place,
        score_code=stored.code,
        hidden=stored.hidden,
        deleted=stored.deleted,
        erased=stored.erased,
    )


def stats_message(stats: IndexStats, folder: str, density: DensityDrift | None) -> pb.StatsResponse:
    """What the index holds; `density` if the density that the terms were chosen for is known."""
    message = pb.StatsResponse(
        folder=folder,
        log_id=stats.position.log_id,
        offset=stats.position.offset,
        released=stats.released,
        images=stats.images,
        entries=stats.entries,
        segments=stats.segments,
        tail=stats.tail,
        merging=stats.merging,
        bytes=asdict(stats.bytes),
        term_sets=stats.term_sets,
        postings=stats.postings,
        posting_lists=stats.posting_lists,
        expected_postings=stats.expected_postings,
        queries=stats.queries,
        query_postings=stats.query_postings,
        forgetting=stats.forgetting,
    )
    if density is not None:
        message.density.CopyFrom(pb.Density(drift=density.drift, ratio=density.ratio, size=density.size))
    return message
