"""Halves wait in event time: none expires while the job is down. `test_dead_letters` has those that expire."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from core.dead_letters import Provenance, Reason
from manifests.image_files import ImageRow, Vector
from stream.job_control import JobControl
from stream.publish import notification
from tests.cluster.conftest import JOIN_TIMEOUT_S
from tests.support.stack import Stack, sample_rows

pytestmark = pytest.mark.cluster


def named(prefix: str, count: int) -> list[ImageRow]:
    """Images of their own for one stage of a test; turned around, they resemble no image of the other tests."""
    return [
        replace(row, image_id=f"{prefix}-{n}", search=_turned(row.search), score=_turned(row.score))
        for n, row in enumerate(sample_rows(count, skip=1000))
    ]


def _turned(vector: Vector) -> Vector:
    return replace(vector, data=np.frombuffer(vector.data, "<f2")[::-1].tobytes())


def send_halves(stack: Stack, rows: Sequence[ImageRow], side: Literal["search", "score"]) -> list[bytes]:
    """Sends one half of each image; returns their bytes."""
    signal = stack.signal
    embedding = signal.search_embedding if side == "search" else signal.score_embedding
    values = [notification(row, embedding, row.search if side == "search" else row.score) for row in rows]
    stack.send_raw(signal.topic(side), [(row.image_id.encode(), each) for row, each in zip(rows, values, strict=True)])
    return values


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
    send_halves(stack, [torn], "search")
    savepoint = control.stop()
    assert (savepoint / "_metadata").exists()
    send_halves(stack, [torn], "score")
    early = stack.publish(named("early", 40))
    time.sleep(1.2 * JOIN_TIMEOUT_S)
    late = stack.publish(named("late", 40))
    control.start()
    stack.await_heads([row.image_id for row in [torn, *early, *late]])
    assert stack.problems() == []
    assert _rejected(stack) == rejected
