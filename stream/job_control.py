"""Starting and stopping one signal's Flink job.

Index and storage keep the position of the sequence, so a job is disposable. Every submission reads `joined` from the
first record that one of the two stores lacks, and resumes only decoding and joining from the newest snapshot. It reads
the embedding topics from marks that were checked (`stream.read_keeper`), never from the snapshot's offsets.
Standalone Flink forgets its jobs when its job manager dies; `stream.job_watch` notices and submits again.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from core.access import Credentials, Right
from core.errors import MismatchError, ServiceError, UnavailableError
from core.files import sync_folder, write_text
from core.notifications import RECORD_KINDS
from core.overrides import JOB_KINDS
from core.types import LogPosition
from operators import first_load
from scoring.serving.client import ScorerClient
from search.serving.admission import Caller
from search.serving.client import SearchClient
from storage.serving.client import StorageClient
from storage.serving.storage_pb2 import AppliedRequest
from stream.access import credentials
from stream.broker import Broker
from stream.damaged_records import find_damage, send_again
from stream.data_folders import claim_topics
from stream.flink_rest import FlinkRest, JobState
from stream.flink_tls import flink_tls
from stream.job_health import JobHealth
from stream.job_lag import LagMeter
from stream.job_plan import JobPlan
from stream.kafka_access import KafkaAccess
from stream.local.flink_home import flink_environment, prepare_flink
from stream.log_reads import KafkaLogs, Logs
from stream.log_renewal import LogRenewal, renew_log
from stream.lost_records import send_lost_letters
from stream.names import client_id, consumer_group, job_name
from stream.read_keeper import Reading, ReadKeeper
from stream.read_marks import Loss
from stream.read_plan import JoinWait
from stream.renewal_mark import RenewalMark
from stream.restores import is_failed_restore
from stream.settings import Settings
from stream.snapshots import SnapshotFolders
from stream.start_plan import (
    Log,
    base_of,
    check_kinds,
    check_released,
    check_required,
    only_partition,
    replay_starts,
    starting_position,
)
from stream.topic_check import require_topics, topic_problems
from stream.topic_plans import topic_plans

__all__ = ["JobControl"]

log = logging.getLogger(__name__)

SUBMIT_TIMEOUT_S = 180.0
"""Python, a JVM and the planner start for one submission: 10 to 20 s on two busy cores."""

_START_S = 60.0
"""A job may need so long before its sources read."""

_CALL_S = 5.0


class JobControl:
    """One signal's Flink job."""

    def __init__(self, settings: Settings, signal_name: str) -> None:
        self._settings = settings
        self.name, self._signal = settings.signal(signal_name)
        self._folder = settings.signal_dir(self.name, "job")
        self.snapshots = SnapshotFolders(self._folder)
        self.flink = FlinkRest(settings.flink.host, settings.flink.rest_port, flink_tls(settings))
        join = settings.join
        self.reading = ReadKeeper(
            self._folder / "read-marks",
            tuple(self._signal.topic(side) for side in ("search", "score")),
            self._signal.topic("joined"),
            self._signal.topic("replay"),
            JoinWait(
                int(1000 * (join.timeout_s + join.out_of_orderness_s)), int(1000 * (join.idle_partition_s + _START_S))
            ),
        )

    @property
    def _access(self) -> KafkaAccess:
        return self._settings.kafka_access(client_id(self.name, "job-runner"))

    @property
    def _proof(self) -> Credentials:
        return credentials(self._settings, Right.STREAM)

    @property
    def _stop_marker(self) -> Path:
        return self._folder / "stopped"

    @property
    def wanted(self) -> bool:
        """Whether the job is meant to run: it was not stopped by hand."""
        return not self._stop_marker.exists()

    def start(self, *, accept_loss: bool = False) -> JobState:
        """Submits the job unless it is live, and lets the watch keep it running.

        Args:
            accept_loss: Goes on without records that Kafka deleted before they were read. They are counted, and named
                in the log and in `dead-letter`.

        Raises:
            MismatchError: The stores do not fit the log, the model the index, or the data the topics.
            ServiceError: A part does not answer, or Flink refuses the job.
        """
        with self._exclusive() as lock:
            self._stop_marker.unlink(missing_ok=True)
            sync_folder(self._folder)
            self._submit_unless_live(lock, accept_loss=accept_loss)
        state = self.state()
        if state is None:
            raise UnavailableError("the job manager lost the job right after it was submitted")
        return state

    def damage(self) -> list[Loss]:
        """What the job cannot read of the embedding topics, behind what it has read: damage on the broker's disk.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        access = self._access
        with closing(self.logs()) as logs, Broker(access) as broker:
            read = self.reading.positions(logs)
            found = [
                find_damage(access, topic, partition, max(read[topic].get(partition, 0), ends.first), ends.end)
                for topic in read
                for partition, ends in broker.ends(topic).items()
            ]
        return [each for each in found if each is not None]

    def skip(self, damage: Sequence[Loss]) -> JobState:
        """Submits the job again behind damaged records. They are counted as lost, and named in `dead-letter`.

        Intact records before them that the job may not have read are sent to their topic again.
        """
        access, limit = self._access, self._settings.kafka.max_message_bytes
        with self._exclusive(), closing(self.logs()) as logs:
            self._cancel(self._live())
            read = self.reading.positions(logs)
            for each in damage:
                again = send_again(access, each, read[each.topic].get(each.partition, each.first), limit)
                log.warning("%d records of %s partition %d were sent again", again, each.topic, each.partition)
            send_lost_letters(access, self._signal.topic("dead_letter"), damage, limit)
            self.reading.accept(logs, tuple(damage))
        return self.start()

    def keep(self) -> bool:
        """Submits the job if it is wanted and not live; returns whether it did. Raises the errors of `start`."""
        with self._exclusive() as lock:
            return self.wanted and self._submit_unless_live(lock)

    def stop(self) -> Path:
        """Stops the job with a savepoint, which the next start resumes from. The watch leaves it stopped.

        Waits for a submission that is under way. The job counts as stopped once the savepoint is complete. So if this
        is broken off before, by whatever, the watch keeps the job running.

        Raises:
            ServiceError: The job does not run, or Flink took no savepoint; it goes on as before.
        """
        with self._exclusive():
            job, *surplus = self._require_live()
            self._cancel(surplus)
            savepoint = self.flink.stop_with_savepoint(job.job_id, self.snapshots.savepoints)
            write_text(self._stop_marker, "")
            self.reading.ended(job.job_id, savepoint)
            return savepoint

    def cancel(self) -> None:
        """Stops the job without a savepoint, for one that cannot take any. The watch leaves it stopped.

        If this is broken off, the watch goes on with it.

        Raises:
            ServiceError: The job does not run, or Flink does not end it.
        """
        with self._exclusive():
            live = self._require_live()
            write_text(self._stop_marker, "")
            self._cancel(live)

    def renew_log(self, dry_run: bool) -> LogRenewal:
        """Makes both stores go on with the topic `joined` that is there now. The job must be stopped.

        Raises:
            ServiceError: The job runs, or a part does not answer.
            MismatchError: The stores are not level, or follow the topic already.
        """
        with self._exclusive():
            state = self.state()
            if state is not None and state.live:
                raise ServiceError(
                    f"the job {job_name(self.name)} runs: stop it with `neardup job stop`, or with "
                    "`neardup job stop --no-savepoint` if it cannot take a savepoint"
                )
            access = self._settings.kafka_access(client_id(self.name, "log-renew"))
            with (
                Broker(access) as broker,
                closing(self._search(Caller.STREAM)) as search,
                closing(self._storage()) as storage,
            ):
                return renew_log(self._signal.topic("joined"), broker, search, storage, self.snapshots, dry_run)

    def state(self) -> JobState | None:
        """The job as Flink knows it; none when Flink does not."""
        return self.flink.job(job_name(self.name))

    def topic_problems(self) -> list[str]:
        """What of the topics endangers records, over a connection for this one answer."""
        with Broker(self._access) as broker:
            return topic_problems(broker, topic_plans(self._signal, self._settings.kafka))

    def lag(self) -> dict[str, int]:
        """Records behind, by topic, and replays that wait, over a connection for this one answer."""
        with closing(self.lag_meter()) as meter:
            found = meter.read()
        return {**found.records, self._signal.topic("replay"): found.replays_waiting}

    def lag_meter(self) -> LagMeter:
        """What tells how many records the job is behind; it is to be closed."""
        access = self._access
        return LagMeter(lambda: Broker(access), self._storage(), self.name, self._signal)

    def tend(self, connect: Callable[[], Logs]) -> bool:
        """Cancels the live job if it must be submitted again or was stopped; else removes snapshots it does not need.

        Nobody else starts or stops the job meanwhile. Flink is asked again: what the caller saw may be over.

        Args:
            connect: Gives a connection to the embedding topics.

        Returns:
            Whether a job was cancelled.

        Raises:
            ServiceError: Flink or Kafka does not answer.
        """
        with self._exclusive():
            live = self._live()
            if not live:
                return False
            if not self.wanted:
                log.warning("cancelling job %s: it was stopped by hand", live[0].job_id)
            elif faults := JobHealth(self.flink, self.snapshots, self.reading).faults(live[0], connect):
                log.warning("submitting job %s again: %s", live[0].job_id, "; ".join(faults))
            else:
                self.snapshots.prune(live[0].job_id)
                return False
            self._cancel(live)
            return True

    def logs(self) -> Logs:
        """A connection to the embedding topics; it is to be closed."""
        return KafkaLogs(self._access, consumer_group(self.name))

    def _live(self) -> list[JobState]:
        return self.flink.live(job_name(self.name))

    def _require_live(self) -> list[JobState]:
        live = self._live()
        if not live:
            raise ServiceError(f"the job {job_name(self.name)} is not running")
        return live

    def _cancel(self, jobs: Iterable[JobState]) -> None:
        for each in jobs:
            self.flink.cancel(each.job_id)

    def _submit_unless_live(self, lock: int, *, accept_loss: bool = False) -> bool:
        if self._live():
            return False
        claim_topics(self._settings, self.name)
        plan = self._plan()
        with closing(self.logs()) as logs:
            reading = self._read_from(logs, plan.snapshot, accept_loss=accept_loss)
            self.reading.begins(logs, plan.submission, plan.log_id, plan.replay_id, reading)
            sides = {side: reading.starts[self._signal.topic(side)] for side in ("search", "score")}
            self._submit(replace(plan, embedding_starts=sides), lock)
            self.reading.begun(plan.submission, reading)
        return True

    def _read_from(self, logs: Logs, snapshot: Path | None, *, accept_loss: bool) -> Reading:
        mark = RenewalMark.settle(self._folder, snapshot)
        not_after_ms = None if mark is None else mark.read_again_ms
        reading = self.reading.plan(logs, snapshot, accept_loss=accept_loss, not_after_ms=not_after_ms)
        for remark in reading.remarks:
            log.warning("%s", remark)
        if reading.losses:
            topic = self._signal.topic("dead_letter")
            send_lost_letters(self._access, topic, reading.losses, self._settings.kafka.max_message_bytes)
            self.reading.accept(logs, reading.losses)
        return reading

    def _plan(self) -> JobPlan:
        """The plan of a submission, but for where the embedding topics are read from."""
        settings, signal = self._settings, self._signal
        topic, replay = signal.topic("joined"), signal.topic("replay")
        with Broker(self._access) as broker:
            require_topics(broker, topic_plans(signal, settings.kafka))
            topic_id = broker.topic_id(topic)
            positions, requests = self._store_positions()
            ends = only_partition(topic, broker.ends(topic))
            base = base_of(topic_id, positions.values())
            start = starting_position(
                Log.at(topic, topic_id, (ends.first, ends.end), base),
                positions,
                lambda position: broker.checksum(topic, position - base),
            )
            replay_id = broker.topic_id(replay)
            lanes = {lane: (each.first, each.end) for lane, each in broker.ends(replay).items()}
        replayed = {each.partition: each.offset for each in requests if each.topic_id == replay_id}
        snapshot = self.snapshots.newest()
        return JobPlan(
            signal=self.name,
            log_id=topic_id,
            base=base,
            joined_start=start,
            embedding_starts={},
            replay_id=replay_id,
            replay_starts=replay_starts(replayed, lanes),
            submission=uuid.uuid4().hex,
            snapshot=snapshot,
            checkpoints=self.snapshots.checkpoints,
        )

    def _store_positions(self) -> tuple[dict[str, LogPosition], Sequence[AppliedRequest]]:
        """The positions of the stores and the replays applied, after a check that the parts fit together.

        If storage began with a manifest, search is made to follow it first: it may have been down when storage swapped.

        Raises:
            UnavailableError: Search starts again, to follow it.
        """
        with (
            closing(self._search()) as search_client,
            closing(self._scorer()) as scorer_client,
            closing(self._storage()) as storage_client,
        ):
            first_load.follow(storage_client, search_client)
            index, model = search_client.describe(), scorer_client.describe()
            storage = storage_client.describe()
        check_kinds("the search server", index.kinds, RECORD_KINDS)
        check_required(storage.required, JOB_KINDS)
        if (index.code_fingerprint, index.code_bytes) != (model.code_fingerprint, model.code_bytes):
            raise MismatchError(
                f"the index keeps score codes {index.code_fingerprint[:12]} of {index.code_bytes} bytes, the model "
                f"{model.model_version} compares {model.code_fingerprint[:12]} of {model.code_bytes} bytes: "
                "serve a model trained for these codes, or rebuild the index"
            )
        stored = LogPosition(storage.log_id, storage.offset, storage.checksum, storage.base)
        check_released("the index", index.released, stored)
        at_index = LogPosition(index.log_id, index.offset, index.checksum, index.base)
        return {"the index": at_index, "storage": stored}, storage.requests

    def _submit(self, plan: JobPlan, lock: int) -> None:
        """Hands the job to Flink. `lock` is the descriptor of the file that `_exclusive` locks."""
        log.info(
            "submitting %s: joined from position %d, snapshot %s", job_name(self.name), plan.joined_start, plan.snapshot
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
                # A submission that outlives this process keeps the lock, so that no second one begins beside it.
                pass_fds=(lock,),
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"submitting the job took over {SUBMIT_TIMEOUT_S:.0f} s") from error
        if done.returncode != 0:
            if plan.snapshot is not None and is_failed_restore(done.stdout + done.stderr):
                self.snapshots.restores.note(plan.snapshot, [("submission", round(time.time() * 1000))])
            tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-30:])
            raise ServiceError(f"Flink did not take the job:\n{tail}")
        if plan.snapshot is None:
            self.snapshots.reject_all()

    @contextmanager
    def _exclusive(self) -> Iterator[int]:
        """Only one process starts or stops the job at a time; gives the descriptor of the lock."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file.fileno()

    def _search(self, caller: Caller = Caller.INTERACTIVE) -> SearchClient:
        part = self._signal.search
        return SearchClient(part.address, _CALL_S, part.max_message_bytes, caller, self._proof)

    def _scorer(self) -> ScorerClient:
        part = self._signal.scorer
        return ScorerClient(part.address, _CALL_S, part.max_message_bytes, credentials=self._proof)

    def _storage(self) -> StorageClient:
        part = self._signal.storage
        return StorageClient(part.address, _CALL_S, part.max_message_bytes, credentials=self._proof)
