"""What a rule must have seen when it decided a record that storage has already. Pure.

After a crash the job gets records again that it has decided. Storage tells what each of them wrote and what was so
before, and the repeated search brings the same candidates. Only the scores of heads that are no candidates, and further
pages of candidates, are not known again.
"""

from __future__ import annotations

from clustering.arrivals import Arrival, Joining
from clustering.planning import NOTHING_MATCHES, Judgement, without_subject
from clustering.rule import Placed, Subject, Verdict
from core.types import Cause, Written

__all__ = ["recorded_judgement"]


def recorded_judgement(arrival: Arrival, written: Written) -> Judgement | None:
    """The judgement behind what a record wrote; None: no rule was asked, or it moved only others.

    Args:
        arrival: The record, with the candidates of the repeated search.
        written: What it wrote, with what was so before of the image and its matches.
    """
    own = next(iter(written.moves), None)
    if own is None or own.image_id != arrival.image_id or own.cause in (Cause.UNSCORED, Cause.DELETED):
        return None
    if isinstance(arrival.asks, Joining):
        return None
    before = written.before
    held = before.memberships.get(arrival.image_id)
    home = before.clusters.get(arrival.image_id if held is None else held.head)
    subject = Subject(arrival.image_id, arrival.score_code, arrival.thresholds or NOTHING_MATCHES, home)
    placed = [
        Placed(match, without_subject(subject, before.clusters[known.head]))
        for match in arrival.matches
        if (known := before.memberships.get(match.candidate.image_id)) is not None
    ]

    def score(one: bytes, other: bytes) -> float | None:
        code = arrival.score_code
        return arrival.known_scores.get(other if one == code else one) if code in (one, other) else None

    return Judgement(Verdict(written.moves, complete=True, refused=False), subject, placed, (), score)
