"""A job manager in memory: jobs that run, fail, are cancelled, or appear when nobody expects them any more."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core.errors import ServiceError
from stream.flink_rest import JobState, Restored


@dataclass
class FakeJobManager:
    """What `stream.flink_rest.FlinkRest` shows of it."""

    name: str = "neardup-photos"
    known: list[JobState] = field(default_factory=list)
    checkpoint: dict[str, int] = field(default_factory=dict)
    """The newest complete checkpoint of each job."""
    failed: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    snapshots: dict[str, Restored] = field(default_factory=dict)
    savepoint_error: BaseException | None = None

    def run(self, job_id: str) -> None:
        """A job appears."""
        self.known.append(JobState(job_id, self.name, "RUNNING", len(self.known) + 1))

    def jobs(self) -> list[JobState]:
        return sorted(self.known, key=lambda job: -job.started_ms)

    def job(self, name: str) -> JobState | None:
        live = self.live(name)
        return live[0] if live else next(iter(self.jobs()), None)

    def live(self, name: str) -> list[JobState]:
        return [job for job in self.jobs() if job.name == name and job.live]

    def failures(self, job_id: str) -> list[tuple[int, str]]:
        return self.failed.get(job_id, [])

    def restored(self, job_id: str) -> Restored | None:
        return self.snapshots.get(job_id)

    def checkpoints(self, job_id: str) -> dict[str, Any]:
        number = self.checkpoint.get(job_id)
        return {"latest": {"completed": None if number is None else {"id": number}, "restored": None}}

    def cancel(self, job_id: str) -> None:
        self._end(job_id, "CANCELED")

    def stop_with_savepoint(self, job_id: str, folder: Path) -> Path:
        self._end(job_id, "FINISHED")
        if self.savepoint_error is not None:
            raise self.savepoint_error
        return folder / "savepoint-1"

    def _end(self, job_id: str, state: str) -> None:
        if job_id not in {job.job_id for job in self.known if job.live}:
            raise ServiceError(f"no job {job_id} runs")
        self.known = [replace(job, state=state) if job.job_id == job_id else job for job in self.known]
