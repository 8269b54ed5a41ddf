"""What can go wrong with a deployment on one machine; all of it hangs under the root error."""

from __future__ import annotations

from core.errors import NeardupError

__all__ = ["DeploymentError", "MissingPieceError", "PartFailedError", "PortTakenError"]


class DeploymentError(NeardupError):
    """A deployment cannot be started, stopped or asked."""


class MissingPieceError(DeploymentError):
    """A piece that setting up fetches is not there; the message says what to run."""


class PortTakenError(DeploymentError):
    """A port that a part needs is held by a process that is not ours."""


class PartFailedError(DeploymentError):
    """A part did not become ready in time; carries the end of its log."""

    def __init__(self, part: str, reason: str, log_tail: str) -> None:
        super().__init__(f"{part} is not ready: {reason}\n--- end of its log ---\n{log_tail or '(empty)'}")
        self.part = part
        self.reason = reason
        self.log_tail = log_tail
