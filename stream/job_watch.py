"""The process that keeps one signal's Flink job running, and shows its metrics: `neardup job run`."""

from __future__ import annotations

import logging
import signal as signals
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge

from core.dead_letters import Reason
from core.disk_metrics import DiskCollector
from core.errors import MismatchError, NeardupError
from core.status_page import StatusPage
from stream.certificate_files import runner_certificates
from stream.dead_letters.ledger import DeadLetterFollower
from stream.flink_rest import JobState
from stream.job_control import JobControl
from stream.job_lag import LagMeter
from stream.local.python_start import PythonStart
from stream.local.supervisor import Deployment
from stream.log_reads import Logs
from stream.names import client_id
from stream.servers import owner_only
from stream.settings import Settings
from stream.topic_reader import TopicReader

__all__ = ["JobMetrics", "Watch", "disk_folders", "run"]

log = logging.getLogger(__name__)

_WATCH_S = 1.0
_SHOW_S = 5.0
"""Lag and the age of the checkpoint are asked for so often. That takes ten calls to Kafka, and one each to Flink and to
storage."""
_RETRY_MAX_S = 5.0
_MISMATCH_S = 10.0
_UNREAD_S = 30.0


class JobMetrics:
    """The metrics of the job runner."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.up = Gauge("neardup_job_running", "1 if all tasks of the Flink job run.", registry=self.registry)
        self.lag = Gauge(
            "neardup_job_lag_records", "Records of the topic not yet processed.", ["topic"], registry=self.registry
        )
        self.replays_waiting = Gauge(
            "neardup_job_replays_waiting", "Requests of the topic `replay` not yet applied.", registry=self.registry
        )
        self.replays_applied = Gauge(
            "neardup_job_replays_applied",
            "How far the lanes of `replay` are applied; it grows by each request.",
            registry=self.registry,
        )
        self.checkpoint_age = Gauge(
            "neardup_job_checkpoint_age_seconds", "Time since the last complete checkpoint.", registry=self.registry
        )
        self.rejected = Counter(
            "neardup_job_snapshots_rejected_total",
            "Snapshots that could not be restored, or were given up because the job started without one.",
            registry=self.registry,
        )
        self.submissions = Counter("neardup_job_submissions", "Times the job was submitted.", registry=self.registry)
        self.failing = Gauge(
            "neardup_job_watch_failing",
            "1 if the last look at the job failed; the other metrics are then of the look before.",
            registry=self.registry,
        )
        self.unread = Gauge(
            "neardup_job_unread_age_share",
            "Age of the oldest unread record of the topic, as a share of the topic's retention.",
            ["topic"],
            registry=self.registry,
        )
        self.lost = Gauge(
            "neardup_job_lost_records",
            "Records of the topic that Kafka deleted before they were read, and that were given up.",
            ["topic"],
            registry=self.registry,
        )
        self.topic_problems = Gauge(
            "neardup_job_topic_problems",
            "Departures of the topics from what they must be; a start of the job would be refused.",
            registry=self.registry,
        )
        self.rewinds = Gauge(
            "neardup_job_rewinds",
            "Submissions that found a topic cut, made anew, or emptied before it was read.",
            registry=self.registry,
        )
        self.dead_letters = Gauge(
            "neardup_job_dead_letters_open",
            "Dead letters that were neither replayed nor acknowledged.",
            ["reason"],
            registry=self.registry,
        )

    def show_dead_letters(self, counts: Mapping[Reason, int]) -> None:
        """Shows how many of each reason are open."""
        for reason, number in counts.items():
            self.dead_letters.labels(reason.value).set(number)


class Watch:
    """Looks at one job every second, and submits it when Flink does not run it.

    No error ends it. A disk that is full or broken, or an answer that nobody expected, may be gone at the next look.
    """

    def __init__(
        self,
        control: JobControl,
        meter: LagMeter,
        metrics: JobMetrics,
        page: StatusPage,
        stop: threading.Event,
        python: PythonStart | None = None,
    ) -> None:
        self._control = control
        self._python = python
        self._meter = meter
        self._metrics = metrics
        self._page = page
        self._stop = stop
        self._logged = ""
        self._rejected: set[Path] = set()
        self._logs: Logs | None = None
        self._unread_at = -_UNREAD_S
        self._shown_at = -_SHOW_S

    def loop(self) -> None:
        """Watches until `stop` is set. After an error it looks less often."""
        pause_s = _WATCH_S
        while not self._stop.wait(pause_s):
            # What cannot be shown must not keep the job from running, nor the other way round.
            error = _attempt(self._once)
            unshown = _attempt(self._show_reading)
            problem = error or unshown
            self._metrics.failing.set(problem is not None)
            if problem is None:
                pause_s, self._logged = _WATCH_S, ""
                continue
            self._log_once(problem)
            _attempt(self._disconnect)
            pause_s = _MISMATCH_S if isinstance(problem, MismatchError) else min(pause_s * 1.5, _RETRY_MAX_S)
        self._disconnect()

    def _once(self) -> None:
        control = self._control
        state = control.state()
        live = state is not None and state.live
        running = state is not None and state.state == "RUNNING" and control.flink.running(state.job_id)
        self._metrics.up.set(running)
        self._page.ready = running or not control.wanted
        rejected = control.snapshots.restores.rejected()
        self._metrics.rejected.inc(len(rejected - self._rejected))
        self._rejected = rejected
        if state is not None and live:
            if not running and self._python is not None:
                self._python.look(control.flink.failures(state.job_id))
            if not control.tend(self._connected):
                self._show(state)
        elif control.keep():
            self._metrics.submissions.inc()

    def _show_reading(self) -> None:
        """What is known of the embedding topics whether the job runs or not."""
        if time.monotonic() - self._unread_at < _UNREAD_S:
            return
        book = self._control.reading.book()
        for topic, records in book.lost.items():
            self._metrics.lost.labels(topic).set(records)
        self._metrics.rewinds.set(book.rewinds)
        for topic, share in self._control.reading.unread_shares(self._connected()).items():
            self._metrics.unread.labels(topic).set(share)
        problems = self._control.topic_problems()
        self._metrics.topic_problems.set(len(problems))
        if problems:
            self._log_once("; ".join(problems))
        self._unread_at = time.monotonic()

    def _connected(self) -> Logs:
        if self._logs is None:
            self._logs = self._control.logs()
        return self._logs

    def _disconnect(self) -> None:
        logs, self._logs = self._logs, None
        if logs is not None:
            logs.close()

    def _show(self, state: JobState) -> None:
        if time.monotonic() - self._shown_at < _SHOW_S:
            return
        behind = self._meter.read()
        for topic, records in behind.records.items():
            self._metrics.lag.labels(topic).set(records)
        self._metrics.replays_waiting.set(behind.replays_waiting)
        self._metrics.replays_applied.set(behind.replays_applied)
        newest = self._control.flink.checkpoints(state.job_id)["latest"]["completed"]
        since_ms = newest["latest_ack_timestamp"] if newest else state.started_ms
        self._metrics.checkpoint_age.set(max(0.0, time.time() - since_ms / 1000))
        self._shown_at = time.monotonic()

    def _log_once(self, error: Exception | str) -> None:
        """Logs a problem that repeats every second only once."""
        unexpected = None if isinstance(error, NeardupError | str) else error
        text = str(error) if unexpected is None else f"{type(error).__name__}: {error}"
        if text != self._logged:
            log.warning("%s", text, exc_info=unexpected)
        self._logged = text


def _attempt(step: Callable[[], None]) -> Exception | None:
    try:
        step()
    except Exception as error:  # noqa: BLE001 - the edge of the process
        return error
    return None


def disk_folders(settings: Settings, signal_name: str) -> dict[str, Path]:
    """The folders whose disks the runner shows: of the parts without a metrics page of ours.

    `taskmanager` exists in containers only: there `flink` is the runner's own, and the task manager's volume lies here.
    """
    data = settings.data_dir
    folders = {name: data / name for name in ("flink", "log", "taskmanager")}
    folders["job"] = settings.signal_dir(signal_name, "job")
    return folders | ({"kafka": data / "kafka"} if settings.kafka.own_broker else {})


def run(settings: Settings, signal_name: str) -> None:
    """Keeps the job of a signal running until SIGTERM or SIGINT; the job itself runs on."""
    owner_only()
    control = JobControl(settings, signal_name)
    stop = threading.Event()
    for number in (signals.SIGTERM, signals.SIGINT):
        signals.signal(number, lambda *_: stop.set())
    metrics = JobMetrics()
    metrics.registry.register(DiskCollector(disk_folders(settings, control.name)))
    metrics.registry.register(runner_certificates(settings))
    _, signal = settings.signal(control.name)
    page = StatusPage(signal.job_bind_host, signal.job_metrics_port, metrics.registry)
    page.start()
    access, dead_letters = settings.kafka_access(client_id(control.name, "dead-letters")), signal.topic("dead_letter")
    DeadLetterFollower(lambda: TopicReader(access, dead_letters), metrics.show_dead_letters, stop).start()
    try:
        with closing(control.lag_meter()) as meter:
            python = PythonStart(lambda: Deployment(settings).kill("taskmanager"))
            Watch(control, meter, metrics, page, stop, python).loop()
    finally:
        page.stop()
