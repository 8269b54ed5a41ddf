"""Everything that is decided before a job is submitted, as data for the submitting process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["STATE_FORMAT", "JobPlan"]

STATE_FORMAT = 3
"""The format of everything that the job keeps in Flink's state; a part of the uid of each operator and source.

Raise it when the layout of a kept value changes. A job of another format then takes up nothing of an older snapshot:
the sequence starts where the stores are, and the embedding topics are read again from one join timeout before the
newest marks. So no waiting half is lost, and the sequence ignores the images that are joined once more.
"""


@dataclass(frozen=True, slots=True)
class JobPlan:
    """How one submission of a signal's job begins.

    Attributes:
        signal: Its name.
        log_id: The topic id of `joined`.
        base: The position of its offset 0.
        joined_start: The first position that the sequence reads.
        embedding_starts: First offset per partition, for the topics `search` and `score`.
        replay_id: The topic id of `replay`.
        replay_starts: The first offset of each of its partitions.
        submission: Names this submission, 32 hexadecimal digits. It is the id of the job, and a part of the uids of the
            sources and of the sequence. No other submission has the same, so a snapshot gives them neither offsets nor
            state.
        snapshot: The checkpoint or savepoint that decoding and joining resume from.
        checkpoints: Where this job's checkpoints go.
    """

    signal: str
    log_id: str
    base: int
    joined_start: int
    embedding_starts: Mapping[str, Mapping[int, int]]
    replay_id: str
    replay_starts: Mapping[int, int]
    submission: str
    snapshot: Path | None
    checkpoints: Path

    def to_json(self) -> str:
        """The plan as one line."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> JobPlan:
        """The plan that `to_json` wrote."""
        values = json.loads(text)
        starts = {
            topic: {int(partition): int(offset) for partition, offset in offsets.items()}
            for topic, offsets in values["embedding_starts"].items()
        }
        return cls(
            signal=values["signal"],
            log_id=values["log_id"],
            base=int(values["base"]),
            joined_start=int(values["joined_start"]),
            embedding_starts=starts,
            replay_id=values["replay_id"],
            replay_starts={int(partition): int(offset) for partition, offset in values["replay_starts"].items()},
            submission=values["submission"],
            snapshot=Path(values["snapshot"]) if values["snapshot"] else None,
            checkpoints=Path(values["checkpoints"]),
        )
