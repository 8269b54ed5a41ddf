"""Where the embedding topics are read from when a job starts without a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from stream.broker import Broker, LogEnds
from stream.job_control import JobControl
from tests.support.stack import stack_settings

HOUR_MS = 3_600_000


class Topics:
    """Two topics of one partition with a record each minute, from offset 0 at minute 1,000 on."""

    def __init__(self, committed: Mapping[str, int], end: int) -> None:
        self._committed = committed
        self._end = end
        self.rewound: dict[str, int] = {}

    def ends(self, topic: str) -> dict[int, LogEnds]:
        return {0: LogEnds(0, self._end)}

    def committed(self, group: str, topic: str) -> dict[int, int]:
        side = topic.rpartition(".")[2]
        return {0: self._committed[side]} if side in self._committed else {}

    def timestamp(self, topic: str, partition: int, offset: int) -> int | None:
        return 60_000 * (1_000 + offset) if 0 <= offset < self._end else None

    def offsets_at(self, topic: str, times_ms: Mapping[int, int]) -> dict[int, int]:
        return {part: min(self._end, max(0, time_ms // 60_000 - 1_000)) for part, time_ms in times_ms.items()}


@pytest.mark.parametrize(
    ("committed", "search", "score"),
    [
        ({}, 0, 0),
        ({"search": 500, "score": 500}, 438, 438),
        ({"search": 500, "score": 300}, 238, 238),
        # Nothing of score was read, so event time never moved: every search half may still wait.
        ({"search": 500, "score": 0}, 0, 0),
    ],
)
def test_all_halves_that_may_have_waited_are_read_again(
    tmp_path: Path, committed: dict[str, int], search: int, score: int
) -> None:
    settings = stack_settings(tmp_path)
    settings = settings.model_copy(update={"join": settings.join.model_copy(update={"timeout_s": HOUR_MS / 1000})})
    control = JobControl(settings, "photos")
    starts = control._embedding_starts(cast("Broker", Topics(committed, end=500)))
    assert starts == {"search": {0: search}, "score": {0: score}}
