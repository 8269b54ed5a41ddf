"""What every fault can reach: the deployment, the sender, the durable files, chance."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import NeardupError
from stream.job_control import JobControl
from stream.local.errors import DeploymentError
from tests.support.flow import Flow
from tests.support.power_cut import DurableFiles
from tests.support.stack import Stack
from tests.support.unscored import last_seen_by, unscored_places

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
    logs: list[list[bytes]] = field(default_factory=list)
    """The records of earlier topics `joined`, which are gone."""
    seen: dict[int, int] = field(default_factory=dict)
    """The last position that finds each unscored image, by its place, as indexes that were replaced had it."""

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.stack.settings.data_dir

    @property
    def job(self) -> JobControl:
        """Starts and stops the job."""
        return JobControl(self.stack.settings, "photos")

    def note_unscored(self) -> None:
        """Remembers what a replaced index would forget. Call it when all is at rest."""
        logs = [*self.logs, self.stack.records(self.stack.signal.topic("joined"))]
        places = [place for place in unscored_places(self.stack, logs) if place not in self.seen]
        self.seen |= last_seen_by(self.stack, places, f"chaos-{time.time_ns()}")

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

    def neardup(self, *words: str, refused: bool = False) -> str:
        """Runs a command, as an operator would: what it syncs is recorded, unlike what this process writes.

        Args:
            words: The command.
            refused: Whether it must fail.

        Returns:
            What it printed to standard output.

        Raises:
            AssertionError: It failed, or did not fail; the message has what it printed.
        """
        neardup = Path(sys.executable).with_name("neardup")
        program = [str(neardup), "--settings", str(self.stack.deployment.settings_file), *words]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == refused, f"neardup {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

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
