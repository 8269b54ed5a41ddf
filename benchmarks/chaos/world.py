"""What every fault can reach: the deployment, the sender, the durable files, chance."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import NeardupError
from stream.job_control import JobControl
from stream.local.errors import DeploymentError
from tests.support.flow import Flow
from tests.support.power_cut import DurableFiles
from tests.support.stack import Stack

__all__ = ["JVM_PARTS", "PARTS", "World"]

JVM_PARTS = ("broker", "jobmanager", "taskmanager")
PARTS = ("photos-search", "photos-scorer", "photos-storage", "photos-job", *JVM_PARTS)
"""All parts that run for ever."""

RESEND_S = 30.0
"""A sender sends again what it sent so long before a power cut: more than the broker waits until it writes to disk."""


@dataclass
class World:
    """A running deployment under fire."""

    stack: Stack
    flow: Flow
    durable: DurableFiles
    chance: random.Random
    switch: Path
    """While this file exists, the scorer fails on every batch."""
    order: list[bytes] = field(default_factory=list)
    """The records of earlier topics `joined`, which are gone."""

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.stack.settings.data_dir

    @property
    def job(self) -> JobControl:
        """Starts and stops the job."""
        return JobControl(self.stack.settings, "photos")

    def kill(self, part: str) -> None:
        """Kills a part; one that is down already stays down."""
        try:
            self.stack.deployment.kill(part)
        except DeploymentError:
            return

    def send_signal(self, part: str, number: signal.Signals) -> None:
        """Sends a signal to a part that runs."""
        for status in self.stack.deployment.status():
            if status.name == part and status.pid:
                os.kill(status.pid, number)

    def up(self) -> None:
        """Starts what does not run, and tries again: a machine that just came back is slow."""
        for attempt in range(3):
            try:
                self.stack.deployment.up()
            except NeardupError:
                if attempt == 2:
                    raise
                time.sleep(2)
            else:
                return
