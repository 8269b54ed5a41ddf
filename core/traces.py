"""Traces: what a verdict rests on, as one JSON object in the topic `debug`.

`docs/schemas/trace.json` describes each field. A trace is written for an image that asks for one, that is sampled, or
that ends badly. Fields and words are only added, so a reader ignores those that it does not know. A trace has at most
`LIMIT_BYTES`: candidates that do not fit are counted in `dropped_candidates`, adopted images in `dropped_adopted`.

Times are milliseconds since the epoch. Candidates come matches first, best first, then the others by score,
then those beyond the gate of the model, nearest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from crc32c import crc32c
from pydantic import PlainSerializer, TypeAdapter, ValidationError

from core.errors import BadInputError
from core.scores import shortest
from core.types import Thresholds

__all__ = [
    "LIMIT_BYTES",
    "TRACE_FORMAT",
    "Adoption",
    "Choice",
    "HistoryRange",
    "LossReason",
    "Trace",
    "TraceKind",
    "TraceReason",
    "TracedAdoption",
    "TracedCandidate",
    "TracedHalf",
    "TracedSearch",
    "TracedStep",
    "TracedTerms",
    "TracedVersions",
    "Why",
    "fitted",
    "parse_trace",
    "trace_json",
    "traced_terms",
]

TRACE_FORMAT = 1
"""The value of `trace`. It is raised only if a field is removed or changes its meaning."""

LIMIT_BYTES = 262_144
"""The largest trace."""

Score = Annotated[float, PlainSerializer(shortest, return_type=float)]
"""A score, written with the fewest digits that are the same float32."""


class TraceKind(StrEnum):
    """What a trace tells of."""

    IMAGE = "image"
    REPLAY = "replay"
    DELETE = "delete"
    STEP = "step"
    """A watched replay has left one step; its verdict comes in a trace of its own."""
    QUESTION = "question"
    """An image was asked for again. It is an answer of `explain`, and never in the topic."""


class TraceReason(StrEnum):
    """Why an image is traced. The first that holds is named."""

    FLAG = "flag"
    """A notification had `trace` set."""
    HEADER = "header"
    """A notification had the header `neardup-trace`."""
    REPLAY = "replay"
    SAMPLED = "sampled"
    UNSCORED = "unscored"
    """It could not be searched or scored."""
    TRUNCATED = "truncated"
    """Its search reached `max_postings`."""
    ASKED = "asked"
    """Of a question alone."""


class Why(StrEnum):
    """Why an image has the head that it got."""

    MATCHED = "matched"
    NO_CANDIDATES = "no_candidates"
    NO_MATCH = "no_match"
    ALL_REFUSED = "all_refused"
    KEPT = "kept"
    UNSCORED = "unscored"
    PINNED = "pinned"
    BOOTSTRAPPED = "bootstrapped"
    NOT_BOOTSTRAPPED = "not_bootstrapped"

    @property
    def text(self) -> str:
        """The reason as a sentence."""
        return _WHY[self]


_WHY = {
    Why.MATCHED: "it matches an image whose head accepts it",
    Why.NO_CANDIDATES: "no earlier image shares terms with it",
    Why.NO_MATCH: "no candidate scores `accept` against it",
    Why.ALL_REFUSED: "the heads of all its matches score below `head_accept` against it, or overrides forbid them",
    Why.KEPT: "it is a head that has members, so it stays their head",
    Why.UNSCORED: "it could not be searched or scored",
    Why.PINNED: "an override pins it to that image",
    Why.BOOTSTRAPPED: "the row of a manifest says so, and nobody searched for it",
    Why.NOT_BOOTSTRAPPED: "the head that the row of a manifest says is gone, or an override forbids its cluster",
}


class LossReason(StrEnum):
    """Why a candidate did not give the image its head."""

    BELOW_ACCEPT = "below_accept"
    ITSELF = "itself"
    HEAD_REFUSED = "head_refused"
    HEAD_UNCODED = "head_uncoded"
    SAME_HEAD = "same_head"
    WORSE = "worse"
    KEPT = "kept"
    GONE = "gone"
    BEYOND_GATE = "beyond_gate"
    FORBIDDEN = "forbidden"
    PINNED = "pinned"

    @property
    def text(self) -> str:
        """The reason as a sentence."""
        return _LOSSES[self]


_LOSSES = {
    LossReason.BELOW_ACCEPT: "it scores below `accept`, so it is no match",
    LossReason.ITSELF: "it is another version of the same image",
    LossReason.HEAD_REFUSED: "its head scores below `head_accept` against the image",
    LossReason.HEAD_UNCODED: "the code of its head is not known, so nothing can be compared with it",
    LossReason.SAME_HEAD: "a better match has the same head",
    LossReason.WORSE: "the head of a better match accepted the image first",
    LossReason.KEPT: "the image stays the head of its members, whatever matches it",
    LossReason.GONE: "storage has deleted it, and the index had not been told",
    LossReason.BEYOND_GATE: "its code is further away than any that the model could accept, so it was not scored",
    LossReason.FORBIDDEN: "an override forbids that the image joins its cluster",
    LossReason.PINNED: "an override pins the image to another one, whatever matches it",
}


class Adoption(StrEnum):
    """What became of a match that was a singleton, and not the chosen head."""

    ADOPTED = "adopted"
    BELOW_ADOPT = "below_adopt"
    UNCODED = "uncoded"
    """Its code or the code of the chosen head is not known, so they cannot be compared."""
    FORBIDDEN = "forbidden"
    """An override names it, and forbids that it moves there."""


@dataclass(frozen=True, slots=True)
class TracedHalf:
    """Where and when one embedding arrived. `side` is search or score."""

    side: str
    partition: int
    offset: int
    arrived_at_ms: int


@dataclass(frozen=True, slots=True)
class TracedTerms:
    """The terms of the image: how many, and a fingerprint. Equal fingerprints mean equal terms."""

    count: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class TracedSearch:
    """How the candidates were found."""

    found: int
    """Candidates in all pages."""
    pages: int
    """Further pages that were asked for, because all heads had refused."""
    postings: int
    """Postings that the first page touched."""
    truncated: bool
    """The search reached `max_postings`."""
    exhausted: bool
    """There were no candidates after these, or only such as are beyond the gate."""


@dataclass(frozen=True, slots=True)
class TracedCandidate:
    """A candidate, and why it did not give the image its head.

    `head`, `head_score` and `adopt_score` are None where the rule did not ask for them; `score` is so beyond the gate.
    """

    image_id: str
    place: int
    overlap: int
    score: Score | None
    head: str | None = None
    """Of its cluster, when the image was decided."""
    head_score: Score | None = None
    """Of the image against the founding code of that head."""
    lost: str | None = None
    """A `LossReason`; None: it gave the image its head."""
    adoption: str | None = None
    """An `Adoption`; None: it was no singleton, no match, is the chosen head, or the image is pinned."""
    adopt_score: Score | None = None
    """Of the singleton against the chosen head."""
    distance: int | None = None
    """Differing bits of its code and the image's; None: the order was by overlap alone, or the release was earlier."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The head that the image got, the head that it had, and the match that decided. `why` is a `Why`."""

    head: str
    old_head: str | None
    matched: str | None
    score: Score | None
    head_score: Score | None
    why: str


@dataclass(frozen=True, slots=True)
class TracedAdoption:
    """A singleton that moved to the chosen head, and its score against it."""

    image_id: str
    score: Score | None


@dataclass(frozen=True, slots=True)
class TracedRow:
    """The row of a manifest that said the head of an image: the content id of the manifest, and the row from 0."""

    manifest_id: str
    row: int
    head: str
    """As the row says: it may have gone to another head since."""
    result: str | None = None
    """What became of the row (`core.manifest_rows.RowResult`); None: the verdict is told from the history."""


@dataclass(frozen=True, slots=True)
class HistoryRange:
    """The history numbers that the verdict was written with: the image's own first, then those of adopted images."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class TracedVersions:
    """What decided: the versions of model and index, the fingerprint of the settings, the release of the code."""

    model: str = ""
    index: str = ""
    settings: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class TracedStep:
    """One step of the sequence (search, score or assign), when the record came in and went on, and the calls made."""

    name: str
    entered_ms: int
    left_ms: int
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One trace."""

    trace: int = TRACE_FORMAT
    """The format."""
    kind: str
    """A `TraceKind`."""
    image_id: str
    """Empty if the record names no image."""
    version: int
    position: int
    place: int
    """-1: it has none."""
    outcome: str | None
    """An `Outcome`; None for a step."""
    cause: str | None
    """A `Cause`; None if nothing was decided."""
    reason: str
    """A `TraceReason`."""
    request_id: str | None = None
    """Of a replay or a delete."""
    dry_run: bool = False
    repeated: bool = False
    """The verdict was written in an earlier try: it is told from the history. Scores of heads may be missing."""
    created_at_ms: int = 0
    arrived_at_ms: int = 0
    decided_at_ms: int = 0
    halves: tuple[TracedHalf, ...] = ()
    join_wait_ms: int | None = None
    terms: TracedTerms | None = None
    search: TracedSearch | None = None
    thresholds: Thresholds | None = None
    gate: int | None = None
    """The largest distance of a candidate that was scored; None: all were."""
    candidates: tuple[TracedCandidate, ...] = ()
    dropped_candidates: int = 0
    choice: Choice | None = None
    adopted: tuple[TracedAdoption, ...] = ()
    dropped_adopted: int = 0
    unscored: str | None = None
    """Why it could not be searched or scored, as the dead letter says."""
    rules: tuple[str, ...] = ()
    """Overrides that took part; there are none yet."""
    row: TracedRow | None = None
    """None: the record is no row of a manifest."""
    writes: HistoryRange | None = None
    """None: nothing was written."""
    versions: TracedVersions = TracedVersions()
    steps: tuple[TracedStep, ...] = ()


def traced_terms(values: bytes) -> TracedTerms | None:
    """Count and fingerprint of terms, little-endian u32 each; None for none."""
    return TracedTerms(len(values) // 4, f"{crc32c(values):08x}") if values else None


_TRACE = TypeAdapter(Trace)

_Listed = TypeVar("_Listed", TracedCandidate, TracedAdoption)


def trace_json(trace: Trace, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """The trace as JSON, in UTF-8, with every field. A larger one is cut as `fitted` says."""
    raw = _TRACE.dump_json(trace)
    return raw if len(raw) <= limit_bytes else _TRACE.dump_json(fitted(trace, limit_bytes))


def parse_trace(raw: bytes) -> Trace:
    """Reads a trace back. Fields that this release does not know are left out.

    Raises:
        BadInputError: The bytes are no trace, or one of a later format.
    """
    try:
        trace = _TRACE.validate_json(raw, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BadInputError(f"not a trace: {where}: {first['msg']}") from error
    if trace.trace != TRACE_FORMAT:
        raise BadInputError(f"the trace has format {trace.trace}, this release reads {TRACE_FORMAT}")
    return trace


def fitted(trace: Trace, limit_bytes: int = LIMIT_BYTES) -> Trace:
    """The trace without what does not fit into so many bytes: the last candidates, and the last adopted images."""
    bare = replace(trace, candidates=(), adopted=(), dropped_candidates=_MOST, dropped_adopted=_MOST)
    room = limit_bytes - len(_TRACE.dump_json(bare))
    adopted = _first_within(trace.adopted, room // 4)
    room -= sum(map(_bytes, adopted))
    candidates = _first_within(trace.candidates, room)
    return replace(
        trace,
        candidates=candidates,
        adopted=adopted,
        dropped_candidates=trace.dropped_candidates + len(trace.candidates) - len(candidates),
        dropped_adopted=trace.dropped_adopted + len(trace.adopted) - len(adopted),
    )


_MOST = 2**53
"""Stands for a count of unknown length."""

_LISTED: dict[type, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (TracedCandidate, TracedAdoption)}


def _bytes(item: TracedCandidate | TracedAdoption) -> int:
    return len(_LISTED[type(item)].dump_json(item)) + 1  # a comma


def _first_within(items: Sequence[_Listed], room: int) -> tuple[_Listed, ...]:
    return tuple(_taken(items, room))


def _taken(items: Iterable[_Listed], room: int) -> Iterable[_Listed]:
    for item in items:
        room -= _bytes(item)
        if room < 0:
            return
        yield item
