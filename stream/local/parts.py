"""Every process of a deployment on one machine, as data.

    broker ------> topics (ends by itself) --+
    jobmanager --> taskmanager --------------+
    search, scorer, storage (per signal) ----+--> job (per signal)

Parts without an arrow between them start together. A part waits for those before it. Parts stop in waves: the job first
(then no call is in flight when its servers stop), the broker last.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from stream.flink_tls import flink_tls
from stream.local.broker import broker_command, prepare_broker
from stream.local.flink_home import flink_command, flink_environment, prepare_flink
from stream.local.readiness import AlwaysReady, BrokerReady, Check, HttpReady, KafkaReady, TaskManagersReady
from stream.settings import ServerSettings, Settings, Signal

__all__ = ["Listener", "Part", "deployment_parts", "flink_parts", "part_checks", "signal_parts"]

_STOP_JOB, _STOP_FLINK, _STOP_SERVERS, _STOP_BROKER = range(4)


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that a part binds, and the setting that names it."""

    setting: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Part:
    """One process.

    Attributes:
        name: Unique in the deployment; names its log.
        command: Runs it in the foreground; SIGTERM stops it cleanly.
        after: The parts that must be ready before it starts.
        stop_wave: Parts of wave 0 stop first.
        ready: Checks whether it serves; for a `once` part only asked after it has ended with status 0.
        environment: Variables beyond those of the deployment.
        prepare: Writes what the process reads, before the first part starts; may be repeated.
        listeners: The ports that it binds.
        once: It ends by itself, with status 0 when its work is done.
        ready_timeout_s: How long it may take until it serves.
        stop_wait_s: How long it may take to end before it is killed.
    """

    name: str
    command: tuple[str, ...]
    stop_wave: int
    ready: Check = field(default_factory=AlwaysReady)
    after: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] | None = None
    listeners: tuple[Listener, ...] = ()
    once: bool = False
    ready_timeout_s: float = 120.0
    stop_wait_s: float = 20.0


def part_checks(settings: Settings) -> dict[str, Check]:
    """The readiness check of each part. It needs the settings alone, so one container can check another."""
    kafka, flink = settings.kafka, settings.flink
    own, others = BrokerReady(kafka.host, kafka.port), KafkaReady(settings.kafka_access("neardup-ready"))
    checks: dict[str, Check] = {
        # A broker that others run is no part, but containers and `status` check it.
        "broker": own if kafka.own_broker else others,
        "jobmanager": HttpReady(flink.host, flink.rest_port, "/overview", flink_tls(settings)),
        "taskmanager": TaskManagersReady(flink.host, flink.rest_port, flink.slots, flink_tls(settings)),
    }
    for name, signal in settings.signals.items():
        for role, server in (("search", signal.search), ("scorer", signal.scorer), ("storage", signal.storage)):
            checks[f"{name}-{role}"] = HttpReady(server.host, server.metrics_port, "/readyz")
        checks[f"{name}-job"] = HttpReady(signal.job_host, signal.job_metrics_port, "/readyz")
    return checks


def deployment_parts(settings: Settings) -> tuple[Part, ...]:
    """All parts: the broker unless others run it, topics, Flink, and for each signal its three servers and its job.

    Raises:
        MissingPieceError: A piece that set-up fetches is missing.
    """
    # The topics of our own broker follow the settings. Those of others are changed only by hand.
    update = ("--update",) if settings.kafka.own_broker else ()
    topics = Part(
        name="topics",
        command=(_neardup(), "topics", "create", *update),
        after=("broker",) if settings.kafka.own_broker else (),
        stop_wave=_STOP_JOB,
        once=True,
    )
    signals = [part for name, signal in settings.signals.items() for part in signal_parts(settings, name, signal)]
    return (*flink_parts(settings), topics, *signals)


def flink_parts(settings: Settings) -> tuple[Part, ...]:
    """The parts that are not our code: job manager, task manager, and the broker unless others run it."""
    flink = settings.flink
    environment, checks = flink_environment(settings), part_checks(settings)
    prepare_home = partial(prepare_flink, settings)
    return (
        *([_broker_part(settings, checks)] if settings.kafka.own_broker else []),
        Part(
            name="jobmanager",
            command=flink_command(settings, "jobmanager"),
            stop_wave=_STOP_FLINK,
            ready=checks["jobmanager"],
            environment=environment,
            prepare=prepare_home,
            listeners=(
                Listener("flink.rest_port", flink.bind_host, flink.rest_port),
                Listener("flink.rpc_port", flink.bind_host, flink.rpc_port),
                Listener("flink.jobmanager_metrics_port", flink.bind_host, flink.jobmanager_metrics_port),
            ),
        ),
        Part(
            name="taskmanager",
            command=flink_command(settings, "taskmanager"),
            stop_wave=_STOP_FLINK,
            ready=checks["taskmanager"],
            environment=environment,
            prepare=prepare_home,
            listeners=(Listener("flink.taskmanager_metrics_port", flink.bind_host, flink.taskmanager_metrics_port),),
        ),
    )


def _broker_part(settings: Settings, checks: Mapping[str, Check]) -> Part:
    kafka = settings.kafka
    return Part(
        name="broker",
        command=broker_command(settings),
        stop_wave=_STOP_BROKER,
        ready=checks["broker"],
        prepare=partial(prepare_broker, settings),
        listeners=(
            Listener("kafka.port", kafka.bind_host, kafka.port),
            Listener("kafka.controller_port", "127.0.0.1", kafka.controller_port),
        ),
        stop_wait_s=30.0,
    )


def signal_parts(settings: Settings, name: str, signal: Signal) -> tuple[Part, ...]:
    """The parts of one signal: search, scorer and storage server, and what keeps its job running."""
    checks = part_checks(settings)
    api = Listener(f"signals.{name}.api.port", signal.api.bind_host, signal.api.port)
    servers = [
        _server_part(name, "search", signal.search, checks),
        _server_part(name, "scorer", signal.scorer, checks),
        _server_part(name, "storage", signal.storage, checks, api),
    ]
    job = Part(
        name=f"{name}-job",
        command=(_neardup(), "job", "run", "--signal", name),
        after=("topics", "jobmanager", "taskmanager", *(server.name for server in servers)),
        stop_wave=_STOP_JOB,
        ready=checks[f"{name}-job"],
        environment=flink_environment(settings),
        listeners=(Listener(f"signals.{name}.job_metrics_port", signal.job_bind_host, signal.job_metrics_port),),
        ready_timeout_s=180.0,
        stop_wait_s=60.0,
    )
    return (*servers, job)


def _server_part(
    signal: str, role: str, server: ServerSettings, checks: Mapping[str, Check], *others: Listener
) -> Part:
    setting = f"signals.{signal}.{role}"
    return Part(
        name=f"{signal}-{role}",
        command=(_neardup(), "serve", role, "--signal", signal),
        stop_wave=_STOP_SERVERS,
        ready=checks[f"{signal}-{role}"],
        listeners=(
            Listener(f"{setting}.port", server.bind_host, server.port),
            Listener(f"{setting}.metrics_port", server.bind_host, server.metrics_port),
            *others,
        ),
    )


def _neardup() -> str:
    """The command line of the environment that this runs in."""
    return str(Path(sys.executable).parent / "neardup")
