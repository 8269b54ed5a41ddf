"""From the answers of a term index to the messages of `search.proto`."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from search.index.interface import Answer, Found, IndexStats, Stored
from search.serving import search_pb2 as pb
from search.tuning.drift import DensityDrift

__all__ = ["answer_message", "candidates_message", "index_version", "stats_message", "stored_message"]


def index_version(terms_fingerprint: str) -> str:
    """How verdicts name the index they were made with."""
    return terms_fingerprint[:12]


def answer_message(answer: Answer) -> pb.Answer:
    """The answer to one record."""
    return pb.Answer(
        offset=answer.offset,
        place=answer.place,
        score_code=answer.code,
        candidates=candidates_message(answer.found),
        superseded=answer.superseded,
    )


def candidates_message(found: Found) -> pb.Candidates:
    """The candidates of one search."""
    return pb.Candidates(
        image_ids=found.image_ids,
        overlaps=found.overlaps.astype("<u2", copy=False).tobytes(),
        places=found.places.astype("<i8", copy=False).tobytes(),
        score_codes=np.ascontiguousarray(found.codes).tobytes(),
        exhausted=found.exhausted,
        cut=found.cut,
        postings=found.postings,
    )


def stored_message(stored: Stored) -> pb.StoredImage:
    """What the index has of one image."""
    return pb.StoredImage(
        image_id=stored.image_id,
        image_version=stored.version,
        place=stored.place,
        score_code=stored.code,
        hidden=stored.hidden,
    )


def stats_message(stats: IndexStats, folder: str, density: DensityDrift | None) -> pb.StatsResponse:
    """What the index holds; `density` where there is something to compare with."""
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
