"""Why a live job must be cancelled and submitted again, although Flink would run it on.

Flink restarts a job from its own checkpoint whatever the reason of the failure is. Some reasons only go away with a
submission, which reads the positions of the stores and the marks of the topics again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from stream.flink_rest import FlinkRest, JobState
from stream.log_reads import Logs
from stream.read_keeper import ReadKeeper, RunningJob
from stream.restores import fails_again, is_failed_restore
from stream.snapshots import SnapshotFolders

__all__ = ["GAP", "JobHealth"]

GAP = "LogGapError"
"""This word in a failure says that the stores are at another offset than the job expects: submit it again."""

_OUT_OF_RANGE = re.compile("OffsetOutOfRange|LogTruncation|NoOffsetForPartition")
"""In a failure: a source stands at an offset that the log does not have."""


class JobHealth:
    """Looks at one live job, step by step. The caller makes sure that nobody starts or stops it meanwhile."""

    def __init__(self, flink: FlinkRest, snapshots: SnapshotFolders, reading: ReadKeeper) -> None:
        """Takes what it asks."""
        self._flink = flink
        self._snapshots = snapshots
        self._reading = reading

    def faults(self, job: JobState, connect: Callable[[], Logs]) -> list[str]:
        """Why the job must be submitted again, one sentence each; nothing if it may go on.

        Args:
            job: The job.
            connect: Gives a connection to the topics. It is called last, so that a Kafka that is down hides no failure.

        Raises:
            UnavailableError: Flink or Kafka does not answer.
        """
        failures = self._flink.failures(job.job_id)
        return (
            self._failed(failures)
            or self._not_restored(job, failures)
            or self._reading.look(connect(), lambda: self._ask(job))
        )

    @staticmethod
    def _failed(failures: Sequence[tuple[int, str]]) -> list[str]:
        if not failures:
            return []
        if GAP in failures[0][1]:
            return ["the stores and the job are not at the same offset"]
        if _OUT_OF_RANGE.search(failures[0][1]):
            return ["a source is at an offset that its topic lacks"]
        return []

    def _not_restored(self, job: JobState, all_failures: Sequence[tuple[int, str]]) -> list[str]:
        """Snapshots that the job failed on twice are not used again.

        If it completed checkpoints between the failures, no snapshot is.
        """
        failures = [each for each in all_failures if is_failed_restore(each[1])]
        restored = self._flink.restored(job.job_id) if failures else None
        if restored is None:
            return []
        times = [(job.job_id, time_ms) for time_ms, _ in failures if time_ms > restored.completed_ms]
        if self._snapshots.restores.note(restored.snapshot, times):
            return [f"the snapshot {restored.snapshot} cannot be restored: an older one is next"]
        if fails_again([time_ms for time_ms, _ in failures]):
            self._snapshots.reject_all()
            return ["its state is damaged, and so are its checkpoints: it starts without a snapshot"]
        return []

    def _ask(self, job: JobState) -> RunningJob:
        latest = self._flink.checkpoints(job.job_id)["latest"]
        completed, restored = latest.get("completed"), latest.get("restored")
        return RunningJob(
            job.job_id,
            int(completed["id"]) if completed else 0,
            int(restored["restore_timestamp"]) if restored else 0,
            tuple(each.job_id for each in self._flink.live(job.name) if each.job_id != job.job_id),
        )
