"""The servers' messages about a record of the order, as the types of `clustering`. Pure.

Packed arrays are little-endian, as `search/serving/search.proto` and `operators/in_flight.proto` say.
"""

from __future__ import annotations

import numpy as np

from clustering.assignment import Arrival, Deleting, Joining, Replaying
from clustering.packed import PackedCandidates
from core.dead_letters import BadRecord
from core.errors import BadInputError, FaultError
from core.notifications import JoinedContent, decode_joined, image_id_of
from core.protos.joined_pb2 import JoinedDelete, JoinedImage, JoinedMember, JoinedReplay
from core.types import DeadLetterRecord, ImageId, RequestPosition, RequestSource, Thresholds, Versions
from operators.in_flight_pb2 import InFlight, Scores
from scoring.serving.scorer_pb2 import ScoreResponse
from search.serving.search_pb2 import Candidates

__all__ = ["arrival", "candidates", "content_of", "first_scores", "scores", "scores_message"]


def candidates(message: Candidates) -> PackedCandidates:
    """The candidates of a search's answer.

    Raises:
        FaultError: The packed arrays do not fit together.
    """
    try:
        return PackedCandidates(
            list(message.image_ids), message.overlaps, message.places, message.score_codes, message.distances
        )
    except BadInputError as error:
        raise FaultError(f"the search server's answer: {error}") from error


def scores_message(response: ScoreResponse, values: bytes) -> Scores:
    """What the scorer said of one image.

    Args:
        response: Of a call; its model, thresholds and gate are those of all its images.
        values: The scores of the image.
    """
    return Scores(
        model_version=response.model_version,
        accept=response.accept,
        head_accept=response.head_accept,
        adopt=response.adopt,
        values=values,
        gate=response.gate if response.HasField("gate") else None,
    )


def scores(packed: bytes, count: int) -> tuple[float, ...]:
    """So many float32 scores.

    Raises:
        FaultError: There are more or fewer.
    """
    if len(packed) != 4 * count:
        raise FaultError(f"the scorer answered {len(packed)} bytes for {count} pairs of 4 bytes each")
    return tuple(np.frombuffer(packed, "<f4").tolist())


def first_scores(packed: bytes, candidates: int, gate: int | None) -> tuple[float, ...]:
    """The scores of the first of so many candidates: of all, unless some are beyond the gate.

    Raises:
        FaultError: There are more scores than candidates, or fewer without a gate.
    """
    return scores(packed, candidates if gate is None else min(len(packed) // 4, candidates))


def content_of(in_flight: InFlight) -> JoinedContent | None:
    """What a record says; None if it cannot be read."""
    decoded = decode_joined(in_flight.record)
    return None if isinstance(decoded, BadRecord) else decoded


def arrival(in_flight: InFlight, content: JoinedContent | None, dead_letter: DeadLetterRecord | None = None) -> Arrival:
    """A record, with its dead letter if it is unscored, as the cluster rule takes it.

    Args:
        in_flight: The record and what was found for it.
        content: What it says. A record that cannot be read has no image id.
        dead_letter: Of an unscored record.

    Raises:
        FaultError: Candidates and scores do not fit together.
    """
    answer, scored = in_flight.answer, in_flight.scores
    unscored = in_flight.unscored
    found = () if unscored else candidates(answer.candidates)
    gate = scored.gate if scored.HasField("gate") else None
    values = () if unscored else first_scores(scored.values, len(found), gate)
    image, version = _image(content)
    return Arrival(
        offset=in_flight.offset,
        checksum=in_flight.checksum,
        image_id=ImageId("") if content is None else image_id_of(content),
        version=answer.image_version if version is None else version,
        place=answer.place,
        score_code=answer.score_code,
        candidates=found if len(values) == len(found) else found[: len(values)],
        scores=values,
        exhausted=answer.candidates.exhausted or len(values) < len(found),
        thresholds=_thresholds(in_flight),
        versions=Versions(
            content.model_version if isinstance(content, JoinedMember) else scored.model_version,
            in_flight.index_version,
        ),
        unscored=unscored,
        search_vector=image.search_vector,
        score_vector=image.score_vector,
        created_at_ms=image.created_at_ms,
        arrived_at_ms=image.arrived_at_ms,
        truncated=not unscored and answer.candidates.truncated,
        dead_letter=dead_letter,
        asks=_asks(content),
        given=max(in_flight.given, len(found)),
        gate=gate,
        beyond_gate=found[len(values) :],
    )


def _image(content: JoinedContent | None) -> tuple[JoinedImage, int | None]:
    """The image that a record carries, or an empty one, and its version; the index says the version of a replay."""
    match content:
        case JoinedImage():
            return content, content.image_version
        case JoinedMember():
            return content.image, content.image.image_version
        case JoinedReplay():
            return content.image, None
        case _:
            return JoinedImage(), 0


def _asks(content: JoinedContent | None) -> Deleting | Replaying | Joining | None:
    match content:
        case JoinedDelete():
            version = content.image_version if content.HasField("image_version") else None
            return Deleting(version, content.requested_at_ms, content.author, content.reason, content.forget)
        case JoinedReplay():
            source = RequestSource(content.origin.topic_id, content.origin.partition)
            request = RequestPosition(source, content.origin.offset) if source.topic_id else None
            return Replaying(content.force, content.dry_run, request)
        case JoinedMember():
            score = content.score if content.HasField("score") else None
            matched = ImageId(content.matched) if content.matched else None
            return Joining(ImageId(content.head), content.manifest_id, content.row, score, matched)
        case _:
            return None


def _thresholds(in_flight: InFlight) -> Thresholds | None:
    if in_flight.unscored or not in_flight.HasField("scores"):
        return None
    scored = in_flight.scores
    return Thresholds(scored.accept, scored.head_accept, scored.adopt)
