"""The input of the assignment: records of the order with what was found for them, and what it may ask the servers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from clustering.packed import score_codes
from clustering.rule import Match, matches
from core.errors import BadInputError
from core.types import (
    Candidate,
    DeadLetterRecord,
    Decision,
    ImageId,
    Lookup,
    RequestPosition,
    Thresholds,
    Versions,
)

__all__ = ["Arrival", "Backend", "Deleting", "Joining", "More", "MoreNeed", "PairNeed", "Replaying", "pair_need"]


@dataclass(frozen=True, slots=True)
class Deleting:
    """What a delete asks for."""

    version: int | None
    """Versions up to it are deleted; None: up to the one that was placed last."""
    requested_at_ms: int
    author: str
    reason: str
    forget: bool = False
    """Nothing of the image may remain."""


@dataclass(frozen=True, slots=True)
class Replaying:
    """What a replay asks for."""

    force: bool
    """Also if model and index are those of the last verdict."""
    dry_run: bool
    """Nothing is written."""
    request: RequestPosition | None
    """Which request it is; None: it is of no topic, and applied as often as it comes."""


@dataclass(frozen=True, slots=True)
class Joining:
    """What a row of a manifest says of its image. It is not searched for, so it has no candidates and no thresholds."""

    head: ImageId
    """The image's own id: it founds a cluster."""
    manifest_id: str
    row: int
    score: float | None = None
    matched: ImageId | None = None


@dataclass(frozen=True)
class Arrival:
    """One record of the order, with its candidates and their scores.

    A record that names no image has an empty `image_id` and a reason in `unscored`. A replay has the version that the
    index found, and that version's place. Times are milliseconds since the epoch; vectors are the little-endian bytes
    of the notification.

    Raises:
        BadInputError: The image was scored, but thresholds or scores of candidates are lacking.
    """

    offset: int
    checksum: int
    image_id: ImageId
    version: int
    place: int
    """The place that the index gave it; -1 when the index skipped the record, and for a replay that found nothing."""
    score_code: bytes
    candidates: Sequence[Candidate]
    """Those of the first page that count: at least all that score `accept` or `head_accept`. In the order of the index;
    only images with an earlier place, or one before the replay."""
    scores: Sequence[float]
    """One per candidate."""
    exhausted: bool
    """No candidates follow the first page, or only such as are beyond the gate."""
    thresholds: Thresholds | None
    versions: Versions
    unscored: str
    """Why the image could not be searched or scored; empty when it was."""
    search_vector: bytes
    score_vector: bytes
    created_at_ms: int
    arrived_at_ms: int
    truncated: bool = False
    """The search reached `max_postings`. It is the same on every page, because terms and place decide it."""
    dead_letter: DeadLetterRecord | None = None
    """Of a record with a reason in `unscored`."""
    asks: Deleting | Replaying | Joining | None = None
    """None: the record is an image."""
    given: int | None = None
    """How many candidates the first page had; None: as many as `candidates`."""
    gate: int | None = None
    """Candidates whose codes are further away than this are no matches, and not scored; None: all are scored."""
    beyond_gate: Sequence[Candidate] = ()
    """Such candidates of the first page, of an image that gets a trace."""

    def __post_init__(self) -> None:
        if self.unscored:
            return
        if len(self.scores) != len(self.candidates):
            raise BadInputError(
                f"offset {self.offset} has {len(self.candidates)} candidates and {len(self.scores)} scores"
            )
        if self.candidates and self.thresholds is None:
            raise BadInputError(f"offset {self.offset} has scores, but no thresholds")
        if not self.image_id:
            raise BadInputError(f"offset {self.offset} has no image id and no reason for it")

    @cached_property
    def matches(self) -> Sequence[Match]:
        """The matches among the candidates, best first; none for an image that was not scored."""
        if self.unscored or self.thresholds is None:
            return ()
        accept = self.thresholds.accept
        near = (Match(self.candidates[row], score) for row, score in enumerate(self.scores) if score >= accept)
        return matches(self.image_id, near, accept)

    @property
    def next_candidate(self) -> int:
        """How many candidates are known, so that the next page comes after them."""
        return len(self.candidates) if self.given is None else self.given

    def is_near(self, candidate: Candidate) -> bool:
        """Whether a candidate is within the gate, so that it is scored."""
        return self.gate is None or candidate.distance is None or candidate.distance <= self.gate

    def is_last(self, page: More) -> bool:
        """Whether no candidate after a further page could match: there is none, or the gate was reached."""
        # With distances the nearest come first.
        return page.exhausted or not all(map(self.is_near, page.candidates[-1:]))

    def pairs_with(self, candidates: Iterable[Candidate]) -> Iterator[PairNeed]:
        """The scores that a further page of candidates needs."""
        for candidate in filter(self.is_near, candidates):
            yield pair_need(self.versions.model, self.score_code, candidate.score_code)

    @cached_property
    def known_scores(self) -> Mapping[bytes, float]:
        """The scores of the image against the codes of its candidates."""
        return dict(zip(score_codes(self.candidates), self.scores, strict=True))


@dataclass(frozen=True, slots=True)
class PairNeed:
    """A score that is lacking, of two score codes by one version of the model.

    The score is symmetric, so `left <= right`. `pair_need` ensures that.
    """

    model_version: str
    left: bytes
    right: bytes


def pair_need(model_version: str, one: bytes, other: bytes) -> PairNeed:
    """The need of a pair's score, the same for either order of the codes."""
    return PairNeed(model_version, one, other) if one <= other else PairNeed(model_version, other, one)


@dataclass(frozen=True, slots=True)
class MoreNeed:
    """The next candidates of the image at `place`, after the first `after` that are known.

    `as_of` is the position of the record. So an image and its replay in one batch have different needs, and no search
    is as of a position that storage has passed.
    """

    place: int
    after: int
    as_of: int


@dataclass(frozen=True, slots=True)
class More:
    """The next candidates of an image; `exhausted` when no more follow."""

    candidates: Sequence[Candidate]
    exhausted: bool


class Backend(Protocol):
    """What the assignment asks the servers. Every method may raise `core.errors.ServiceError`."""

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId]) -> Lookup:
        """The memberships of these images and their clusters, and the last verdicts on some, all of one moment."""
        ...

    def score(self, pairs: Sequence[PairNeed]) -> Mapping[PairNeed, float]:
        """The scores of all these pairs: float32 values. A pair always has the same score."""
        ...

    def more(self, needs: Sequence[MoreNeed]) -> Mapping[MoreNeed, More]:
        """The next candidates for all these needs, as of the positions of their records."""
        ...

    def apply(self, decisions: Sequence[Decision], offset: int, revision: int) -> None:
        """Writes all decisions or none, if storage still has this offset and revision.

        Raises:
            StaleError: It has others; nothing was written.
        """
        ...
