"""The cluster rule, for one image at a time.

Similarity is not transitive, so the rule states which head an image joins:

1. A *match* is a candidate that scores >= `accept` against the image. An image never matches itself. Matches are tried
   best first: by score, then by overlap (both descending), then by age.
2. The image joins the head of the first match whose founding code scores >= `head_accept` against the image itself.
   This prevents drift: every member is close to its head, however long the chain of matches was.
3. Without such a match the image becomes its own head.
4. Then singletons among the matches may be adopted. A singleton, other than the image and the chosen head, moves to the
   chosen head if the founding codes of both score >= `adopt`. It moves in the same write.
5. A head that has members stays a head. Its new version keeps the cluster and the founding code, and still adopts. So
   does a head that was deleted and comes back, while others are still members. Any other image that comes in a new
   version, or is replayed, leaves its cluster first, and is then decided like a new image.
6. A head without a founding code (its image was never coded) cannot be compared. It refuses every image and is never
   adopted.
7. A match *vouches* for its cluster if a person pinned it there: people said that it belongs there, so a copy of it
   does too. Its head also accepts an image that scores >= `head_accept` against that match, whatever its founding code.

The rule gets the matches with their clusters, and a function that knows scores. Where that function does not know a
score yet, it answers None. The verdict is then a presumption, marked as incomplete, and the function has been asked for
every score that the verdict may rest on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from core.types import Candidate, Cause, Cluster, ImageId, Move, Thresholds

__all__ = [
    "ClusterRule",
    "Match",
    "PairScore",
    "Placed",
    "Subject",
    "Verdict",
    "judge",
    "matches",
    "unscored_move",
    "vouches",
]

PairScore = Callable[[bytes, bytes], float | None]
"""The score of two codes, the same for either order; None when it is not known yet."""


class Match(NamedTuple):
    """A candidate and its score against the image."""

    candidate: Candidate
    score: float


class Placed(NamedTuple):
    """A match and its cluster, without the image that is decided if it was a member there."""

    match: Match
    cluster: Cluster
    vouched: bool = False
    """A person pinned the match into this cluster."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The image that is decided."""

    image_id: ImageId
    score_code: bytes
    thresholds: Thresholds
    home: Cluster | None
    """The cluster of its last version, or the one that it names although it was deleted; None for a new image."""

    @property
    def keeps(self) -> bool:
        """Whether it is a head that has members, or was one when it was deleted."""
        return self.home is not None and self.home.head == self.image_id and (self.home.count > 1 or self.returns)

    @property
    def returns(self) -> bool:
        """Whether it was deleted and still names a cluster."""
        return self.home is not None and self.home.head == self.image_id and self.home.head_deleted

    @property
    def old_head(self) -> ImageId | None:
        """The head of its last version; None for a new or a deleted image."""
        return None if self.home is None or self.returns else self.home.head


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule decides: the image's own move, then those of the singletons that it adopts."""

    moves: tuple[Move, ...]
    complete: bool
    """All scores that it rests on were known; else it is a presumption."""
    refused: bool
    """There were matches, and all their heads are known to refuse the image: further candidates may help."""


class ClusterRule(Protocol):
    """Decides which head an image joins, from its matches. `judge` is the rule of this project.

    A rule is pure: the same arguments give the same verdict. It may use only scores that it asks `score` for.
    """

    def __call__(self, subject: Subject, placed: Sequence[Placed], score: PairScore) -> Verdict:
        """Decides one image; the arguments are those of `judge`."""
        ...


def matches(image_id: ImageId, scored: Iterable[Match], accept: float) -> list[Match]:
    """The matches of an image, best first.

    Args:
        image_id: The image; a candidate of this id is left out.
        scored: Candidates with their scores against the image.
        accept: The score from which a candidate is a match.
    """
    found = [one for one in scored if one.score >= accept and one.candidate.image_id != image_id]
    if len(found) > 1:
        found.sort(key=lambda match: (-match.score, -match.candidate.overlap, match.candidate.place))
    return found


def judge(subject: Subject, placed: Sequence[Placed], score: PairScore) -> Verdict:
    """Decides one image by the rule that this module states.

    Args:
        subject: The image.
        placed: Its matches, best first, with their clusters.
        score: The scores of pairs.
    """
    own, cluster, complete = _own_move(subject, placed, score)
    adopted, all_known = _adopted(subject, placed, cluster, score)
    refused = complete and bool(placed) and own.cause is Cause.FOUNDED
    return Verdict((own, *adopted), complete and all_known, refused)


def vouches(subject: Subject, placed: Placed) -> bool:
    """Whether a match makes its head accept the image, whatever the founding code of the head."""
    return placed.vouched and placed.match.score >= subject.thresholds.head_accept


def unscored_move(subject: Subject) -> Move:
    """The move of an image that could not be searched or scored: it becomes, or stays, its own head."""
    return Move(subject.image_id, subject.old_head, subject.image_id, Cause.UNSCORED)


def _own_move(subject: Subject, placed: Sequence[Placed], score: PairScore) -> tuple[Move, Cluster, bool]:
    """The image's own move, the cluster that it moves to, and whether that is certain."""
    image_id = subject.image_id
    if subject.home is not None and subject.keeps:
        return Move(image_id, subject.old_head, image_id, Cause.KEPT), subject.home, True
    chosen, certain = _first_accepting(subject, placed, score)
    if chosen is None:
        founded = Cluster(image_id, 1, subject.score_code)
        return Move(image_id, subject.old_head, image_id, Cause.FOUNDED), founded, certain
    match, cluster = chosen.match, chosen.cluster
    own = Move(image_id, subject.old_head, cluster.head, Cause.MATCHED, match.score, match.candidate.image_id)
    return own, cluster, certain


def _first_accepting(subject: Subject, placed: Sequence[Placed], score: PairScore) -> tuple[Placed | None, bool]:
    """The first match whose head accepts the image, and whether that is certain.

    Asks for the score of every head up to the first that is known to accept. So one round of calls brings all scores
    that can matter. While some are lacking, the best match whose head is not known to refuse is presumed.
    """
    presumed: Placed | None = None
    tried: set[ImageId] = set()
    for one in placed:
        if one.cluster.head in tried and not vouches(subject, one):
            continue
        tried.add(one.cluster.head)
        known = _head_score(subject, one, score)
        if known is None:
            presumed = presumed or one
        elif known >= subject.thresholds.head_accept:
            return presumed or one, presumed is None
    return presumed, presumed is None


def _head_score(subject: Subject, placed: Placed, score: PairScore) -> float | None:
    founding_code = placed.cluster.founding_code
    if vouches(subject, placed) or founding_code == placed.match.candidate.score_code:
        return placed.match.score
    return score(subject.score_code, founding_code) if founding_code else _NEVER


def _adopted(subject: Subject, placed: Sequence[Placed], chosen: Cluster, score: PairScore) -> tuple[list[Move], bool]:
    """The moves of the singletons that are adopted, and whether all scores for them were known."""
    moves: list[Move] = []
    all_known = True
    for one in placed:
        single, cluster = one.match.candidate.image_id, one.cluster
        if cluster.head != single or cluster.count != 1 or single == chosen.head:
            continue
        if not cluster.founding_code or not chosen.founding_code:
            continue
        known = score(cluster.founding_code, chosen.founding_code)
        if known is None:
            all_known = False
        elif known >= subject.thresholds.adopt:
            moves.append(Move(single, single, chosen.head, Cause.ADOPTED, known, subject.image_id))
    return moves, all_known


_NEVER = float("-inf")
"""The score against a head that cannot be compared."""
