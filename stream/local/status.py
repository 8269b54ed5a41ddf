"""How one part of a deployment is: what supervisord knows of its process, and what the part says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stream.local.daemon import ProcessInfo
from stream.local.parts import Part

__all__ = ["PartStatus", "State", "part_status"]

State = Literal["stopped", "starting", "running", "ready", "done", "failing", "stopping", "orphaned"]
"""`failing`: it dies again and again; `done`: it ends by itself, and has; `orphaned`: its supervisor is gone."""

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
    """How one part is at the moment.

    Attributes:
        pid: None when there is no process.
        uptime_s: Of the process that runs, else 0.
        detail: Why it is not ready; empty when it is.
    """

    name: str
    state: State
    pid: int | None
    uptime_s: float
    detail: str

    @property
    def ok(self) -> bool:
        """Whether it serves, or has done its work."""
        return self.state in ("ready", "done")


def part_status(part: Part, info: ProcessInfo | None) -> PartStatus:
    """What supervisord knows of a part, and what the part says of itself."""
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
