"""Starting, tending and stopping the job, when runners die and when others start and stop it at the same time."""

from __future__ import annotations

import fcntl
import itertools
import subprocess
import threading
from pathlib import Path
from typing import Literal, cast

import pytest

from core.dead_letters import DeadLetter, Reason, parse_dead_letter
from core.errors import MismatchError, ServiceError, UnavailableError
from stream.flink_rest import FlinkRest, Restored
from stream.job_control import JobControl
from stream.job_health import GAP
from stream.job_plan import JobPlan
from stream.log_reads import Logs
from tests.support.fake_job_manager import FakeJobManager
from tests.support.fake_logs import FakeLog, FakeLogs, FakeTopic
from tests.support.stack import stack_settings

SIDES: tuple[Literal["search", "score"], ...] = ("search", "score")


class Killed(BaseException):
    """The runner is killed here."""


class World:
    """A job manager and topics; runners come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.flink = FakeJobManager()
        self.numbers = itertools.count(1)
        self.in_flight: list[str] = []
        """Submissions that Flink will still take, although whoever sent them is gone."""
        self.die = False
        signal = self.runner()._signal
        self.logs = FakeLogs({signal.topic(side): FakeTopic(f"{side}-1", {0: FakeLog()}) for side in SIDES})
        for name in ("joined", "replay"):
            self.logs.topics[signal.topic(name)] = FakeTopic(f"{name}-1", {0: FakeLog()})

    def runner(self) -> JobControl:
        """A process that was just started."""
        control = JobControl(stack_settings(self.folder), "photos")
        control.flink = cast(FlinkRest, self.flink)
        control.logs = lambda: cast(Logs, self.logs)  # type: ignore[method-assign]
        control._plan = self._plan  # type: ignore[method-assign]
        control._submit = self._submit  # type: ignore[method-assign]
        return control

    def _plan(self) -> JobPlan:
        return JobPlan("photos", "joined-1", 0, 0, {}, "replay-1", {}, f"job-{next(self.numbers)}", None, self.folder)

    def _submit(self, plan: JobPlan, lock: int) -> None:
        if self.die:
            self.in_flight.append(plan.submission)
            raise Killed
        self.flink.run(plan.submission)

    def die_in_a_submission(self) -> None:
        """A runner is killed after it sent the job, and before Flink took it."""
        self.die = True
        with pytest.raises(Killed):
            self.runner().keep()
        self.die = False

    def arrive(self) -> None:
        """Flink takes what was on its way."""
        for job_id in self.in_flight:
            self.flink.run(job_id)
        self.in_flight.clear()

    def look(self, control: JobControl) -> None:
        """What the runner does each second."""
        if self.live:
            control.tend(control.logs)
        else:
            control.keep()

    @property
    def live(self) -> list[str]:
        return [job.job_id for job in self.flink.live(self.flink.name)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_runner_that_is_killed_in_a_submission_leaves_one_job(world: World) -> None:
    """Flink takes the job after all, before the next runner looks: it is kept."""
    world.die_in_a_submission()
    world.arrive()
    runner = world.runner()
    for _ in range(3):
        world.look(runner)
    assert world.live == ["job-1"]


def test_a_submission_that_arrives_after_the_next_one_leaves_one_job(world: World) -> None:
    """Two jobs at once: both commit to one group, so neither is believed."""
    world.die_in_a_submission()
    runner = world.runner()
    world.look(runner)
    assert world.live == ["job-2"]
    world.arrive()
    assert len(world.live) == 2
    for _ in range(3):
        world.look(runner)
    assert world.live == ["job-3"]


def test_a_submission_that_arrives_after_the_job_was_stopped_is_cancelled(world: World) -> None:
    world.die_in_a_submission()
    runner = world.runner()
    world.look(runner)
    runner.stop()
    world.arrive()
    for _ in range(3):
        world.look(runner)
    assert world.live == []


def test_a_stop_takes_all_jobs_with_it(world: World) -> None:
    world.runner().keep()
    world.flink.run("surplus")
    world.runner().stop()
    assert world.live == []
    assert not world.runner().wanted


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UnavailableError("no savepoint"), Killed()])
def test_a_stop_that_is_broken_off_does_not_leave_the_job_stopped(world: World, error: BaseException) -> None:
    """Flink may end the job all the same; then the runner submits it again."""
    runner = world.runner()
    runner.keep()
    world.flink.savepoint_error = error
    with pytest.raises(type(error)):
        runner.stop()
    assert runner.wanted
    world.look(runner)
    assert len(world.live) == 1


def test_a_stop_without_savepoint_that_is_broken_off_is_finished_by_the_runner(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.runner().keep()
    with monkeypatch.context() as patch:
        patch.setattr(FakeJobManager, "cancel", lambda self, job_id: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            world.runner().cancel()
    assert world.live == ["job-1"]
    for _ in range(2):
        world.look(world.runner())
    assert world.live == []


def test_nothing_that_does_not_run_is_stopped(world: World) -> None:
    for stop in (world.runner().stop, world.runner().cancel):
        with pytest.raises(ServiceError, match="is not running"):
            stop()
    assert world.runner().wanted


@pytest.mark.parametrize("failure", [f"x.{GAP}: storage is at 7", "OffsetOutOfRangeException: 900"])
def test_a_failure_that_flink_cannot_mend_is_mended_by_a_submission(world: World, failure: str) -> None:
    runner = world.runner()
    runner.keep()
    world.flink.failed["job-1"] = [(1, failure)]
    assert runner.tend(lambda: pytest.fail("Kafka need not be asked"))
    world.look(runner)
    assert world.live == ["job-2"]


def test_a_snapshot_that_fails_twice_is_given_up(world: World) -> None:
    runner = world.runner()
    runner.keep()
    snapshot = world.folder / "chk-3"
    world.flink.snapshots["job-1"] = Restored(snapshot, 5)
    world.flink.failed["job-1"] = [(9, "Could not restore")]
    assert not runner.tend(runner.logs)
    world.flink.failed["job-1"] = [(11, "Could not restore"), (9, "Could not restore")]
    assert runner.tend(runner.logs)
    assert runner.snapshots.restores.rejected() == {snapshot}


def test_a_job_without_begin_marks_is_submitted_again(world: World) -> None:
    runner = world.runner()
    world.flink.run("stranger")
    for _ in range(3):
        world.look(runner)
    assert world.live == ["job-1"]


def test_an_order_that_was_made_anew_stops_the_job(world: World, caplog: pytest.LogCaptureFixture) -> None:
    runner = world.runner()
    runner.keep()
    world.logs.topics[runner._signal.topic("joined")] = FakeTopic("joined-2", {0: FakeLog()})
    world.look(runner)
    assert world.live == []
    assert "joined was the topic joined-1 and is joined-2 now: it was deleted and created again" in caplog.text


def test_only_the_snapshots_of_the_job_that_runs_now_are_kept(world: World) -> None:
    """The runner saw `job-1`; before it gets the lock, others have replaced the job."""
    runner = world.runner()
    runner.keep()
    checkpoints = {job_id: _checkpoints(runner, job_id) for job_id in ("job-1", "job-2")}
    world.flink.cancel("job-1")
    world.runner().keep()
    assert world.live == ["job-2"]
    assert not runner.tend(runner.logs)
    assert not checkpoints["job-1"].exists()
    assert checkpoints["job-2"].exists()


def _checkpoints(control: JobControl, job_id: str) -> Path:
    """Three checkpoints of a job; their folder."""
    for number in (1, 2, 3):
        folder = control.snapshots.checkpoints / job_id / f"chk-{number}"
        folder.mkdir(parents=True)
        (folder / "_metadata").write_bytes(bytes.fromhex("4960672d00000006") + number.to_bytes(8, "big") + b"state")
    return control.snapshots.checkpoints / job_id


def test_nothing_is_removed_while_no_job_runs(world: World) -> None:
    runner = world.runner()
    runner.keep()
    kept = [_checkpoints(runner, job_id) for job_id in ("job-0", "job-1")]
    world.flink.cancel("job-1")
    assert not runner.tend(runner.logs)
    assert all(each.exists() for each in kept)


def test_a_disk_that_is_full_submits_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job whose begin is not kept would be submitted again and again."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    runner = world.runner()
    runner.keep()
    world.flink.cancel("job-1")
    with monkeypatch.context() as patch:
        patch.setattr("stream.read_keeper.write_book", full)
        with pytest.raises(OSError, match="No space"):
            runner.keep()
        assert world.live == []
    runner.keep()
    assert len(world.live) == 1


def test_an_accepted_loss_is_in_dead_letter_before_the_job_is_submitted(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Sender:
        """A producer that keeps what it is given."""

        def __init__(self) -> None:
            self.sent: list[tuple[str, DeadLetter]] = []

        def send(self, topic: str, value: bytes) -> Sender:
            assert world.live == []
            self.sent.append((topic, parse_dead_letter(value)))
            return self

        def get(self, timeout: float) -> None: ...

        def flush(self, timeout: float) -> None: ...

        def close(self, timeout: float) -> None: ...

    sender = Sender()
    monkeypatch.setattr("stream.lost_records.producer", lambda *_: sender)
    runner = world.runner()
    runner.keep()
    topic = runner._signal.topic("search")
    expired = world.logs.topics[topic].partitions[0]
    expired.append(6_000, 10**9)
    expired.first = 5_000
    world.flink.cancel("job-1")
    with pytest.raises(MismatchError, match="neardup job start --accept-loss"):
        runner.start()
    assert (sender.sent, world.live) == ([], [])

    runner.start(accept_loss=True)
    assert len(world.live) == 1
    ((where, letter),) = sender.sent
    assert where == runner._signal.topic("dead_letter")
    assert letter.reason is Reason.LOST
    assert (letter.source.topic, letter.source.partition, letter.source.offset) == (topic, 0, 0)
    assert letter.detail.startswith("5000 records, offsets 0 to 4999")
    assert f"accepted: 5000 records of {topic} partition 0 are lost, offsets 0 to 4999" in caplog.messages
    # It is told once.
    world.flink.cancel(world.live[0])
    runner.start()
    assert len(sender.sent) == 1


def test_stopping_waits_for_a_submission_that_is_under_way(world: World) -> None:
    """Else a job would appear after its operator was told that none runs."""
    control, submitting, go = world.runner(), threading.Event(), threading.Event()

    def submit(plan: JobPlan, lock: int) -> None:
        submitting.set()
        go.wait(30)
        world.flink.run(plan.submission)

    control._submit = submit  # type: ignore[method-assign]
    keeping = threading.Thread(target=control.keep)
    keeping.start()
    assert submitting.wait(30)
    stopping = threading.Thread(target=control.stop)
    stopping.start()
    go.set()
    keeping.join(30)
    stopping.join(30)
    assert world.live == []
    assert not control.wanted
    assert not control.keep()


def test_a_submission_that_outlives_its_runner_keeps_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next runner would submit a second job beside it."""
    control = JobControl(stack_settings(tmp_path), "photos")
    left: list[subprocess.Popen[bytes]] = []

    def run(*_: object, pass_fds: tuple[int, ...], **__: object) -> subprocess.CompletedProcess[str]:
        left.append(subprocess.Popen(["sleep", "60"], pass_fds=pass_fds))
        return subprocess.CompletedProcess((), 0, "", "")

    monkeypatch.setattr("stream.job_control.prepare_flink", lambda settings: None)
    monkeypatch.setattr("stream.job_control.flink_environment", lambda settings: {})
    monkeypatch.setattr("stream.job_control.subprocess.run", run)
    with control._exclusive() as lock:
        control._submit(JobPlan("photos", "id", 0, 0, {}, "replay-1", {}, "submission", None, tmp_path), lock)
    with (tmp_path / "signals" / "photos" / "job" / "lock").open("w") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        left[0].kill()
        left[0].wait()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
