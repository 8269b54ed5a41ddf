"""What every fault can reach: the deployment, the sender, the durable files, chance."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.requests import Asking, Requests
from benchmarks.chaos.traced import TracedImages
from core.errors import NeardupError
from stream.job_control import JobControl
from stream.local.errors import DeploymentError
from stream.local.supervisor import Deployment
from stream.settings import Settings
from tests.support.calm import Calm
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
    requests: Requests
    asking: Sequence[Asking]
    """What makes requests while faults strike."""
    calm: Calm
    """The service that everything is compared with."""
    traced: TracedImages

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
        self.calm.note_unscored(self.stack)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside nobody sends or asks for anything, once all that was begun is acknowledged."""
        with ExitStack() as context:
            for each in self.asking:
                context.enter_context(each.held())
            context.enter_context(self.flow.held())
            yield

    def kill(self, part: str) -> None:
        """Kills a part; one that is down already stays down."""
        self.killed(part)

    def killed(self, part: str) -> bool:
        """Kills a part; says whether it ran."""
        try:
            self.stack.deployment.kill(part)
        except DeploymentError:
            return False
        return True

    def send_signal(self, part: str, number: signal.Signals) -> None:
        """Sends a signal to a part that runs."""
        for status in self.stack.deployment.status():
            if status.name == part and status.pid:
                os.kill(status.pid, number)

    def use(self, settings: Settings) -> None:
        """Goes on with other settings of the same deployment, which restarts all parts."""
        self.stack.settings = settings
        self.stack.signal_name, self.stack.signal = settings.signal()
        self.stack.deployment = Deployment(settings)
        self.up()

    def program(self, *words: str) -> list[str]:
        """A command, to be run as a process."""
        neardup = Path(sys.executable).with_name("neardup")
        return [str(neardup), "--settings", str(self.stack.deployment.settings_file), *words]

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
        done = subprocess.run(self.program(*words), capture_output=True, text=True, check=False)
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
