"""From the answers of a term index to the messages of `search.proto`."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from search.index.interface import Answer, IndexStats, SearchResult, Stored
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


def index_version(terms_fingerprint: str, max_postings: int) -> str:
    """The name of an index in verdicts: the first 12 digits of its terms' fingerprint, and the bound on a search."""
    return f"{terms_fingerprint[:12]}/{max_postings}"


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
    )
    if density is not None:
        message.density.CopyFrom(pb.Density(drift=density.drift, ratio=density.ratio, size=density.size))
    return message
