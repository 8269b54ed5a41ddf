"""The job of one signal: pipelines that meet in Kafka, in the topic `joined`, and one that watches a folder.

    embeddings.search ─ decode ─┐
    embeddings.score  ─ decode ─┴ join ─> joined          (parallel; dead letters aside)
    replay ─> admit ─> joined                             (a lane for named images, one for selections)
    joined ─> search ─> score ─> assign                   (one sequence; dead letters go with verdicts to storage)
                 └───────┴─────────┴─> debug              (traces, aside)
    ROOT/manifests ─> watch                               (asks the servers to load; only with `manifests` set)

No edge connects them, so each restarts alone. Each Python operator starts a chain: two in one chain deadlock in thread
mode.
"""

from __future__ import annotations

from dataclasses import replace

from pyflink.common.typeinfo import TypeInformation
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

from core.access import Right
from core.replay_credits import LIMITS
from core.replay_requests import LANES, Lane
from core.vector_limits import VectorLimits
from manifests.interface import MANIFESTS
from manifests.manifest import MAX_BYTES, SUFFIX
from operators.admit import AdmitFunction, ReplayLane
from operators.assign import AssignFunction
from operators.decode import DecodeFunction
from operators.join import JoinFunction
from operators.micro_batch import MicroBatchFunction
from operators.outputs import DEAD_LETTERS, TRACES
from operators.pairing import JoinPolicy, Side
from operators.rows import (
    BYTES_TYPE,
    FILE_ROW_TYPE,
    IMAGE_KEY_TYPE,
    JOINED_ROW_TYPE,
    KEYED_HALF_TYPE,
    KEYED_IN_FLIGHT_TYPE,
    RECORD_TYPE,
    SEQUENCE_KEY_TYPE,
)
from operators.score import ScoreFunction
from operators.search import LogEpoch, SearchFunction
from operators.step import ServerAddress
from operators.tracer import Tracing
from operators.watch import WatchFunction
from stream.access import credentials
from stream.folder_source import folder_stream
from stream.hashing import vector_limits
from stream.job_plan import STATE_FORMAT, JobPlan
from stream.kafka_access import KafkaAccess
from stream.names import client_id, consumer_group
from stream.settings import ServerSettings, Settings
from stream.table_sink import KafkaTarget, sink_properties, write_records
from stream.tables import WatermarkPolicy, embedding_stream, joined_stream, replay_stream
from stream.trace_stamp import trace_stamp
from stream.wiring import at_once, batched, keyed_by_first, side_output

__all__ = ["STATE_FORMAT", "build_job"]


def build_job(env: StreamExecutionEnvironment, settings: Settings, plan: JobPlan) -> None:
    """Wires the job of one signal into an environment."""
    tables = StreamTableEnvironment.create(env)
    _Joining(tables, settings, plan).build()
    for lane in LANES:
        _Replaying(tables, settings, plan, lane).build()
    _Sequence(tables, settings, plan).build()
    if settings.signal(plan.signal)[1].manifests:
        _Watching(tables, settings, plan).build(env)


class _Pipeline:
    """What all pipelines share."""

    def __init__(self, tables: StreamTableEnvironment, settings: Settings, plan: JobPlan) -> None:
        self.tables = tables
        self.settings = settings
        self.plan = plan
        _, self.signal = settings.signal(plan.signal)

    def write(self, stream: DataStream, topic: str, role: str, uid: str) -> None:
        """Sends rows of (key, value, traceparent) to a topic; `role` names the Kafka client."""
        content_type = "application/x-protobuf" if topic == self.signal.topic("joined") else "application/json"
        properties = sink_properties(self.access(role), self.settings.kafka.max_message_bytes)
        write_records(self.tables, stream, KafkaTarget(topic, content_type, properties), uid=uid)

    def access(self, role: str) -> KafkaAccess:
        """How a source or a sink reaches Kafka."""
        return self.settings.kafka_access(client_id(self.plan.signal, role))


class _Joining(_Pipeline):
    """Embedding topics to `joined`. The uids of its operators change with `STATE_FORMAT` only: they find state.

    Those of its sources are new in each job, which begins at marks that were checked (`stream.read_keeper`).
    """

    def build(self) -> None:
        signal, settings = self.signal, self.settings
        search_limits, score_limits = vector_limits(settings, signal)
        search = self._halves(Side.SEARCH, signal.topic("search"), search_limits)
        score = self._halves(Side.SCORE, signal.topic("score"), score_limits)
        function = JoinFunction(
            JoinPolicy(timeout_ms=_ms(settings.join.timeout_s)),
            signal.search_embedding,
            signal.score_embedding,
            _ms(settings.join.alert_after_s),
        )
        joined = (
            keyed_by_first(search, IMAGE_KEY_TYPE, BYTES_TYPE)
            .connect(keyed_by_first(score, IMAGE_KEY_TYPE, BYTES_TYPE))
            .process(function, RECORD_TYPE)
            .start_new_chain()
            .name("join")
            .uid(_uid("join"))
        )
        self.write(joined, signal.topic("joined"), "joined-sink", _uid("joined-sink"))
        dead_letters = side_output(search, DEAD_LETTERS).union(
            side_output(score, DEAD_LETTERS), side_output(joined, DEAD_LETTERS)
        )
        uid = _uid("join-dead-letter-sink")
        self.write(dead_letters, signal.topic("dead_letter"), "join-dead-letter-sink", uid)

    def _halves(self, side: Side, topic: str, limits: VectorLimits) -> DataStream:
        join = self.settings.join
        stream = embedding_stream(
            self.tables,
            uid=_uid(f"{side}-source-{self.plan.submission}"),
            topic=topic,
            access=self.access(f"{side}-source"),
            group=consumer_group(self.plan.signal),
            starts=self.plan.embedding_starts[side],
            watermarks=WatermarkPolicy(join.out_of_orderness_s, join.idle_partition_s),
        )
        batches = batched(stream, self.settings.flink.buffer_timeout_ms, _uid(f"batch-{side}"))
        return (
            batches.process(DecodeFunction(side, topic, limits), KEYED_HALF_TYPE)
            .start_new_chain()
            .name(f"decode {side}")
            .uid(_uid(f"decode-{side}"))
        )


class _Replaying(_Pipeline):
    """One lane of `replay` to `joined`. Its uids are those of one submission: storage keeps the position."""

    def __init__(self, tables: StreamTableEnvironment, settings: Settings, plan: JobPlan, lane: Lane) -> None:
        super().__init__(tables, settings, plan)
        self._lane = lane

    def build(self) -> None:
        signal, plan, lane = self.signal, self.plan, self._lane
        topic = signal.topic("replay")
        source = replay_stream(
            self.tables,
            uid=self._uid("source"),
            topic=topic,
            access=self.access(f"replay-{lane.name.lower()}-source"),
            group=f"{consumer_group(plan.signal)}-replay",
            starts=plan.replay_starts,
            partition=lane,
        )
        policy = replace(self.settings.batching, max_items=LIMITS[lane])
        specs = signal.search_embedding, signal.score_embedding
        function = AdmitFunction(
            policy,
            _address(self.settings, signal.storage),
            ReplayLane(lane, topic, plan.replay_id, *specs),
        )
        admitted = (
            keyed_by_first(at_once(source), SEQUENCE_KEY_TYPE, JOINED_ROW_TYPE)
            .process(function, RECORD_TYPE)
            .start_new_chain()
            .name(f"admit {lane.name.lower()}")
            .uid(self._uid("admit"))
        )
        at_once(admitted.set_parallelism(1).set_max_parallelism(1))
        self.write(admitted, signal.topic("joined"), f"replay-{lane.name.lower()}-sink", self._uid("joined-sink"))
        dead_letters = side_output(admitted, DEAD_LETTERS)
        uid = self._uid("dead-letter-sink")
        self.write(dead_letters, signal.topic("dead_letter"), f"replay-{lane.name.lower()}-dead-letter-sink", uid)

    def _uid(self, name: str) -> str:
        return _uid(f"replay-{self.plan.submission}-{self._lane.name.lower()}-{name}")


class _Sequence(_Pipeline):
    """`joined` to storage, in one order. Its uids are those of one submission: no state of an earlier job is used."""

    def build(self) -> None:
        signal, plan, batching = self.signal, self.plan, self.settings.batching
        topic = signal.topic("joined")
        search, scorer, storage = (
            _address(self.settings, server) for server in (signal.search, signal.scorer, signal.storage)
        )
        source = joined_stream(
            self.tables,
            uid=self._uid("source"),
            topic=topic,
            access=self.access("sequence-source"),
            group=f"{consumer_group(plan.signal)}-sequence",
            start=plan.joined_start - plan.base,
        )
        epoch = LogEpoch(plan.log_id, plan.base, topic)
        tracing = Tracing(signal.traces, trace_stamp(signal))
        found = self._step("search", source, JOINED_ROW_TYPE, SearchFunction(batching, search, epoch, storage, tracing))
        # Search emits batches already: waiting again would gain nothing.
        policy = replace(batching, max_delay_ms=0, busy_delay_ms=0)
        scored = self._step("score", found, BYTES_TYPE, ScoreFunction(policy, scorer, search, tracing))
        assign = AssignFunction(policy, search, scorer, storage, epoch, tracing)
        assigned = self._step("assign", scored, BYTES_TYPE, assign)
        traces = side_output(found, TRACES).union(side_output(scored, TRACES), side_output(assigned, TRACES))
        self.write(traces, signal.topic("debug"), "debug-sink", self._uid("debug-sink"))

    def _step(
        self, name: str, stream: DataStream, value_type: TypeInformation, function: MicroBatchFunction
    ) -> DataStream:
        keyed = keyed_by_first(stream, SEQUENCE_KEY_TYPE, value_type)
        done = keyed.process(function, KEYED_IN_FLIGHT_TYPE).start_new_chain().name(name).uid(self._uid(name))
        return at_once(done.set_parallelism(1).set_max_parallelism(1))

    def _uid(self, name: str) -> str:
        # Also of one that began at the same position: stores that were put back lead to the same start again.
        return _uid(f"sequence-{self.plan.submission}-{name}")


class _Watching(_Pipeline):
    """The folder of manifests, whose manifests the servers are asked to load.

    Its uids are those of one submission: each begins with all files of the folder. They are few, and to ask once more
    for one that is done changes nothing. Names that a snapshot kept would hide files that took the place of others.
    """

    def build(self, env: StreamExecutionEnvironment) -> None:
        plan, root = self.plan, self.settings.manifests(self.signal)
        storage, search = (_address(self.settings, server) for server in (self.signal.storage, self.signal.search))
        files = folder_stream(
            env,
            uid=self._uid("source"),
            folder=f"{root.rstrip('/')}/{MANIFESTS}",
            suffix=SUFFIX,
            most_bytes=MAX_BYTES,
        )
        watched = (
            keyed_by_first(at_once(files), SEQUENCE_KEY_TYPE, FILE_ROW_TYPE)
            .process(WatchFunction(root, plan.log_id, storage, search), RECORD_TYPE)
            .start_new_chain()
            .name("watch")
            .uid(self._uid("watch"))
        )
        watched.set_parallelism(1).set_max_parallelism(1)

    def _uid(self, name: str) -> str:
        return _uid(f"manifests-{self.plan.submission}-{name}")


def _uid(name: str) -> str:
    return f"{name}-v{STATE_FORMAT}"


def _address(settings: Settings, server: ServerSettings) -> ServerAddress:
    deadline_s = settings.batching.deadline_ms / 1000
    return ServerAddress(server.address, deadline_s, server.max_message_bytes, credentials(settings, Right.STREAM))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
