"""The join on fake Flink: state, event-time timers, metrics. (What pairs and expires: test_pairing.py.)"""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from core.dead_letters import Reason, parse_dead_letter
from core.errors import SettingsError
from core.notifications import decode_joined
from core.protos.joined_pb2 import JoinedImage
from operators.join import JoinFunction
from operators.pairing import ArrivedHalf, JoinPolicy, Side
from operators.pairing_codec import encode_half
from tests.support.events import SCORE_SPEC, SEARCH_SPEC, arrived, notification
from tests.support.fake_flink import Harness

TIMEOUT_MS, LATE_MS = 3_600_000, 60_000
SPECS = {Side.SEARCH: SEARCH_SPEC, Side.SCORE: SCORE_SPEC}


def function() -> JoinFunction:
    return JoinFunction(JoinPolicy(TIMEOUT_MS), SEARCH_SPEC, SCORE_SPEC, LATE_MS)


def half(side: Side, at_ms: int, image_id: str = "cat", version: int = 1) -> ArrivedHalf:
    return arrived(side, version, at_ms, notification(SPECS[side], image_id, version))


def send(join: Harness, side: Side, at_ms: int, image_id: str = "cat", version: int = 1) -> None:
    join.send(
        encode_half(half(side, at_ms, image_id, version)),
        key=image_id,
        timestamp=at_ms,
        side=1 if side is Side.SEARCH else 2,
    )


@pytest.mark.parametrize("order", [(Side.SEARCH, Side.SCORE), (Side.SCORE, Side.SEARCH)])
def test_two_halves_make_one_joined_record(order: tuple[Side, Side]) -> None:
    join = Harness(function())
    send(join, order[0], 1_000)
    assert join.main == []
    send(join, order[1], 3_500)
    ((key, value, _),) = (tuple(row) for row in join.main)
    assert key == b"cat"
    image = decode_joined(value)
    assert isinstance(image, JoinedImage)
    assert (image.image_id, image.image_version, image.arrived_at_ms) == ("cat", 1, 3_500)
    assert join.context.metric("joined_total") == 1
    assert join.context.metric("join_wait_seconds_bucket{le=5}") == 1


@pytest.mark.parametrize("traced", [{Side.SEARCH}, {Side.SCORE}, {Side.SEARCH, Side.SCORE}, set()])
def test_the_joined_record_has_the_trace_context_of_a_half(traced: set[Side]) -> None:
    join = Harness(function())
    for number, side in enumerate(Side, 1):
        trace = f"trace-{side}".encode() if side in traced else b""
        join.send(encode_half(replace(half(side, 0), traceparent=trace)), key="cat", side=number)
    expected = b"trace-search" if Side.SEARCH in traced else b"trace-score" if traced else None
    assert [row[2] for row in join.main] == [expected]


def test_the_dead_letter_of_a_half_has_its_trace_context() -> None:
    join = Harness(function())
    join.send(encode_half(replace(half(Side.SEARCH, 0), traceparent=b"trace")), key="cat", side=1)
    join.advance_watermark(TIMEOUT_MS)
    assert [row[2] for row in join.side["dead-letters"]] == [b"trace"]


def test_images_and_versions_are_kept_apart() -> None:
    join = Harness(function())
    send(join, Side.SEARCH, 0, "cat", 1)
    send(join, Side.SCORE, 0, "cat", 2)
    send(join, Side.SCORE, 0, "dog", 1)
    assert join.main == []
    send(join, Side.SCORE, 0, "cat", 1)
    assert len(join.main) == 1


def test_a_redelivered_half_is_ignored_before_and_after_the_pair() -> None:
    join = Harness(function())
    send(join, Side.SEARCH, 0)
    send(join, Side.SEARCH, 5)
    send(join, Side.SCORE, 10)
    send(join, Side.SEARCH, 20)
    send(join, Side.SCORE, 20)
    assert len(join.main) == 1
    assert join.context.metric("duplicate_total") == 3
    join.advance_watermark(10 * TIMEOUT_MS)
    assert join.side == {}


def test_a_half_alone_is_late_then_expires_whole_and_leaves_nothing() -> None:
    #  0: search half ... 60 s: late ... 1 h: dead letter
    join = Harness(function())
    send(join, Side.SEARCH, 0)
    assert join.timers("event") == [LATE_MS]
    join.advance_watermark(LATE_MS)
    assert join.context.metric("late_total") == 1
    assert join.timers("event") == [TIMEOUT_MS]
    join.advance_watermark(TIMEOUT_MS - 1)
    assert join.side == {}
    join.advance_watermark(TIMEOUT_MS)
    ((key, value, _),) = (tuple(row) for row in join.side["dead-letters"])
    assert key == b"cat"
    dead_letter = parse_dead_letter(value)
    assert dead_letter.reason is Reason.MISSING_SCORE_HALF
    assert dead_letter.payload == half(Side.SEARCH, 0).payload
    assert not dead_letter.truncated
    assert join.timers("event") == []
    assert join.backend.values == {}
    assert join.context.metric("unpaired_total{reason=missing_score_half}") == 1
    assert join.context.metric("late_total") == 1


def test_one_timer_per_image_and_none_after_all_is_forgotten() -> None:
    join = Harness(function())
    for version in range(5):
        send(join, Side.SEARCH, 100 * version, version=version)
    assert len(join.timers("event")) == 1
    for version in range(5):
        send(join, Side.SCORE, 1_000, version=version)
    assert len(join.timers("event")) == 1
    join.advance_watermark(10 * TIMEOUT_MS)
    assert join.timers("event") == []
    assert join.backend.values == {}
    assert len(join.main) == 5


def test_halves_that_are_late_together_are_counted_each_once() -> None:
    join = Harness(function())
    send(join, Side.SEARCH, 0, version=1)
    send(join, Side.SEARCH, 0, version=2)
    send(join, Side.SEARCH, 7, version=3)
    join.advance_watermark(LATE_MS + 10)
    assert join.context.metric("late_total") == 3


def test_a_watermark_that_jumps_over_everything_loses_nothing() -> None:
    join = Harness(function())
    for version in range(3):
        send(join, Side.SEARCH, version, version=version)
    join.advance_watermark(100 * TIMEOUT_MS)
    assert len(join.side["dead-letters"]) == 3
    assert join.context.metric("late_total") == 3
    assert join.timers("event") == []


def test_a_backlog_read_after_a_long_outage_expires_nothing() -> None:
    # The job was away for five timeouts; both halves lie in Kafka, the search topic is read first. Watermarks of the
    # two inputs are one: the lower. So event time stands still until the other side has been read too.
    join = Harness(function())
    for number in range(50):
        send(join, Side.SEARCH, number * TIMEOUT_MS // 10, f"image-{number}")
    for number in range(50):
        send(join, Side.SCORE, number * TIMEOUT_MS // 10, f"image-{number}")
        join.advance_watermark(number * TIMEOUT_MS // 10)
    assert len(join.main) == 50
    assert join.side == {}


def test_a_restart_keeps_halves_and_timers() -> None:
    join = Harness(function())
    send(join, Side.SEARCH, 0, "cat")
    send(join, Side.SEARCH, 0, "dog")
    join = join.restart(pickle.loads(pickle.dumps(function())))
    send(join, Side.SCORE, 10, "cat")
    assert len(join.main) == 1
    join.advance_watermark(TIMEOUT_MS + 10)
    assert [row[0] for row in join.side["dead-letters"]] == [b"dog"]
    assert join.timers("event") == []


def test_halves_accepted_under_other_settings_go_to_the_dead_letters() -> None:
    join = Harness(function())
    old = arrived(Side.SEARCH, 1, 0, notification(SEARCH_SPEC, "cat", model_version="0"))
    join.send(encode_half(old), key="cat", side=1)
    send(join, Side.SCORE, 0)
    assert join.main == []
    dead_letters = [parse_dead_letter(row[1]) for row in join.side["dead-letters"]]
    assert [dead_letter.reason for dead_letter in dead_letters] == [Reason.WRONG_MODEL_VERSION] * 2


def test_a_half_must_be_late_before_it_expires() -> None:
    with pytest.raises(SettingsError, match="late_after_ms"):
        JoinFunction(JoinPolicy(1_000), SEARCH_SPEC, SCORE_SPEC, 1_001)
