"""From queries on the wire to queries of the index; free searches within the limits of a call."""

from __future__ import annotations

from collections.abc import Sequence

from core.types import ImageId
from search.index.interface import NO_IMAGE, MoreQuery, TermIndex, TermQuery
from search.ranking import page_of
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

    A stored image is searched for with its own code. A vector has a code if its score embedding comes with it.

    Raises:
        BadInputError: A query has neither image id nor vector, a vector is wrong, or a limit is exceeded.
    """
    limits.check_items(len(queries))
    for number, query in enumerate(queries):
        limits.check_query(number, query)
    ks = [query.k or page_of(limits.ranking, query.after) for query in queries]
    limits.check_candidates(sum(ks))
    limits.check_ordered([query.after + k for query, k in zip(queries, ks, strict=True)])
    vectors = iter(parser.vectors([query for query in queries if query.HasField("vector")]))
    ids = [ImageId(query.image_id) for query in queries if query.HasField("image_id")]
    stored = iter(index.terms_and_codes(ids))
    found: list[TermQuery | None] = []
    for query, k in zip(queries, ks, strict=True):
        asked = next(vectors) if query.HasField("vector") else next(stored)
        if asked is None:
            found.append(None)
            continue
        terms, code = asked
        found.append(
            TermQuery(
                terms=terms,
                code=code,
                k=k,
                after=query.after,
                min_overlap=query.min_overlap or None,
                as_of=query.as_of if query.HasField("as_of") else None,
                without=ImageId(query.image_id) if query.HasField("image_id") else NO_IMAGE,
            )
        )
    return found
