"""The errors of a deployment on one machine."""

from __future__ import annotations

from core.errors import NeardupError

__all__ = ["DeploymentError", "MissingPieceError", "PartFailedError", "PortTakenError"]


class DeploymentError(NeardupError):
    """A deployment cannot be started, stopped or queried."""


class MissingPieceError(DeploymentError):
    """A piece that set-up fetches is missing. The message says what to run."""


class PortTakenError(DeploymentError):
    """Another process holds a port that a part needs."""


class PartFailedError(DeploymentError):
    """A part did not become ready in time. The message has the end of its log."""

    def __init__(self, part: str, reason: str, log_tail: str) -> None:
        super().__init__(f"{part} is not ready: {reason}\n--- end of its log ---\n{log_tail or '(empty)'}")
        self.part = part
        self.reason = reason
        self.log_tail = log_tail
