"""A Flink home below the data folder: links to jars, configuration, folders. The installed wheel is not changed.

    flink/lib          links: the wheel's jars, flink-python, the Kafka connector, zstd, our own. The system class
                       loader loads them.
                       So a second job, or a restart after all slots were released, finds the Python bridge loaded.
    flink/plugins      links: the Prometheus reporter, and the S3 file system if manifests lie in S3
    flink/classes      our own Java classes and their jar (`stream.local.java_classes`)
    flink/conf         config.yaml and the log4j files, rendered from settings at every start; the argument files,
                       rendered when what they are made from has changed
    flink/pid flink/log
    flink/tmp/ROLE     working files of each process, such as the state of the join; emptied when the process starts
    flink/checkpoints flink/savepoints   of jobs without folders of their own

`stream.local.flink_launch` starts the two processes. The client that submits jobs finds this home by environment
variables.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from stream.data_folders import require_plain_path
from stream.flink_tls import flink_tls
from stream.local.errors import MissingPieceError
from stream.local.files import link_tree, write_if_new
from stream.local.flink_launch import ROLES, Role, argument_file, write_argument_files
from stream.local.java import compiler_options, crash_options, jar_folder, java_executable
from stream.local.java_classes import JAR, build_jar
from stream.local.metrics_host import provider_options
from stream.local.s3_plugin import s3_options, s3_plugin
from stream.log_lines import log4j_pattern
from stream.settings import Settings

__all__ = [
    "flink_command",
    "flink_config",
    "flink_distribution",
    "flink_environment",
    "prepare_flink",
]

_START = 'exec 9>>"$0.lock" && flock -n 9 && find "$0" -mindepth 1 -delete; exec "$@"'
"""Empties the working folder, then becomes the process, which holds the lock while it lives.

A killed process leaves its working files there, tens of MB at each start. While another one lives, which was left over
or started by hand, nothing is removed.
"""

_ROLE_OPTIONS: Mapping[Role, tuple[str, ...]] = {
    # It has little to do, and what it does is too varied for the optimising compiler and a concurrent collector to pay.
    "jobmanager": (*compiler_options("quick"), "-XX:+UseSerialGC"),
    "taskmanager": (),
}

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}

_LOG4J = """\
rootLogger.level = LEVEL
rootLogger.appenderRef.out.ref = out
appender.out.name = out
appender.out.type = CONSOLE
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = PATTERN
logger.kafka.name = org.apache.kafka
logger.kafka.level = WARN
logger.pekko.name = org.apache.pekko
logger.pekko.level = WARN
logger.netty.name = org.jboss.netty.channel.DefaultChannelPipeline
logger.netty.level = OFF
"""


def flink_command(settings: Settings, role: Role) -> tuple[str, ...]:
    """The command that runs one of the two processes in the foreground, in `flink_environment`, from a prepared home.

    Raises:
        MissingPieceError: Java is missing.
    """
    java = (java_executable(), f"@{argument_file(settings.data_dir / 'flink' / 'conf', role)}")
    return ("/bin/bash", "-c", _START, str(_working_folder(settings, role)), *java)


def flink_environment(settings: Settings) -> dict[str, str]:
    """Environment variables for the cluster's two processes and for the client that submits a job.

    Raises:
        MissingPieceError: PyFlink is not installed.
    """
    wheel = flink_distribution()
    folder = settings.data_dir / "flink"
    return {
        "FLINK_HOME": str(wheel),
        "FLINK_CONF_DIR": str(folder / "conf"),
        "FLINK_LIB_DIR": str(folder / "lib"),
        "FLINK_OPT_DIR": str(wheel / "opt"),
        "FLINK_PLUGINS_DIR": str(folder / "plugins"),
        "FLINK_LOG_DIR": str(folder / "log"),
        "FLINK_PID_DIR": str(folder / "pid"),
        # Of the client, which lives for seconds.
        "JVM_ARGS": " ".join(compiler_options("quick")),
        # Python in the JVM finds the environment's packages by the first `python` on the path.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


def _working_folder(settings: Settings, role: Role) -> Path:
    return settings.data_dir / "flink" / "tmp" / role


def _snapshot_folders(settings: Settings) -> tuple[Path, Path]:
    """The snapshot folders of jobs without folders of their own."""
    root = settings.data_dir / "flink"
    return root / "checkpoints", root / "savepoints"


def flink_config(settings: Settings, java_options: str) -> dict[str, str | int | float | bool]:
    """Flink's options, by their full names.

    Args:
        settings: Where they come from.
        java_options: Of every process. They include the distribution's `--add-opens`, which Java 17 needs.
    """
    flink = settings.flink
    root = settings.data_dir / "flink"
    checkpoints, savepoints = _snapshot_folders(settings)
    config: dict[str, str | int | float | bool] = {
        "env.java.opts.all": java_options,
        "env.log.dir": str(root / "log"),
        "env.pid.dir": str(root / "pid"),
        "io.tmp.dirs": str(root / "tmp"),
        # Where things listen
        "jobmanager.rpc.address": flink.host,
        "jobmanager.rpc.port": flink.rpc_port,
        "jobmanager.bind-host": flink.bind_host,
        "rest.address": flink.host,
        "rest.port": flink.rest_port,
        "rest.bind-address": flink.bind_host,
        "taskmanager.bind-host": flink.bind_host,
        # Jobs come from the job runner, never through the web page.
        "web.submit.enable": False,
        # Marks of what was read belong to the checkpoint that the job manager names: the answer must be of now.
        "rest.cache.checkpoint-statistics.timeout": "1 ms",
        # Sizes
        "jobmanager.memory.process.size": f"{flink.jobmanager_memory_mb}m",
        "taskmanager.memory.process.size": f"{flink.taskmanager_memory_mb}m",
        "taskmanager.numberOfTaskSlots": flink.slots,
        "parallelism.default": flink.parallelism,
        # A restarted job manager knows no job. The old tasks hold their slots until this timeout.
        "heartbeat.interval": f"{int(flink.heartbeat_interval_s * 1000)} ms",
        "heartbeat.timeout": f"{int(flink.heartbeat_timeout_s * 1000)} ms",
        "cluster.registration.error-delay": "1 s",
        "cluster.registration.max-timeout": "5 s",
        # Restarts: without limit, soon
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "500 ms",
        "restart-strategy.exponential-delay.max-backoff": "10 s",
        "restart-strategy.exponential-delay.backoff-multiplier": 1.5,
        "restart-strategy.exponential-delay.reset-backoff-threshold": "60 s",
        # State
        "state.backend.type": "rocksdb",
        # Each micro-batch and each waiting half sets and deletes a timer. In RocksDB that is several writes.
        "state.backend.rocksdb.timer-service.factory": "HEAP",
        "execution.checkpointing.incremental": True,
        "execution.checkpointing.interval": f"{int(flink.checkpoint_interval_s * 1000)} ms",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.timeout": "10 min",
        # A full disk must not restart the job again and again. The alert on the checkpoint's age reports it.
        "execution.checkpointing.tolerable-failed-checkpoints": 1_000_000,
        "execution.checkpointing.num-retained": 3,
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.storage": "filesystem",
        "execution.checkpointing.dir": checkpoints.as_uri(),
        "execution.checkpointing.savepoint-dir": savepoints.as_uri(),
        # Python in the task manager's JVM; two Python operators in one chain would deadlock
        "python.execution-mode": "thread",
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "pipeline.operator-chaining.enabled": False,
        "execution.buffer-timeout.interval": f"{flink.buffer_timeout_ms} ms",
        "table.exec.uid.generation": "ALWAYS",
        # Metrics; the port comes with the command
        "metrics.reporter.prom.factory.class": "org.apache.flink.metrics.prometheus.PrometheusReporterFactory",
        # Else histogram bounds such as le="0.25" become 0_25.
        "metrics.reporter.prom.filterLabelValueCharacters": False,
    }
    config.update(s3_options(settings, os.environ))
    if flink.host in _LOOPBACK:
        # Else a task manager finds its own address, as it may run on another host.
        config["taskmanager.host"] = flink.host
    return config


def prepare_flink(settings: Settings) -> None:
    """Renders the home below the data folder. It may be repeated.

    Raises:
        MissingPieceError: PyFlink's distribution, the connector or Java is missing.
        SettingsError: There is no certificate, or a part would read the path of the data folder differently.
        DeploymentError: Flink refuses the sizes.
    """
    require_plain_path(settings)
    flink = settings.flink
    wheel = flink_distribution()
    folder = settings.data_dir / "flink"
    libraries = _libraries(wheel)
    libraries[JAR] = build_jar(folder / "classes", libraries.values())
    link_tree(folder / "lib", libraries)
    link_tree(folder / "plugins", _plugins(wheel, settings))
    for name in ("conf", "log", "pid", "checkpoints", "savepoints"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for role in ROLES:
        _working_folder(settings, role).mkdir(parents=True, exist_ok=True)
    options = [
        *_java_options(wheel / "conf" / "config.yaml").split(),
        "-XX:+ExitOnOutOfMemoryError",
        *compiler_options(settings.java_compiler),
    ]
    config = {**flink_config(settings, " ".join(options)), **flink_tls(settings).options()}
    conf = folder / "conf"
    text = "".join(f"{key}: {_scalar(value)}\n" for key, value in config.items())
    # It holds the password of the key.
    write_if_new(conf / "config.yaml", text, mode=0o600)
    logs = _LOG4J.replace("PATTERN", log4j_pattern())
    write_if_new(conf / "log4j-console.properties", logs.replace("LEVEL", "INFO"))
    write_if_new(conf / "log4j-cli.properties", logs.replace("LEVEL", "WARN"))
    ports: dict[Role, int] = {
        "jobmanager": flink.jobmanager_metrics_port,
        "taskmanager": flink.taskmanager_metrics_port,
    }
    # These differ by process, and both read the same configuration file.
    own: dict[Role, list[str]] = {
        role: [f"io.tmp.dirs={_working_folder(settings, role)}", f"metrics.reporter.prom.port={port}"]
        for role, port in ports.items()
    }
    page = provider_options(flink.bind_host)
    java_options = {
        role: [*options, *_ROLE_OPTIONS[role], *page, *crash_options(settings.data_dir / "log", role)] for role in ROLES
    }
    jars = [folder / "lib" / name for name in libraries]
    write_argument_files(conf, jars, wheel / "bin" / "bash-java-utils.jar", java_options, own)


def flink_distribution() -> Path:
    """Flink in the installed PyFlink, found without an import, which would take a second.

    Raises:
        MissingPieceError: PyFlink is not installed.
    """
    spec = importlib.util.find_spec("pyflink")
    if spec is None or spec.origin is None:
        raise MissingPieceError("PyFlink is not installed: run `make setup`")
    return Path(spec.origin).parent


def _libraries(wheel: Path) -> dict[str, Path]:
    own = [*(wheel / "lib").glob("*.jar"), *(wheel / "opt").glob("flink-python-*.jar")]
    # The connector does not carry zstd. A task that meets such a record without it fails for ever.
    fetched = [*jar_folder("flink").glob("*.jar"), *jar_folder("kafka").glob("zstd-jni-*.jar")]
    names = {jar.name: jar for jar in (*own, *fetched)}
    for needed in ("flink-dist-", "flink-python-", "flink-sql-connector-kafka-", "zstd-jni-"):
        if not any(name.startswith(needed) for name in names):
            raise MissingPieceError(f"there is no {needed}*.jar for Flink: run `make setup`")
    return names


def _plugins(wheel: Path, settings: Settings) -> dict[str, Path]:
    reporter = (wheel / "plugins" / "metrics-prometheus").glob("*.jar")
    return {f"{jar.parent.name}/{jar.name}": jar for jar in (*reporter, *s3_plugin(settings))}


def _java_options(config: Path) -> str:
    """The `--add-opens` list of the distribution's own configuration."""
    found = re.search(r"^\s+all:\s*(--add-.*)$", config.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if found is None:
        raise MissingPieceError(f"{config} does not carry the Java module openings (env.java.opts.all) any more")
    return found.group(1).strip()


def _scalar(value: str | int | float | bool) -> str:
    """A value as YAML; JSON's scalars are YAML's."""
    return json.dumps(value)
