"""Messages of the servers as records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clustering.assignment import Arrival, Deleting, Joining, Replaying
from core.errors import FaultError
from core.notifications import decode_joined
from core.protos.joined_pb2 import JoinedDelete, JoinedImage, JoinedRecord, JoinedReplay, Origin
from core.types import Candidate, ImageId, RequestPosition, RequestSource, Thresholds, Versions
from operators.in_flight_pb2 import InFlight, Scores
from operators.responses import arrival, candidates, content_of, scores
from search.serving.search_pb2 import Answer, Candidates
from tests.support.events import MANIFEST, as_member, joined


def packed(count: int = 2) -> Candidates:
    return Candidates(
        image_ids=[f"image-{i}" for i in range(count)],
        overlaps=np.array([65_535, 1][:count], "<u2").tobytes(),
        places=np.array([2**40, 7][:count], "<i8").tobytes(),
        score_codes=b"\x01\x02\x03\x04"[: 2 * count],
        exhausted=True,
        truncated=True,
        distances=np.array([3, 300][:count], "<u2").tobytes(),
    )


def in_flight(**fields: object) -> InFlight:
    values = {
        "offset": 9,
        "checksum": 5,
        "record": joined("cat", 3, arrived_at_ms=77),
        "answer": Answer(offset=9, place=4, score_code=b"\xaa\xbb", candidates=packed()),
        "index_version": "terms-1",
        "scores": Scores(
            model_version="m", accept=0.5, head_accept=0.25, adopt=0.75, values=np.array([0.5, 1], "<f4").tobytes()
        ),
    }
    return InFlight(**{**values, **fields})  # type: ignore[arg-type]


def read(one: InFlight) -> Arrival:
    return arrival(one, content_of(one))


def test_candidates_are_unpacked_in_order() -> None:
    assert candidates(packed()) == (
        Candidate(ImageId("image-0"), 2**40, 65_535, b"\x01\x02", 3),
        Candidate(ImageId("image-1"), 7, 1, b"\x03\x04", 300),
    )
    assert candidates(Candidates()) == ()


@pytest.mark.parametrize(
    "wrong", [{"overlaps": b"\x00"}, {"places": b""}, {"score_codes": b"\x01\x02\x03"}, {"distances": b"\x03\x00"}]
)
def test_arrays_that_do_not_fit_are_a_fault(wrong: dict[str, bytes]) -> None:
    message = packed()
    for name, value in wrong.items():
        setattr(message, name, value)
    with pytest.raises(FaultError):
        candidates(message)


def test_scores_are_float32_as_they_came() -> None:
    third = np.float32(1) / np.float32(3)
    assert scores(third.tobytes(), 1) == (float(third),)
    with pytest.raises(FaultError):
        scores(third.tobytes(), 2)


def test_a_scored_record() -> None:
    image = decode_joined(in_flight().record)
    assert isinstance(image, JoinedImage)
    found = read(in_flight())
    assert (found.offset, found.checksum, found.image_id, found.version, found.place) == (9, 5, "cat", 3, 4)
    assert found.score_code == b"\xaa\xbb"
    assert [candidate.image_id for candidate in found.candidates] == ["image-0", "image-1"]
    assert found.scores == (0.5, 1.0)
    assert found.exhausted
    assert found.truncated
    assert found.thresholds == Thresholds(0.5, 0.25, 0.75)
    assert found.versions == Versions("m", "terms-1")
    assert (found.search_vector, found.score_vector) == (image.search_vector, image.score_vector)
    assert found.arrived_at_ms == 77
    assert found.unscored == ""


def test_an_unscored_record_has_neither_candidates_nor_thresholds() -> None:
    found = read(in_flight(unscored="refused: no", scores=None))
    assert found.image_id == "cat"
    assert found.unscored == "refused: no"
    assert found.candidates == ()
    assert found.scores == ()
    assert found.thresholds is None


def test_a_superseded_record_has_no_thresholds() -> None:
    found = read(in_flight(answer=Answer(offset=9, place=-1, superseded=True), scores=None))
    assert found.image_id == "cat"
    assert found.thresholds is None


def test_a_record_that_cannot_be_read_has_no_image_id() -> None:
    found = read(in_flight(record=b"\xff", unscored="unparsable: no", scores=None))
    assert found.image_id == ""
    assert found.unscored == "unparsable: no"


@pytest.mark.parametrize(
    "scored", [Scores(values=bytes(4)), Scores(values=bytes(12)), Scores(values=bytes(12), gate=9)]
)
def test_scores_that_do_not_fit_the_candidates_are_a_fault(scored: Scores) -> None:
    with pytest.raises(FaultError):
        read(in_flight(scores=scored))


def test_candidates_beyond_the_gate_have_no_scores() -> None:
    scored = Scores(accept=0.5, head_accept=0.25, adopt=0.75, gate=3, values=np.array([1.0], "<f4").tobytes())
    found = read(in_flight(scores=scored))
    assert [one.image_id for one in found.candidates] == ["image-0"]
    assert [one.image_id for one in found.beyond_gate] == ["image-1"]
    assert (found.scores, found.gate, found.next_candidate) == ((1.0,), 3, 2)


def test_candidates_that_score_dropped_are_counted() -> None:
    assert read(in_flight(given=20)).next_candidate == 20
    assert read(in_flight()).next_candidate == 2


@pytest.mark.parametrize("version", [None, 0, 7])
def test_a_delete_says_which_versions_it_means(version: int | None) -> None:
    delete = JoinedDelete(image_id="cat", image_version=version, author="me", reason="takedown", requested_at_ms=5)
    record = JoinedRecord(delete=delete).SerializeToString()
    found = read(in_flight(record=record, answer=Answer(offset=9, place=-1, deleted=True), scores=None))
    assert (found.image_id, found.asks) == ("cat", Deleting(version, 5, "me", "takedown"))
    assert (found.search_vector, found.candidates) == (b"", ())


def test_a_replay_has_the_version_that_the_index_found() -> None:
    image = decode_joined(joined("cat", 3))
    assert isinstance(image, JoinedImage)
    origin = Origin(topic_id="topic", partition=1, offset=70, request_id="request")
    replay = JoinedReplay(image_id="cat", origin=origin, force=True, image=image)
    answer = Answer(offset=9, place=4, image_version=8, score_code=b"\xaa\xbb", candidates=packed())
    found = read(in_flight(record=JoinedRecord(replay=replay).SerializeToString(), answer=answer))
    request = RequestPosition(RequestSource("topic", 1), 70)
    assert (found.version, found.place, found.asks) == (8, 4, Replaying(force=True, dry_run=False, request=request))
    assert (found.search_vector, found.scores) == (image.search_vector, (0.5, 1.0))


@pytest.mark.parametrize("more", [{}, {"score": 0.0, "matched": "m"}, {"score": 0.5}])
def test_a_row_of_a_manifest_says_its_head(more: dict[str, Any]) -> None:
    record = as_member(joined("cat", 3), "dog", 7, model_version="old", **more)
    answer = Answer(offset=9, place=4, score_code=b"\xaa\xbb", candidates=Candidates(exhausted=True))
    found = read(in_flight(record=record, answer=answer, scores=None))
    matched = ImageId(more["matched"]) if "matched" in more else None
    assert found.asks == Joining(ImageId("dog"), MANIFEST, 7, more.get("score"), matched)
    assert (found.image_id, found.version, found.place, found.score_code) == ("cat", 3, 4, b"\xaa\xbb")
    assert (found.candidates, found.thresholds, found.exhausted) == ((), None, True)
    assert found.versions == Versions("old", "terms-1")
    assert found.search_vector


def test_a_replay_of_no_topic_answers_no_request() -> None:
    record = JoinedRecord(replay=JoinedReplay(image_id="cat", dry_run=True)).SerializeToString()
    found = read(in_flight(record=record, answer=Answer(offset=9, place=-1), scores=None))
    assert found.asks == Replaying(force=False, dry_run=True, request=None)
