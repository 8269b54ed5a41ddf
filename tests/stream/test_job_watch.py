"""The watch loop: what it does for each state of the job and of the parts around it."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from prometheus_client import CollectorRegistry

from core.errors import MismatchError, UnavailableError
from core.status_page import StatusPage
from stream.flink_rest import JobState
from stream.job_control import JobControl
from stream.job_lag import JobLag, LagMeter
from stream.job_watch import JobMetrics, Watch, disk_folders
from stream.log_reads import Logs
from stream.mark_file import MarkBook
from stream.restores import RestoreLog
from tests.support.fake_logs import FakeLogs
from tests.support.stack import stack_settings

SIDES: tuple[Literal["search", "score"], ...] = ("search", "score")
RUNNING = JobState("a", "neardup-photos", "RUNNING", 1)
FAILED = JobState("a", "neardup-photos", "FAILED", 1)


class Meter:
    """A lag that stays the same."""

    asked = 0

    def read(self) -> JobLag:
        self.asked += 1
        return JobLag({"joined": 7}, 3, 12)


class Rounds(threading.Event):
    """Stops the loop after some rounds, without waiting between them."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.left = rounds
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0.0)
        self.left -= 1
        return self.left < 0


@dataclass
class Control:
    """A job that does as it is told."""

    states: list[JobState | None]
    wanted: bool = True
    errors: list[Exception] = field(default_factory=list)
    faulty: bool = False
    unread_error: Exception | None = None
    kafka_down: bool = False
    done: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def state(self) -> JobState | None:
        return self.states[0] if len(self.states) == 1 else self.states.pop(0)

    def keep(self) -> bool:
        if not self.wanted:
            return False
        self.done.append("start")
        if self.errors:
            raise self.errors.pop(0)
        return True

    def tend(self, connect: Callable[[], Logs]) -> bool:
        if self.errors:
            raise self.errors.pop(0)
        connect()
        if self.faulty:
            self.done.append("cancel")
        return self.faulty

    def logs(self) -> Any:
        if self.kafka_down:
            raise UnavailableError("Kafka is down")
        return FakeLogs({})

    @property
    def reading(self) -> Any:
        error = self.unread_error

        class Reading:
            def book(self) -> MarkBook:
                return MarkBook((), {"search": 5}, 2)

            def unread_shares(self, logs: Any) -> dict[str, float]:
                if error is not None:
                    raise error
                return {"search": 0.5}

        return Reading()

    def topic_problems(self) -> list[str]:
        return self.problems

    @property
    def flink(self) -> Any:
        class Flink:
            def running(self, job_id: str) -> bool:
                return True

            def checkpoints(self, job_id: str) -> Any:
                return {"latest": {"completed": None}}

        return Flink()

    @property
    def snapshots(self) -> Any:
        class Snapshots:
            restores = RestoreLog(Path("/nowhere/restores.json"))

        return Snapshots()


def watch(control: Control, rounds: int = 1, meter: Meter | None = None) -> tuple[JobMetrics, StatusPage, Rounds]:
    metrics = JobMetrics()
    page = StatusPage("127.0.0.1", 1, CollectorRegistry())
    stop = Rounds(rounds)
    Watch(cast(JobControl, control), cast(LagMeter, meter or Meter()), metrics, page, stop).loop()
    return metrics, page, stop


def value(metrics: JobMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_running_job_is_ready_and_shows_its_lag() -> None:
    control = Control([RUNNING])
    metrics, page, _ = watch(control)
    assert control.done == []
    assert page.ready
    assert value(metrics, "neardup_job_running") == 1
    assert value(metrics, "neardup_job_lag_records", topic="joined") == 7
    assert value(metrics, "neardup_job_replays_waiting") == 3
    assert value(metrics, "neardup_job_replays_applied") == 12
    assert value(metrics, "neardup_job_unread_age_share", topic="search") == 0.5
    assert value(metrics, "neardup_job_lost_records", topic="search") == 5
    assert value(metrics, "neardup_job_rewinds") == 2
    assert value(metrics, "neardup_job_watch_failing") == 0


def test_not_every_look_asks_for_the_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100, 1_000, 1))
    monkeypatch.setattr("stream.job_watch.time.monotonic", lambda: float(next(now)))
    meter = Meter()
    metrics, _, _ = watch(Control([RUNNING]), rounds=12, meter=meter)
    assert 1 < meter.asked < 12
    assert value(metrics, "neardup_job_lag_records", topic="joined") == 7


def test_a_look_that_fails_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """The other gauges keep the values of the look before, so they cannot tell."""
    control = Control([RUNNING], kafka_down=True)
    metrics, _, _ = watch(control)
    assert value(metrics, "neardup_job_watch_failing") == 1
    control.kafka_down = False
    metrics, _, _ = watch(control)
    assert value(metrics, "neardup_job_watch_failing") == 0


def test_a_full_disk_does_not_end_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise its metrics are gone while the disk is full, and each start of the runner is a look at all topics."""
    control = Control([None], errors=[OSError(errno.ENOSPC, "No space left on device")])
    metrics, _, _ = watch(control)
    assert value(metrics, "neardup_job_watch_failing") == 1
    assert "No space left on device" in caplog.text
    metrics, _, _ = watch(control)
    assert control.done == ["start", "start"]
    assert value(metrics, "neardup_job_watch_failing") == 0


def test_a_job_that_cannot_go_on_is_cancelled_and_submitted_again() -> None:
    control = Control([RUNNING, FAILED], faulty=True)
    watch(control, rounds=2)
    assert control.done == ["cancel", "start"]


def test_topics_that_were_changed_are_told(caplog: pytest.LogCaptureFixture) -> None:
    metrics, _, _ = watch(Control([RUNNING], problems=["joined has 3 partitions", "flush.ms has no effect"]))
    assert value(metrics, "neardup_job_topic_problems") == 2
    assert "joined has 3 partitions; flush.ms has no effect" in caplog.text


@pytest.mark.parametrize("state", [None, FAILED])
def test_a_job_that_flink_has_lost_or_ended_is_submitted(state: JobState | None) -> None:
    control = Control([state])
    metrics, page, _ = watch(control)
    assert control.done == ["start"]
    assert not page.ready
    assert value(metrics, "neardup_job_submissions_total") == 1


def test_a_job_that_was_stopped_by_hand_is_left_alone() -> None:
    control = Control([None], wanted=False)
    _, page, _ = watch(control, rounds=3)
    assert control.done == []
    assert page.ready


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("latest"), RuntimeError("?")])
def test_no_error_ends_the_runner(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    control = Control([RUNNING], errors=[error] * 3)
    metrics, _, stop = watch(control, rounds=3)
    assert value(metrics, "neardup_job_watch_failing") == 1
    assert stop.pauses[1] < stop.pauses[3]
    [told] = [record for record in caplog.records if type(error).__name__ in record.getMessage()]
    assert told.exc_info is not None
    metrics, _, _ = watch(control, rounds=1)
    assert value(metrics, "neardup_job_watch_failing") == 0


def test_an_error_while_the_reading_is_shown_does_not_keep_the_job_from_running() -> None:
    control = Control([None], unread_error=OSError(5, "Input/output error"))
    metrics, _, _ = watch(control, rounds=2)
    assert control.done == ["start", "start"]
    assert value(metrics, "neardup_job_watch_failing") == 1


def test_parts_that_are_down_are_waited_for_ever_longer() -> None:
    control = Control([None], errors=[UnavailableError("search is down")] * 20)
    _, _, stop = watch(control, rounds=21)
    assert control.done == ["start"] * 21
    assert stop.pauses[1] < stop.pauses[4] <= 5.0
    assert max(stop.pauses) <= 5.0


def test_parts_that_do_not_fit_together_are_asked_rarely(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    control = Control([None], errors=[MismatchError("1 is not 2")] * 2)
    _, _, stop = watch(control, rounds=2)
    assert stop.pauses[1] == 10.0
    assert [record.getMessage() for record in caplog.records].count("1 is not 2") == 1


def test_marks_that_cannot_be_shown_do_not_keep_the_job_from_running() -> None:
    control = Control([None], kafka_down=True)
    metrics, _, _ = watch(control)
    assert control.done == ["start"]
    assert value(metrics, "neardup_job_watch_failing") == 1


def test_the_runner_shows_the_disks_of_the_parts_without_a_page_of_ours(tmp_path: Path) -> None:
    settings = stack_settings(tmp_path)
    assert disk_folders(settings, "photos") == {
        "flink": tmp_path / "flink",
        "taskmanager": tmp_path / "taskmanager",
        "job": settings.signal_dir("photos", "job"),
        "log": tmp_path / "log",
        "kafka": tmp_path / "kafka",
    }
    others = stack_settings(tmp_path, kafka={"bootstrap": ["kafka.example:9092"]})
    assert "kafka" not in disk_folders(others, "photos")
