"""Answers records and queries from one state of the index. Takes no lock and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError, RefusedError
from core.types import ImageId
from search.index.columns import Kind
from search.index.drafts import Draft, draft_of
from search.index.interface import (
    Answer,
    Insert,
    MoreQuery,
    Ranked,
    Record,
    Replay,
    SearchResult,
    Stored,
    TermQuery,
)
from search.index.placements import ANY_VERSION, FindLast, Placement
from search.index.settings import IndexSettings
from search.index.state import State
from search.index.two_stages import Asked, TwoStages
from search.ranking import page_of

__all__ = ["MAX_WANTED", "Answers"]

MAX_WANTED = 1_000_000
"""The most candidates that one search ranks, with those that it skips."""


class Answers:
    """Answers with the settings of an index. For any number of threads."""

    def __init__(self, settings: IndexSettings) -> None:
        """Takes the settings."""
        self._settings = settings
        self.stages = TwoStages(settings)
        """Searches, and counts them."""

    def to_records(self, state: State, records: Sequence[Record], last: FindLast, fresh: int) -> list[Answer]:
        """One answer per record. All records are applied already.

        Args:
            state: The state to search in.
            records: Some records of the log.
            last: Finds the placements of their images, including those of the records themselves.
            fresh: Records from this offset on were applied just now, so their terms and codes need no look-up.
        """
        drafts = [draft_of(state, record, last, record.offset >= fresh) for record in records]
        carried = [draft.carried for draft in drafts if draft.carried is not None]
        stored = iter(state.codes(np.array([_reference(one) for one in carried], np.int64)) if carried else ())
        codes = [draft.code if draft.carried is None else next(stored).tobytes() for draft in drafts]
        asked = [(record, draft) for record, draft in zip(records, drafts, strict=True) if draft.searched]
        terms = self._terms(state, asked, fresh)
        found = self._as_of(
            state,
            [draft.as_of for _, draft in asked],
            terms,
            self._rows([code for code, draft in zip(codes, drafts, strict=True) if draft.searched]),
            [last(record.image_id, draft.as_of, ANY_VERSION) for record, draft in asked],
            [0] * len(asked),
        )
        searched = zip(found, terms, strict=True)
        answers = []
        for record, draft, code in zip(records, drafts, codes, strict=True):
            result, own_terms = (self.nothing(), None) if draft.searched is None else next(searched)
            answers.append(
                Answer(
                    record.offset,
                    draft.place,
                    code,
                    result,
                    own_terms,
                    draft.superseded,
                    draft.version,
                    draft.deleted,
                )
            )
        return answers

    def more(self, state: State, queries: Sequence[MoreQuery], askable: range) -> list[SearchResult]:
        """See `TermIndex.search_more`; searches as of `askable` places alone can still be answered."""
        references = state.find(np.array([query.place for query in queries], np.int64))
        as_of = [query.place if query.as_of is None else query.as_of for query in queries]
        for query, place, reference in zip(queries, as_of, references.tolist(), strict=True):
            if place not in askable or place < query.place:
                raise RefusedError(
                    f"cannot search as of place {place} for the image at place {query.place}: the places from "
                    f"{max(askable.start, query.place)} to {askable.stop - 1} are applied and not released",
                    place,
                )
            source, entry = reference >> 32, reference & 0xFFFFFFFF
            if reference < 0 or not state.sources[source].is_searchable(entry):
                raise RefusedError(f"no image that can be searched for lies at place {query.place}", place)
            if query.after < 0:
                raise RefusedError(f"cannot pass over {query.after} candidates", place)
        older = state.last(state.ids(references), as_of)
        terms, codes = state.terms(references), state.codes(references)
        return self._as_of(state, as_of, terms, codes, older, [query.after for query in queries])

    def free(self, state: State, queries: Sequence[TermQuery], now: int) -> list[SearchResult]:
        """See `TermIndex.search`."""
        if not queries:
            return []
        for query in queries:
            self._check(query.terms[np.newaxis], query.k, query.after, query.min_overlap, query.as_of)
            if query.code and len(query.code) != self._settings.code_bytes:
                raise BadInputError(
                    f"a query has a code of {len(query.code)} bytes, the index takes {self._settings.code_bytes}"
                )
        places = [now if query.as_of is None else query.as_of for query in queries]
        excluded = [_excluded(found) for found in state.last([query.without for query in queries], places)]
        least = self._settings.ranking.min_overlap
        asked = Asked(
            terms=np.array([query.terms for query in queries], np.uint32),
            codes=self._rows([query.code or bytes(self._settings.code_bytes) for query in queries]),
            as_of=np.array(places, np.int64),
            excluded=np.array(excluded, np.int64),
            least=np.array([query.min_overlap or least for query in queries], np.int64),
            after=np.array([query.after for query in queries], np.int64),
            k=np.array([query.k for query in queries], np.int64),
        )
        coded = np.array([bool(query.code) for query in queries])
        found: dict[int, SearchResult] = {}
        for with_code in (False, True):
            rows = np.flatnonzero(coded == with_code)
            some = asked.some(rows, with_code)
            found.update(zip(rows.tolist(), self.stages.pages(state, some), strict=True))
        return [found[row] for row in range(len(queries))]

    def bare(
        self,
        state: State,
        terms: NDArray[np.uint32],
        k: int,
        min_overlap: int | None,
        as_of: int,
        codes: NDArray[np.uint8] | None,
    ) -> Ranked:
        """See `TermIndex.rank`."""
        self._check(terms, k, 0, min_overlap, as_of)
        n = len(terms)
        if codes is not None and codes.shape != (n, self._settings.code_bytes):
            raise BadInputError(f"the codes have the shape {codes.shape}, not {(n, self._settings.code_bytes)}")
        asked = Asked(
            terms=np.ascontiguousarray(terms, np.uint32),
            codes=None if codes is None else np.array(codes, np.uint8),
            as_of=np.full(n, as_of, np.int64),
            excluded=np.full(n, -1, np.int64),
            least=np.full(n, min_overlap or self._settings.ranking.min_overlap, np.int64),
            after=np.zeros(n, np.int64),
            k=np.full(n, k, np.int64),
        )
        ordered = self.stages.ordered(state, asked)
        hits = ordered.hits
        sizes = np.minimum(hits.sizes, k)
        return Ranked(
            places=state.place_rows(hits.entries, sizes, k),
            overlaps=hits.overlaps[:, :k],
            sizes=sizes,
            exhausted=hits.sizes <= k,
            truncated=ordered.truncated,
            postings=hits.touched,
            distances=None if ordered.distances is None else ordered.distances[:, :k],
        )

    def stored(self, state: State, image_ids: Sequence[ImageId]) -> list[Stored | None]:
        """See `TermIndex.get`."""
        return [
            None if found is None else self._stored(state, image_id, found)
            for image_id, found in zip(image_ids, state.newest(image_ids), strict=True)
        ]

    def terms_and_codes(
        self, state: State, image_ids: Sequence[ImageId]
    ) -> list[tuple[NDArray[np.uint32], bytes] | None]:
        """See `TermIndex.terms_and_codes`."""
        latest = state.newest(image_ids)
        searchable = [one for one in latest if one is not None and one.kind is Kind.SEARCHABLE]
        references = np.array([_reference(one) for one in searchable], np.int64)
        codes = (code.tobytes() for code in state.codes(references))
        found = zip(state.terms(references), codes, strict=True)
        return [next(found) if one is not None and one.kind is Kind.SEARCHABLE else None for one in latest]

    def nothing(self) -> SearchResult:
        """No candidates."""
        return SearchResult(
            image_ids=(),
            overlaps=np.empty(0, np.uint16),
            places=np.empty(0, np.int64),
            codes=np.empty((0, self._settings.code_bytes), np.uint8),
            exhausted=True,
        )

    def _stored(self, state: State, image_id: ImageId, latest: Placement) -> Stored:
        searchable = latest.kind is Kind.SEARCHABLE
        hidden = not searchable or state.sources[latest.source].last_seen_by(latest.entry) is not None
        source = state.sources[latest.source]
        (stored_as,) = source.ids_of(np.array([latest.entry], np.int64))
        return Stored(
            image_id,
            latest.version,
            latest.place,
            _code(state, latest),
            hidden,
            latest.kind.is_delete,
            erased=stored_as != image_id,
        )

    @staticmethod
    def _terms(state: State, asked: Sequence[tuple[Record, Draft]], fresh: int) -> NDArray[np.uint32]:
        """The terms (n, groups) to search for."""
        carried = [
            image.terms
            for record, draft in asked
            if (image := _image_of(record)) and draft.searched and fresh <= record.offset == draft.searched.place
        ]
        if len(carried) == len(asked):
            return np.array(carried, np.uint32)
        return state.terms(np.array([_reference(draft.searched) for _, draft in asked if draft.searched], np.int64))

    def _as_of(
        self,
        state: State,
        as_of: Sequence[int],
        terms: NDArray[np.uint32],
        codes: NDArray[np.uint8],
        older: Sequence[Placement | None],
        afters: Sequence[int],
    ) -> list[SearchResult]:
        """Searches for images with these terms (n, groups) and codes (n, code bytes), as of places.

        `older` are the last placements of the same images before the places; they are not found.
        """
        ranking = self._settings.ranking
        asked = Asked(
            terms=terms,
            codes=codes,
            as_of=np.array(as_of, np.int64),
            excluded=np.array([_excluded(one) for one in older], np.int64),
            least=np.full(len(as_of), ranking.min_overlap, np.int64),
            after=np.array(afters, np.int64),
            k=np.array([page_of(ranking, after) for after in afters], np.int64),
        )
        return self.stages.pages(state, asked)

    def _rows(self, codes: Sequence[bytes]) -> NDArray[np.uint8]:
        """Codes as rows (n, code bytes)."""
        rows = np.frombuffer(bytearray().join(codes), np.uint8)  # writable, as the compiled code expects it
        return rows.reshape(len(codes), self._settings.code_bytes)

    def _check(self, terms: NDArray[np.uint32], k: int, after: int, min_overlap: int | None, as_of: int | None) -> None:
        settings = self._settings
        if terms.ndim != 2 or terms.shape[1] != settings.groups:
            raise BadInputError(f"a query has {terms.shape[1:]} terms, the index takes ({settings.groups},)")
        if len(terms) and int(terms.max()) >> settings.bits_per_group:
            raise BadInputError(f"a query has a term of more than {settings.bits_per_group} bits")
        if k < 1 or after < 0 or k + after > MAX_WANTED:
            raise BadInputError(f"k must be at least 1, after at least 0, both at most {MAX_WANTED}, not {k}, {after}")
        if min_overlap is not None and not 1 <= min_overlap <= settings.groups:
            raise BadInputError(f"min_overlap must lie in 1 to the {settings.groups} groups, not {min_overlap}")
        if as_of is not None and as_of < 0:
            raise BadInputError(f"as_of is a place, not {as_of}")


def _image_of(record: Record) -> Insert | None:
    """The image that a record carries."""
    image = record.image if isinstance(record, Replay) else record
    return image if isinstance(image, Insert) else None


def _reference(placement: Placement) -> int:
    return placement.source << 32 | placement.entry


def _excluded(older: Placement | None) -> int:
    """The reference to the one version of an image that a search as of a later place could find."""
    return -1 if older is None else _reference(older)


def _code(state: State, placement: Placement) -> bytes:
    if placement.kind is not Kind.SEARCHABLE:
        return b""
    return bytes(state.codes(np.array([_reference(placement)], np.int64))[0])
