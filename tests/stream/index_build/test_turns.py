"""A build waits while another caller reads all embeddings."""

from __future__ import annotations

import pytest

from core.errors import BusyError
from stream.index_build.turns import in_turn


def test_a_build_waits_for_its_turn_to_read_the_store() -> None:
    answers: list[Exception | None] = [BusyError("another reading of all embeddings is running", 1.0)] * 3 + [None]
    told: list[str] = []
    slept: list[float] = []

    def read() -> int:
        refused = answers.pop(0)
        if refused is not None:
            raise refused
        return 19

    assert in_turn(read, told.append, sleep=slept.append) == 19
    assert slept == [1.0] * 3
    assert told == ["waiting for at most 600 s: another reading of all embeddings is running"]
    answers.extend([BusyError("another reading", 2.0)] * 4)
    with pytest.raises(BusyError):
        in_turn(read, told.append, patience_s=5.0, sleep=slept.append)
    assert slept[3:] == [2.0] * 3
