"""The servers' messages about a record of the order, as the types of `clustering`. Pure.

Packed arrays are little-endian, as `search/serving/search.proto` and `operators/in_flight.proto` say.
"""

from __future__ import annotations

import numpy as np

from clustering.assignment import Arrival
from clustering.packed import PackedCandidates
from core.errors import BadInputError, FaultError
from core.notifications import decode_joined
from core.protos.joined_pb2 import JoinedImage, JoinedRecord
from core.types import DeadLetterRecord, ImageId, Thresholds, Versions
from operators.in_flight_pb2 import InFlight
from search.serving.search_pb2 import Candidates

__all__ = ["arrival", "candidates", "image_of", "scores"]


def candidates(message: Candidates) -> PackedCandidates:
    """The candidates of a search's answer.

    Raises:
        FaultError: The packed arrays do not fit together.
    """
    try:
        return PackedCandidates(list(message.image_ids), message.overlaps, message.places, message.score_codes)
    except BadInputError as error:
        raise FaultError(f"the search server's answer: {error}") from error


def scores(packed: bytes, count: int) -> tuple[float, ...]:
    """So many float32 scores.

    Raises:
        FaultError: There are more or fewer.
    """
    if len(packed) != 4 * count:
        raise FaultError(f"the scorer answered {len(packed)} bytes for {count} pairs of 4 bytes each")
    return tuple(np.frombuffer(packed, "<f4").tolist())


def image_of(in_flight: InFlight) -> JoinedImage | None:
    """The image of a record; None if the record cannot be read."""
    if not in_flight.unscored:
        return JoinedRecord.FromString(in_flight.record).image  # was checked by search
    decoded = decode_joined(in_flight.record)
    return decoded if isinstance(decoded, JoinedImage) else None


def arrival(in_flight: InFlight, dead_letter: DeadLetterRecord | None = None) -> Arrival:
    """A record, with its dead letter if it is unscored, as the cluster rule takes it.

    A record that cannot be read has no image id.

    Raises:
        FaultError: Candidates and scores do not fit together.
    """
    image = image_of(in_flight) or JoinedImage()
    answer, scored = in_flight.answer, in_flight.scores
    unscored = in_flight.unscored
    found = () if unscored else candidates(answer.candidates)
    return Arrival(
        offset=in_flight.offset,
        checksum=in_flight.checksum,
        image_id=ImageId(image.image_id),
        version=image.image_version,
        place=answer.place,
        score_code=answer.score_code,
        candidates=found,
        scores=() if unscored else scores(scored.values, len(found)),
        exhausted=answer.candidates.exhausted,
        thresholds=_thresholds(in_flight),
        versions=Versions(scored.model_version, in_flight.index_version),
        unscored=unscored,
        search_vector=image.search_vector,
        score_vector=image.score_vector,
        created_at_ms=image.created_at_ms,
        arrived_at_ms=image.arrived_at_ms,
        truncated=not unscored and answer.candidates.truncated,
        dead_letter=dead_letter,
    )


def _thresholds(in_flight: InFlight) -> Thresholds | None:
    if in_flight.unscored or not in_flight.HasField("scores"):
        return None
    scored = in_flight.scores
    return Thresholds(scored.accept, scored.head_accept, scored.adopt)
