"""A job whose state is damaged starts again from an older snapshot, in the end from none."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from stream.flink_rest import FlinkRest, JobState, Restored
from stream.job_health import JobHealth
from stream.log_reads import Logs
from stream.read_keeper import ReadKeeper, RunningJob
from stream.snapshots import SnapshotFolders
from tests.support.fake_logs import FakeLogs

DAMAGED = "pemja.core.PythonException: <class 'operators.sealed_state.StateDamagedError'>: the join's state"
JOB = JobState("j2", "neardup-photos", "RESTARTING", 0)
MINUTE_MS = 60_000


@dataclass
class Flink:
    """One job: its failures, newest first, and the snapshot that it started from last."""

    snapshots: list[Path]
    failed: list[tuple[int, str]] = field(default_factory=list)
    completed_ms: int = 0

    def failures(self, job_id: str) -> list[tuple[int, str]]:
        return self.failed

    def restored(self, job_id: str) -> Restored | None:
        return Restored(self.snapshots[-1], self.completed_ms) if self.snapshots else None

    def fail(self, time_ms: int, what: str = DAMAGED) -> None:
        self.failed.insert(0, (time_ms, what))


class Unchanged:
    """Topics that are as they were."""

    def look(self, logs: Logs, ask: Callable[[], RunningJob]) -> list[str]:
        return []


class World:
    """A job runner, and a job with one savepoint before it and checkpoints of its own."""

    def __init__(self, folder: Path) -> None:
        self.snapshots = SnapshotFolders(folder)
        self.savepoint = self.snapshot(self.snapshots.savepoints / "savepoint-1", 5)
        self.flink = Flink([self.savepoint])
        self.health = JobHealth(cast(FlinkRest, self.flink), self.snapshots, cast(ReadKeeper, Unchanged()))

    def checkpoint(self, number: int, time_ms: int) -> Path:
        self.flink.completed_ms = time_ms
        return self.snapshot(self.snapshots.checkpoints / JOB.job_id / f"chk-{number}", number)

    def restart_from(self, snapshot: Path) -> None:
        self.flink.snapshots.append(snapshot)

    def look(self) -> bool:
        """Whether the job must be submitted again."""
        return bool(self.health.faults(JOB, lambda: FakeLogs({})))

    @staticmethod
    def snapshot(folder: Path, number: int) -> Path:
        folder.mkdir(parents=True)
        (folder / "_metadata").write_bytes(struct.pack(">iiq", 0x4960672D, 6, number) + b"state")
        return folder


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_two_failures_on_one_snapshot_make_way_for_the_next_older(world: World) -> None:
    sixth = world.checkpoint(6, 10)
    seventh = world.checkpoint(7, 20)
    world.restart_from(seventh)
    world.flink.fail(100)
    assert not world.look()
    assert not world.look()  # a second look at the same failure
    world.flink.fail(200)
    assert world.look()
    assert world.snapshots.newest() == sixth


def test_damage_that_each_checkpoint_carries_on_ends_all_snapshots(world: World) -> None:
    """The state of one image is damaged. It is read when its timer fires, after the job completed a checkpoint."""
    world.flink.fail(MINUTE_MS)
    world.checkpoint(6, MINUTE_MS - 5)
    assert not world.look()
    world.restart_from(world.checkpoint(7, 2 * MINUTE_MS))
    assert not world.look()
    world.flink.fail(3 * MINUTE_MS)
    assert world.look()
    assert world.snapshots.newest() is None


@pytest.mark.parametrize("what", [DAMAGED, "TimeoutException: Topic joined not present"])
def test_a_failure_a_month_and_other_failures_end_nothing(world: World, what: str) -> None:
    world.flink.fail(MINUTE_MS, what)
    seventh = world.checkpoint(7, 2 * MINUTE_MS)
    world.restart_from(seventh)
    world.flink.fail(60_000 * MINUTE_MS if what == DAMAGED else 3 * MINUTE_MS, what)
    assert not world.look()
    assert world.snapshots.newest() == seventh


def test_a_job_that_started_without_a_snapshot_has_none_to_blame(world: World) -> None:
    world.flink.snapshots.clear()
    world.flink.fail(1)
    world.flink.fail(2)
    assert not world.look()
