"""Starting, stopping and watching one signal's Flink job.

The truth of the sequence lies in index and storage, so a job is disposable: every submission reads `joined` from one
after the store that is least far, and resumes only decoding and joining from the newest snapshot. Standalone Flink
forgets its jobs when its job manager dies; the watch loop (`run`) notices and submits again.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal as signals
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge

from core.errors import MismatchError, NeardupError, ServiceError, UnavailableError
from core.status_page import StatusPage
from core.types import LogPosition
from scoring.serving.client import ScorerClient
from search.serving.client import SearchClient
from storage.serving.client import StorageClient
from stream.broker import Broker, LogEnds
from stream.data_folders import claim_topics
from stream.flink_rest import FlinkRest, JobState
from stream.job_plan import JobPlan
from stream.local.flink_home import flink_environment, prepare_flink
from stream.names import client_id, consumer_group, job_name
from stream.settings import Settings
from stream.snapshots import SnapshotFolders
from stream.start_plan import Log, starting_offset

__all__ = ["JobControl", "run"]

log = logging.getLogger(__name__)

SUBMIT_TIMEOUT_S = 180.0
"""Python, a JVM and the planner start for one submission: 10 to 20 s on two busy cores."""

GAP = "LogGapError"
"""The word in a failure that says: the stores no longer stand where this job thinks, submit again."""

_CALL_S = 5.0
_WATCH_S = 1.0


class JobControl:
    """One signal's Flink job."""

    def __init__(self, settings: Settings, signal_name: str) -> None:
        self._settings = settings
        self.name, self._signal = settings.signal(signal_name)
        self._folder = settings.signal_dir(self.name, "job")
        self.snapshots = SnapshotFolders(self._folder)
        self.flink = FlinkRest(settings.flink.host, settings.flink.rest_port)

    @property
    def _stop_mark(self) -> Path:
        return self._folder / "stopped"

    @property
    def wanted(self) -> bool:
        """Whether the job is meant to run: it was not stopped by hand."""
        return not self._stop_mark.exists()

    def start(self) -> JobState:
        """Submits the job unless it is live, and lets the watch loop keep it running.

        Raises:
            MismatchError: The stores do not fit the log, the model the index, or the data the topics.
            ServiceError: A part does not answer, or Flink refuses the job.
        """
        with self._alone():
            self._stop_mark.unlink(missing_ok=True)
            self._submit_unless_live()
        state = self.state()
        if state is None:
            raise UnavailableError("the job manager lost the job right after it was submitted")
        return state

    def keep(self) -> bool:
        """Submits the job if it is wanted and not live; whether it did. Raises what `start` raises."""
        with self._alone():
            return self.wanted and self._submit_unless_live()

    def stop(self) -> Path:
        """Stops the job with a savepoint, which the next start resumes from; the watch loop leaves it stopped.

        Waits for a submission that is under way.

        Raises:
            ServiceError: The job does not run, or Flink took no savepoint; it goes on as before.
        """
        with self._alone():
            state = self.state()
            if state is None or not state.live:
                raise ServiceError(f"the job {job_name(self.name)} is not running")
            self._stop_mark.touch()
            try:
                return self.flink.stop_with_savepoint(state.job_id, self.snapshots.savepoints)
            except ServiceError:
                self._stop_mark.unlink(missing_ok=True)
                raise

    def state(self) -> JobState | None:
        """The job as Flink knows it; none when Flink does not."""
        return self.flink.job(job_name(self.name))

    def lag(self) -> dict[str, int]:
        """Records behind, by topic: embeddings against the committed offsets, `joined` against storage."""
        settings, signal = self._settings, self._signal
        with Broker(settings.kafka_access(client_id(self.name, "job-runner"))) as broker:
            behind = {}
            for side in ("search", "score"):
                topic = signal.topic(side)
                committed = broker.committed(consumer_group(self.name), topic)
                ends = broker.ends(topic)
                behind[topic] = sum(each.end - committed.get(part, each.first) for part, each in ends.items())
            topic = signal.topic("joined")
            end = broker.ends(topic)[0].end
        with closing(self._storage()) as storage:
            behind[topic] = end - (storage.describe().offset + 1)
        return behind

    def resubmit_after_gap(self, state: JobState) -> bool:
        """Cancels the job if its newest failure says that the stores stand elsewhere; whether it did."""
        failures = self.flink.failures(state.job_id)
        if not failures or GAP not in failures[0][1]:
            return False
        log.warning("the stores and job %s do not stand at the same offset: submitting it again", state.job_id)
        self.flink.cancel(state.job_id)
        return True

    def _submit_unless_live(self) -> bool:
        live = self.state()
        if live is not None and live.live:
            return False
        claim_topics(self._settings, self.name)
        self._submit(self._plan())
        return True

    def _plan(self) -> JobPlan:
        settings, signal = self._settings, self._signal
        positions = self._store_positions()
        topic = signal.topic("joined")
        with Broker(settings.kafka_access(client_id(self.name, "job-runner"))) as broker:
            topic_id = broker.topic_id(topic)
            ends = broker.ends(topic)[0]
            start = starting_offset(
                Log(topic, topic_id, ends.first, ends.end), positions, lambda offset: broker.checksum(topic, offset)
            )
            starts = {side: self._embedding_start(broker, signal.topic(side)) for side in ("search", "score")}
        return JobPlan(self.name, topic_id, start, starts, self.snapshots.newest(), self.snapshots.checkpoints)

    def _store_positions(self) -> dict[str, LogPosition]:
        """Where the stores stand, once it is clear that the parts fit together."""
        with (
            closing(self._search()) as search_client,
            closing(self._scorer()) as scorer_client,
            closing(self._storage()) as storage_client,
        ):
            index, model = search_client.describe(), scorer_client.describe()
            storage = storage_client.describe()
        if (index.code_fingerprint, index.code_bytes) != (model.code_fingerprint, model.code_bytes):
            raise MismatchError(
                f"the index keeps score codes {index.code_fingerprint[:12]} of {index.code_bytes} bytes, the model "
                f"{model.model_version} compares {model.code_fingerprint[:12]} of {model.code_bytes} bytes: "
                "serve a model trained for these codes, or rebuild the index"
            )
        return {
            "the index": LogPosition(index.log_id, index.offset, index.checksum),
            "storage": LogPosition(storage.log_id, storage.offset, storage.checksum),
        }

    def _embedding_start(self, broker: Broker, topic: str) -> dict[int, int]:
        """Without a snapshot the halves that were waiting are lost with the join's state: read one timeout more."""
        ends = broker.ends(topic)
        committed = broker.committed(consumer_group(self.name), topic)
        wait_ms = int(self._settings.join.timeout_s * 1000)
        times = {}
        for partition, offset in committed.items():
            last = min(offset, ends[partition].end) - 1
            stamp = broker.timestamp(topic, partition, last)
            if stamp is not None:
                times[partition] = stamp - wait_ms
        rewound = broker.offsets_at(topic, times) if times else {}
        return {partition: _within(rewound.get(partition, each.first), each) for partition, each in ends.items()}

    def _submit(self, plan: JobPlan) -> None:
        log.info(
            "submitting %s: joined from offset %d, snapshot %s", job_name(self.name), plan.joined_start, plan.snapshot
        )
        prepare_flink(self._settings)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "stream.submit"],
                input=f"{self._settings.model_dump_json()}\n{self._settings.base}\n{plan.to_json()}\n",
                env={**os.environ, **flink_environment(self._settings)},
                capture_output=True,
                text=True,
                timeout=SUBMIT_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"submitting the job took over {SUBMIT_TIMEOUT_S:.0f} s") from error
        if done.returncode != 0:
            tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-30:])
            raise ServiceError(f"Flink did not take the job:\n{tail}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One that starts or stops at a time, over processes."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _search(self) -> SearchClient:
        part = self._signal.search
        return SearchClient(part.address, _CALL_S, part.max_message_bytes)

    def _scorer(self) -> ScorerClient:
        part = self._signal.scorer
        return ScorerClient(part.address, _CALL_S, part.max_message_bytes)

    def _storage(self) -> StorageClient:
        part = self._signal.storage
        return StorageClient(part.address, _CALL_S, part.max_message_bytes)


def _within(offset: int, ends: LogEnds) -> int:
    return min(max(offset, ends.first), ends.end)


class Watch:
    """Keeps one job running, and shows how far behind it is."""

    def __init__(self, control: JobControl, metrics: JobMetrics, page: StatusPage, stop: threading.Event) -> None:
        self._control = control
        self._metrics = metrics
        self._page = page
        self._stop = stop
        self._said = ""

    def loop(self) -> None:
        pause_s = _WATCH_S
        while not self._stop.wait(pause_s):
            try:
                self._once()
                pause_s, self._said = _WATCH_S, ""
            except MismatchError as error:
                self._say(error)
                pause_s = 10.0
            except NeardupError as error:
                self._say(error)
                pause_s = min(pause_s * 1.5, 5.0)

    def _once(self) -> None:
        control = self._control
        state = control.state()
        live = state is not None and state.live
        running = state is not None and state.state == "RUNNING" and control.flink.running(state.job_id)
        self._metrics.up.set(running)
        self._page.ready = running or not control.wanted
        if state is not None and live:
            if control.resubmit_after_gap(state):
                return
            self._show(state)
            control.snapshots.prune(state.job_id)
        elif control.keep():
            self._metrics.submissions.inc()

    def _show(self, state: JobState) -> None:
        for topic, records in self._control.lag().items():
            self._metrics.lag.labels(topic).set(records)
        newest = self._control.flink.checkpoints(state.job_id)["latest"]["completed"]
        since_ms = newest["latest_ack_timestamp"] if newest else state.started_ms
        self._metrics.checkpoint_age.set(max(0.0, time.time() - since_ms / 1000))

    def _say(self, error: Exception) -> None:
        # A part that is down is said once, not every second.
        text = str(error)
        if text != self._said:
            log.warning("%s", text)
        self._said = text


class JobMetrics:
    """What the job runner shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.up = Gauge("neardup_job_running", "Whether Flink runs the job.", registry=self.registry)
        self.lag = Gauge("neardup_job_lag_records", "Records behind the end.", ["topic"], registry=self.registry)
        self.checkpoint_age = Gauge(
            "neardup_job_checkpoint_age_seconds", "Since the last complete checkpoint.", registry=self.registry
        )
        self.submissions = Counter("neardup_job_submissions", "Times the job was submitted.", registry=self.registry)


def run(settings: Settings, signal_name: str) -> None:
    """Keeps the job of a signal running until SIGTERM or SIGINT; the job itself runs on."""
    control = JobControl(settings, signal_name)
    stop = threading.Event()
    for number in (signals.SIGTERM, signals.SIGINT):
        signals.signal(number, lambda *_: stop.set())
    metrics = JobMetrics()
    _, signal = settings.signal(control.name)
    page = StatusPage(signal.job_bind_host, signal.job_metrics_port, metrics.registry)
    page.start()
    try:
        Watch(control, metrics, page, stop).loop()
    finally:
        page.stop()
