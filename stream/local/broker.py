"""A single-node Kafka broker in KRaft mode: its folder, its two configuration files and its command.

Layout below the data folder:

    kafka/server.properties   rendered at every start
    kafka/log4j2.properties   the same; logs go to standard output, and the supervisor rotates them
    kafka/cluster-id          created once; the log folder is formatted with it
    kafka/log                 the log; formatted once
"""

from __future__ import annotations

import base64
import re
import subprocess
import uuid
from pathlib import Path

from stream.data_folders import require_plain_path
from stream.local.errors import DeploymentError
from stream.local.files import write_if_new
from stream.local.java import compiler_options, crash_options, jar_folder, java_executable
from stream.log_lines import java_part_option, log4j_pattern
from stream.settings import JavaCompiler, Settings

__all__ = ["broker_command", "prepare_broker", "server_properties"]

_FORMAT_TIMEOUT_S = 120.0

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}")

_LOG4J = """\
status = error
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = PATTERN
logger.server.name = kafka.server
logger.server.level = info
logger.config.name = org.apache.kafka.common.config
logger.config.level = error
"""


def server_properties(settings: Settings, log: Path) -> str:
    """The broker's configuration.

    Args:
        settings: Carries host, ports and message size.
        log: The folder of the log.
    """
    kafka = settings.kafka
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{kafka.controller_port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listeners": f"PLAINTEXT://{kafka.bind_host}:{kafka.port},CONTROLLER://127.0.0.1:{kafka.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{kafka.host}:{kafka.port},CONTROLLER://127.0.0.1:{kafka.controller_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(log),
        # A topic that does not exist is a mistyped name. Created silently, it would hide lost records.
        "auto.create.topics.enable": "false",
        "num.partitions": "1",
        "message.max.bytes": str(kafka.max_message_bytes),
        "replica.fetch.max.bytes": str(kafka.max_message_bytes),
        # Without it, `flush.ms` of a topic has no effect.
        "log.flush.scheduler.interval.ms": str(kafka.flush_ms),
        # One node holds one replica.
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # The default is 50. Each costs files and start-up time, and there are few consumers.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        # Committed offsets survive a long stop of the job.
        "offsets.retention.minutes": str(60 * 24 * 365),
        "num.network.threads": "2",
        "num.io.threads": "4",
    }
    return "".join(f"{key}={value}\n" for key, value in values.items())


def broker_command(settings: Settings) -> tuple[str, ...]:
    """The command that runs the prepared broker in the foreground.

    Raises:
        MissingPieceError: Java or the jars are missing.
    """
    folder = settings.data_dir / "kafka"
    return (*_java(folder, settings.java_compiler), "kafka.Kafka", str(folder / "server.properties"))


def prepare_broker(settings: Settings) -> None:
    """Renders the broker's configuration, and formats its log folder the first time.

    Raises:
        MissingPieceError: Java or the jars are missing.
        SettingsError: A part would read the path of the data folder differently.
        DeploymentError: The log folder could not be formatted.
    """
    require_plain_path(settings)
    folder = settings.data_dir / "kafka"
    log = folder / "log"
    properties = folder / "server.properties"
    write_if_new(properties, server_properties(settings, log))
    write_if_new(folder / "log4j2.properties", _LOG4J.replace("PATTERN", log4j_pattern()))
    if not (log / "meta.properties").is_file():
        _format(_java(folder, settings.java_compiler), properties, _cluster_id(folder / "cluster-id"))


def _java(folder: Path, compiler: JavaCompiler) -> tuple[str, ...]:
    return (
        java_executable(),
        "-Xms256m",
        "-Xmx512m",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        "-XX:+ExitOnOutOfMemoryError",
        *compiler_options(compiler),
        *crash_options(folder.parent / "log", "broker"),
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        java_part_option("broker"),
        "-cp",
        f"{jar_folder('kafka')}/*",
    )


def _cluster_id(file: Path) -> str:
    """The cluster id: read, or created and kept.

    Only a log that is not formatted asks for it, so nothing depends on it yet. A power cut may have left a file without
    an id.
    """
    known = file.read_bytes().decode("ascii", errors="replace").strip() if file.is_file() else ""
    if not _ID.fullmatch(known):
        known = _new_id()
        write_if_new(file, known + "\n")
    return known


def _new_id() -> str:
    """A random id in Kafka's form. One that begins with a dash would be read as an option."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass
    return made


def _format(java: tuple[str, ...], properties: Path, cluster_id: str) -> None:
    command = (*java, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id, "-c", str(properties))
    try:
        # `--ignore-formatted`: an interrupted format can be repeated.
        done = subprocess.run(
            (*command, "--ignore-formatted"), capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DeploymentError(f"formatting the broker's log took over {_FORMAT_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        raise DeploymentError(f"the broker's log cannot be formatted:\n{(done.stdout + done.stderr).strip()}")
