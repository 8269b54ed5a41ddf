"""The state of one part: what supervisord knows of its process, and what its readiness check says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stream.local.daemon import ProcessInfo
from stream.local.parts import Part

__all__ = ["PartStatus", "State", "part_status"]

State = Literal["stopped", "starting", "running", "ready", "done", "failing", "stopping", "orphaned"]
"""`failing`: it ends again and again; `done`: it has finished its work; `orphaned`: its supervisor is gone."""

_STATES: Mapping[str, State] = {
    "STOPPED": "stopped",
    "STARTING": "starting",
    "RUNNING": "running",
    "BACKOFF": "failing",
    "STOPPING": "stopping",
    "EXITED": "stopped",
    "FATAL": "failing",
    "UNKNOWN": "failing",
}


@dataclass(frozen=True, slots=True)
class PartStatus:
    """The state of one part at this moment.

    Attributes:
        pid: None without a process.
        uptime_s: Of the running process, else 0.
        detail: Why it is not ready; empty if it is.
    """

    name: str
    state: State
    pid: int | None
    uptime_s: float
    detail: str

    @property
    def ok(self) -> bool:
        """Whether it serves, or has finished its work."""
        return self.state in ("ready", "done")


def part_status(part: Part, info: ProcessInfo | None) -> PartStatus:
    """The state of a part; asks a running part whether it serves."""
    if info is None:
        return PartStatus(part.name, "stopped", None, 0.0, "the running deployment does not have it")
    state, detail = _STATES[info.state], info.detail
    if part.once:
        if info.state == "EXITED":
            state, detail = ("done", "") if info.exit_status == 0 else ("failing", f"exit status {info.exit_status}")
    elif info.state in ("STARTING", "RUNNING"):
        reason = part.ready()
        state, detail = ("ready", "") if reason is None else (state, reason)
    return PartStatus(part.name, state, info.pid or None, info.uptime_s, detail)
