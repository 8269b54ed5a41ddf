"""Messages of the servers as records."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import FaultError
from core.notifications import decode_joined
from core.protos.joined_pb2 import JoinedImage
from core.types import Candidate, ImageId, Thresholds, Versions
from operators.in_flight_pb2 import InFlight, Scores
from operators.responses import arrival, candidates, scores
from search.serving.search_pb2 import Answer, Candidates
from tests.support.events import joined


def packed(count: int = 2) -> Candidates:
    return Candidates(
        image_ids=[f"image-{i}" for i in range(count)],
        overlaps=np.array([65_535, 1][:count], "<u2").tobytes(),
        places=np.array([2**40, 7][:count], "<i8").tobytes(),
        score_codes=b"\x01\x02\x03\x04"[: 2 * count],
        exhausted=True,
        truncated=True,
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


def test_candidates_are_unpacked_in_order() -> None:
    assert candidates(packed()) == (
        Candidate(ImageId("image-0"), 2**40, 65_535, b"\x01\x02"),
        Candidate(ImageId("image-1"), 7, 1, b"\x03\x04"),
    )
    assert candidates(Candidates()) == ()


@pytest.mark.parametrize("wrong", [{"overlaps": b"\x00"}, {"places": b""}, {"score_codes": b"\x01\x02\x03"}])
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
    found = arrival(in_flight())
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
    found = arrival(in_flight(unscored="refused: no", scores=None))
    assert found.image_id == "cat"
    assert found.unscored == "refused: no"
    assert found.candidates == ()
    assert found.scores == ()
    assert found.thresholds is None


def test_a_superseded_record_has_no_thresholds() -> None:
    found = arrival(in_flight(answer=Answer(offset=9, place=-1, superseded=True), scores=None))
    assert found.image_id == "cat"
    assert found.thresholds is None


def test_a_record_that_cannot_be_read_has_no_image_id() -> None:
    found = arrival(in_flight(record=b"\xff", unscored="unparsable: no", scores=None))
    assert found.image_id == ""
    assert found.unscored == "unparsable: no"


def test_scores_that_do_not_fit_the_candidates_are_a_fault() -> None:
    with pytest.raises(FaultError):
        arrival(in_flight(scores=Scores(values=b"\x00" * 4)))
