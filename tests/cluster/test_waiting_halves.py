"""Halves wait in event time: none expires while the job is down; one without a partner becomes a dead letter."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from core.dead_letters import Provenance, Reason
from stream.image_files import ImageRow, Vector
from stream.job_control import JobControl
from stream.publish import notification
from tests.cluster.conftest import JOIN_TIMEOUT_S
from tests.support.stack import Stack, eventually, sample_rows

pytestmark = pytest.mark.cluster


def named(prefix: str, count: int) -> list[ImageRow]:
    """Images of their own for one stage of a test; turned around, they resemble no image of the other tests."""
    return [
        replace(row, image_id=f"{prefix}-{n}", search=_turned(row.search), score=_turned(row.score))
        for n, row in enumerate(sample_rows(count, skip=1000))
    ]


def _turned(vector: Vector) -> Vector:
    return replace(vector, data=np.frombuffer(vector.data, "<f2")[::-1].tobytes())


def send_half(stack: Stack, row: ImageRow, side: str) -> bytes:
    """Sends one half of an image; returns its bytes."""
    signal = stack.signal
    embedding, vector, topic = {
        "search": (signal.search_embedding, row.search, signal.topic("search")),
        "score": (signal.score_embedding, row.score, signal.topic("score")),
    }[side]
    value = notification(row, embedding, vector)
    stack.send_raw(topic, [(row.image_id.encode(), value)])
    return value


def _rejected(stack: Stack) -> set[tuple[Reason, Provenance]]:
    """What is a dead letter; a repeat of one counts once."""
    return {(each.reason, each.source) for each in stack.dead_letters()}


def test_a_job_that_was_down_for_longer_than_the_timeout_expires_nothing(stack: Stack) -> None:
    """
    before the stop   search half of `torn`
    while it is down  score half of `torn`, whole images `early`, nothing for longer than the timeout, images `late`
    """
    control = JobControl(stack.settings, "photos")
    rejected = _rejected(stack)
    stack.await_heads([row.image_id for row in stack.publish(named("before", 5))])
    torn = named("torn", 1)[0]
    send_half(stack, torn, "search")
    savepoint = control.stop()
    assert (savepoint / "_metadata").exists()
    send_half(stack, torn, "score")
    early = stack.publish(named("early", 40))
    time.sleep(1.5 * JOIN_TIMEOUT_S)
    late = stack.publish(named("late", 40))
    control.start()
    stack.await_heads([row.image_id for row in [torn, *early, *late]])
    assert stack.problems() == []
    assert _rejected(stack) == rejected


def test_a_half_whose_partner_never_comes_is_a_dead_letter_and_can_be_replayed(stack: Stack) -> None:
    lonely = named("lonely", 1)[0]
    payload = send_half(stack, lonely, "search")
    sent = 0

    def given_up() -> bool | None:
        # Event time goes on only while records come.
        nonlocal sent
        sent += 1
        stack.publish(named(f"clock-{sent}", 8))
        time.sleep(1)
        dead_letters = [dead_letter for dead_letter in stack.dead_letters() if dead_letter.payload == payload]
        if not dead_letters:
            return None
        assert [dead_letter.reason for dead_letter in dead_letters] == [Reason.MISSING_SCORE_HALF]
        return True

    eventually(given_up, 90, lambda: f"still waiting after {sent} rounds of other images")
    assert stack.heads([lonely.image_id]) == {}
    send_half(stack, lonely, "search")
    send_half(stack, lonely, "score")
    assert stack.await_heads([lonely.image_id])
