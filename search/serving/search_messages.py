"""From the answers of a term index to the messages of `search.proto`."""

from __future__ import annotations

import numpy as np

from search.index.interface import Answer, Found
from search.serving import search_pb2 as pb

__all__ = ["answer_message", "candidates_message", "index_version"]


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
    )
