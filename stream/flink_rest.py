"""The calls to Flink's REST interface that starting, watching and stopping a job need."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from core.errors import ServiceError, UnavailableError
from stream.flink_tls import FlinkTls

__all__ = ["FlinkRest", "JobState", "Restored", "snapshot_path"]

TERMINAL = frozenset({"FAILED", "CANCELED", "FINISHED"})
"""States that a job never leaves."""


@dataclass(frozen=True, slots=True)
class JobState:
    """One job as the job manager knows it."""

    job_id: str
    name: str
    state: str
    started_ms: int

    @property
    def live(self) -> bool:
        """Whether it runs or will again."""
        return self.state not in TERMINAL


@dataclass(frozen=True, slots=True)
class Restored:
    """The snapshot that a job started from, and when (ms) it last completed a checkpoint of its own; 0: never."""

    snapshot: Path
    completed_ms: int


def snapshot_path(uri: str) -> Path:
    """The folder that Flink names, such as `file:/data/chk-7`. Flink does not escape anything in it."""
    return Path("/" + uri.removeprefix("file:").lstrip("/"))


class FlinkRest:
    """A client of one job manager."""

    def __init__(
        self,
        host: str,
        port: int,
        tls: FlinkTls,
        timeout_s: float = 5.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Prepares the connection; the job manager need not be up."""
        self.address = f"{host}:{port}"
        self._tls = tls
        self._timeout_s = timeout_s
        self._transport = transport

    @cached_property
    def _client(self) -> httpx.Client:
        """Opened at the first call: the certificate may not have been made before.

        Raises:
            SettingsError: The certificate is missing or damaged.
        """
        return httpx.Client(
            base_url=f"https://{self.address}",
            timeout=self._timeout_s,
            transport=self._transport or httpx.HTTPTransport(verify=self._tls.context()),
            trust_env=False,
        )

    def close(self) -> None:
        """Closes the connection."""
        if "_client" in self.__dict__:
            self._client.close()

    def slots(self) -> tuple[int, int]:
        """Free and total task slots."""
        overview = self._get("/overview")
        return int(overview["slots-available"]), int(overview["slots-total"])

    def jobs(self) -> list[JobState]:
        """All jobs that the job manager remembers, newest first."""
        jobs = [
            JobState(job["jid"], job["name"], job["state"], int(job["start-time"]))
            for job in self._get("/jobs/overview")["jobs"]
        ]
        return sorted(jobs, key=lambda job: -job.started_ms)

    def job(self, name: str) -> JobState | None:
        """The live job of this name, else the newest one, else none."""
        named = [job for job in self.jobs() if job.name == name]
        return next((job for job in named if job.live), named[0] if named else None)

    def live(self, name: str) -> list[JobState]:
        """The live jobs of this name, newest first. There is at most one, unless a submission was broken off."""
        return [job for job in self.jobs() if job.name == name and job.live]

    def failures(self, job_id: str) -> list[tuple[int, str]]:
        """Time (ms) and text of the newest failures of a job, newest first."""
        history = self._get(f"/jobs/{job_id}/exceptions?maxExceptions=5")["exceptionHistory"]["entries"]
        return [(int(entry["timestamp"]), str(entry["stacktrace"])) for entry in history]

    def running(self, job_id: str) -> bool:
        """Whether every task of the job runs."""
        vertices = self._get(f"/jobs/{job_id}")["vertices"]
        return bool(vertices) and all(vertex["status"] == "RUNNING" for vertex in vertices)

    def checkpoints(self, job_id: str) -> dict[str, Any]:
        """Flink's summary of a job's checkpoints."""
        return self._get(f"/jobs/{job_id}/checkpoints")

    def restored(self, job_id: str) -> Restored | None:
        """The snapshot that a job started from last; None if it started without one."""
        latest = self.checkpoints(job_id)["latest"]
        if not latest["restored"]:
            return None
        completed = latest["completed"]
        since_ms = int(completed["latest_ack_timestamp"]) if completed else 0
        return Restored(snapshot_path(latest["restored"]["external_path"]), since_ms)

    def cancel(self, job_id: str, timeout_s: float = 60.0) -> None:
        """Cancels a job and waits until it is gone."""
        self._send("PATCH", f"/jobs/{job_id}?mode=cancel")
        self._await_end(job_id, timeout_s)

    def stop_with_savepoint(self, job_id: str, folder: Path, timeout_s: float = 120.0) -> Path:
        """Stops a job gracefully; returns the savepoint's folder.

        Raises:
            ServiceError: Flink could not take the savepoint; the job goes on.
        """
        body = {"targetDirectory": folder.as_uri(), "drain": False}
        trigger = self._send("POST", f"/jobs/{job_id}/stop", body)["request-id"]
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            answer = self._get(f"/jobs/{job_id}/savepoints/{trigger}")
            if answer["status"]["id"] == "COMPLETED":
                operation = answer["operation"]
                if "location" not in operation:
                    cause = operation.get("failure-cause", {}).get("stack-trace", "no reason given")
                    raise ServiceError(f"Flink took no savepoint: {cause.splitlines()[0]}")
                self._await_end(job_id, timeout_s)
                return snapshot_path(operation["location"])
            time.sleep(0.2)
        raise UnavailableError(f"the savepoint of job {job_id} was not complete after {timeout_s:.0f} s")

    def _await_end(self, job_id: str, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if self._get(f"/jobs/{job_id}")["state"] in TERMINAL:
                return
            time.sleep(0.2)
        raise UnavailableError(f"job {job_id} did not end within {timeout_s:.0f} s")

    def _get(self, path: str) -> dict[str, Any]:
        return self._send("GET", path)

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise UnavailableError(f"Flink at {self.address}: {error or type(error).__name__}") from error
        if response.status_code >= 500:
            raise UnavailableError(f"Flink at {self.address}: {response.status_code} {response.text[:300]}")
        if response.is_error:
            raise ServiceError(f"Flink at {self.address} refused {method} {path}: {response.text[:300]}")
        answer: dict[str, Any] = response.json() if response.content else {}
        return answer
