"""From queries on the wire to queries of the index; free searches within the limits of a call."""

from __future__ import annotations

from collections.abc import Sequence

from core.types import ImageId
from search.index.interface import NO_IMAGE, MoreQuery, TermIndex, TermQuery
from search.serving import search_pb2 as pb
from search.serving.limits import SearchLimits
from search.serving.request_parser import RequestParser

__all__ = ["more_query", "term_queries"]


def more_query(query: pb.MoreQuery) -> MoreQuery:
    """The query for further candidates."""
    return MoreQuery(query.place, query.after, query.as_of if query.HasField("as_of") else None)


def term_queries(
    queries: Sequence[pb.SearchQuery], parser: RequestParser, index: TermIndex, limits: SearchLimits
) -> list[TermQuery | None]:
    """One query of the index for each query; None where no image of that id can be searched for.

    Raises:
        BadInputError: A query has neither image id nor vector, its vector is wrong, or a limit is exceeded.
    """
    limits.check_items(len(queries))
    for number, query in enumerate(queries):
        limits.check_query(number, query)
    ks = [query.k or limits.ranking.candidates for query in queries]
    limits.check_candidates(sum(ks))
    limits.check_ordered([query.after + k for query, k in zip(queries, ks, strict=True)])
    vectors = iter(parser.terms([query.vector for query in queries if query.HasField("vector")]))
    stored = iter(index.terms([ImageId(query.image_id) for query in queries if query.HasField("image_id")]))
    found: list[TermQuery | None] = []
    for query, k in zip(queries, ks, strict=True):
        terms = next(vectors) if query.HasField("vector") else next(stored)
        if terms is None:
            found.append(None)
            continue
        found.append(
            TermQuery(
                terms=terms,
                k=k,
                after=query.after,
                min_overlap=query.min_overlap or None,
                as_of=query.as_of if query.HasField("as_of") else None,
                without=ImageId(query.image_id) if query.HasField("image_id") else NO_IMAGE,
            )
        )
    return found
