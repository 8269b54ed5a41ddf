"""All settings of a deployment: read once from one TOML file and the environment, checked, then frozen.

Order of precedence: environment (`NEARDUP_KAFKA__BOOTSTRAP=...`, nested names joined by `__`), then the file named by
`NEARDUP_SETTINGS` (else `neardup.toml` in the working folder, if it exists), then the defaults below. Unknown keys
are refused. Relative paths are relative to the folder of the settings file (the working folder without one).

A *signal* is settings alone: two embeddings with their dimensions, term and code settings, model, stores, topics and
addresses. One job, one index, one scorer and one store serve one signal.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from core.aliases import NAME
from core.errors import SettingsError
from core.notifications import EmbeddingSpec
from core.trace_policy import TracePolicy
from operators.batcher import BatchPolicy
from search.ranking import DEFAULT_RANKING, MAX_DEPTH, Order, Ranking
from search.serving.admission import AdmissionPolicy
from search.tuning.drift import ChosenDensity
from stream.access_settings import AccessSettings, TlsSettings
from stream.kafka_access import KafkaAccess, KafkaSecurity
from stream.kafka_settings import KafkaSettings
from stream.renamed_settings import renamed
from stream.setting_types import MIN_PARTITION_BYTES, Milliseconds, Port, Seconds, Section

__all__ = [
    "ApiSettings",
    "BatchingSettings",
    "CodeBits",
    "FlinkSettings",
    "JoinSettings",
    "SearchSettings",
    "ServerSettings",
    "Settings",
    "Signal",
    "StorageSettings",
    "TermIndexSettings",
    "Terms",
    "Topics",
    "TraceSettings",
    "default_topic_prefix",
    "load_settings",
]

SETTINGS_FILE_VARIABLE = "NEARDUP_SETTINGS"
"""The environment variable that names the settings file."""

DEFAULT_SETTINGS_FILE = "neardup.toml"
"""The settings file that is read when the variable is not set."""

Name = Annotated[str, Field(pattern=NAME)]


def _with_its_key(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Makes a part's SettingsError an error of pydantic, so that the message names the key."""
    try:
        return handler(value)
    except SettingsError as error:
        raise ValueError(str(error)) from error


_Policy = TypeVar("_Policy")
Part = Annotated[_Policy, WrapValidator(_with_its_key)]
"""A settings section that is the dataclass of the part itself."""


JavaCompiler = Literal["full", "quick"]
"""Whether Java's optimising compiler is used."""


class FlinkSettings(Section):
    """The Flink cluster."""

    host: str = "127.0.0.1"
    """Where the job manager answers (REST and RPC)."""
    bind_host: str = "127.0.0.1"
    rest_port: Port = 18081
    rpc_port: Port = 16123
    jobmanager_metrics_port: Port = 19249
    taskmanager_metrics_port: Port = 19250
    slots: Annotated[int, Field(ge=1, le=64)] = 8
    parallelism: Annotated[int, Field(ge=1, le=64)] = 1
    """Of decoding and joining. The sequence search, score, assign always has parallelism 1."""
    checkpoint_interval_s: Seconds = 10.0
    buffer_timeout_ms: Milliseconds = 5
    """The longest that a record waits for others between two operators, and before decoding."""
    heartbeat_interval_s: Seconds = 2.0
    heartbeat_timeout_s: Seconds = 10.0
    """After this time a silent process counts as dead. A restarted job manager gets its slots back only then."""
    jobmanager_memory_mb: Annotated[int, Field(ge=512)] = 1024
    taskmanager_memory_mb: Annotated[int, Field(ge=1024)] = 2560

    @model_validator(mode="after")
    def _several_heartbeats_before_timeout(self) -> FlinkSettings:
        if self.heartbeat_timeout_s < 2 * self.heartbeat_interval_s:
            raise ValueError(
                f"heartbeat_timeout_s ({self.heartbeat_timeout_s}) must be at least twice heartbeat_interval_s"
                f" ({self.heartbeat_interval_s})"
            )
        return self


class JoinSettings(Section):
    """How long a half waits for the other half of its image."""

    timeout_s: Seconds = 3600.0
    alert_after_s: Seconds = 60.0
    idle_partition_s: Seconds = 60.0
    out_of_orderness_s: Annotated[float, Field(ge=0)] = 5.0

    @model_validator(mode="after")
    def _alert_before_timeout(self) -> JoinSettings:
        if self.alert_after_s > self.timeout_s:
            raise ValueError(f"alert_after_s ({self.alert_after_s}) must not exceed timeout_s ({self.timeout_s})")
        return self


@dataclass(frozen=True, slots=True)
class BatchingSettings(BatchPolicy):
    """The micro-batches of search, score and assign."""

    deadline_ms: int = 5_000
    """Of one call to a server."""

    def __post_init__(self) -> None:
        """Checks the policy too."""
        BatchPolicy.__post_init__(self)
        if self.deadline_ms < 1:
            raise SettingsError(f"deadline_ms must be at least 1, is {self.deadline_ms}")


@dataclass(frozen=True, slots=True)
class TraceSettings(TracePolicy):
    """Which images are traced, and how much of that the topic `debug` keeps."""

    topic_max_bytes: int = 1_073_741_824
    """The size of the topic; 0: no limit. The oldest traces go first."""

    def __post_init__(self) -> None:
        """Checks the policy too."""
        TracePolicy.__post_init__(self)
        if self.topic_max_bytes and self.topic_max_bytes < MIN_PARTITION_BYTES:
            raise SettingsError(
                f"topic_max_bytes must be 0 or at least {MIN_PARTITION_BYTES}, is {self.topic_max_bytes}"
            )


class Terms(Section):
    """How a search embedding becomes terms, and which candidates an image gets."""

    seed: int = 20_240_501
    signed_sqrt: bool = True
    """Whether signed square roots of the elements are hashed instead of the elements."""
    bits: Annotated[int, Field(ge=8, le=16_384)] = 1024
    """Length of the hamming code that the groups draw from."""
    groups: Annotated[int, Field(ge=1, le=1024)] = 128
    bits_per_group: Annotated[int, Field(ge=1, le=24)] = 12
    min_overlap: Annotated[int, Field(ge=1)] = 1
    """Images that share fewer terms are no candidates."""
    candidates: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = DEFAULT_RANKING.candidates
    """k: how many candidates a search returns at first; each further page has 100."""
    depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = DEFAULT_RANKING.depth
    """So many images that share the most terms are compared by the distance of their codes."""
    order: Order = DEFAULT_RANKING.order
    """Whether the nearest codes come first, or the most shared terms (then `depth` has no effect)."""

    @model_validator(mode="after")
    def _ranking_holds(self) -> Terms:
        """No limit of the search contradicts another."""
        if self.ranking.min_overlap > self.groups:
            raise SettingsError(f"min_overlap must lie in 1 to the {self.groups} groups, not {self.min_overlap}")
        return self

    @property
    def ranking(self) -> Ranking:
        """How candidates are chosen and ordered.

        Raises:
            SettingsError: A limit contradicts another.
        """
        return Ranking(self.candidates, self.depth, self.order, self.min_overlap)


class CodeBits(Section):
    """How a score embedding becomes the code that the classifier compares."""

    seed: int = 20_240_502
    bits: Annotated[int, Field(ge=8, le=16_384, multiple_of=8)] = 1024
    signs: bool = False
    """Whether the bits are the signs of the projection's values, one of each, instead of sides of random hyperplanes
    drawn with `seed`."""
    projection: Annotated[Path | None, BeforeValidator(lambda path: path or None)] = None
    """An .npz with a fitted projection, whose values follow the bits in each code; "" or none: codes are bits alone."""


class TermIndexSettings(Section):
    """How the term index writes, searches and merges."""

    sync: bool = True
    """Whether each batch waits for the disk. Without it a crash of the machine may lose batches."""
    max_postings: Annotated[int, Field(ge=1024)] = 1_000_000
    """The limit of one search: each posting list counts only its oldest `max_postings / groups` images. Part of the
    index version in verdicts."""
    background_mb_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 16.0
    """MB of segments that sealing and merging may write per second; 0 sets no limit."""
    load_rows_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The most rows of a manifest that a first load takes in a second; 0: as many as it can."""


class ServerSettings(Section):
    """One gRPC server and its metrics page."""

    host: str = "127.0.0.1"
    """The host that clients use."""
    bind_host: str = "127.0.0.1"
    """The address that it listens on. The default is loopback alone."""
    port: Port
    metrics_port: Port
    max_message_bytes: Annotated[int, Field(ge=65_536)] = 33_554_432

    @property
    def address(self) -> str:
        """Host and port, for a client."""
        return f"{self.host}:{self.port}"


class SearchSettings(ServerSettings):
    """The term search server."""

    admission: Part[AdmissionPolicy] = AdmissionPolicy()


class StorageSettings(ServerSettings):
    """The storage server."""

    history_days: Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)] = 0.0
    """How long every change of a head is kept; 0: for ever. Then heads and members as they were are not known."""
    load_rows_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The most rows of a manifest that a first load or a delta writes in a second; 0: as many as it can."""


class ApiSettings(Section):
    """The HTTP API, a part of the storage server."""

    host: str = "127.0.0.1"
    bind_host: str = "127.0.0.1"
    port: Port = 18080
    public_url: Annotated[str, Field(pattern=r"^(https?://[^\s?#]*[^\s?#/])?$")] = ""
    """Where readers from elsewhere reach it, which is where aliases send them; "": host and port."""
    max_page: Annotated[int, Field(ge=1, le=10_000)] = 1000


_SERVER_PORTS: dict[str, Any] = {
    "search": {"port": 17001, "metrics_port": 17101},
    "scorer": {"port": 17002, "metrics_port": 17102},
    "storage": {"port": 17003, "metrics_port": 17103},
}
"""The default ports of a signal's servers. A second signal must name others."""


def _path_or_bucket(value: str) -> str:
    if "://" in value and not re.match(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/|$)", value):
        raise ValueError(f"{value!r} is neither a path nor s3://BUCKET/PREFIX")
    return value


ManifestFolder = Annotated[str, AfterValidator(_path_or_bucket)]
"""A path, `s3://BUCKET/PREFIX`, or "": none."""


class Topics(Section):
    """The names of a signal's topics, after its prefix."""

    search: str = "embeddings.search"
    score: str = "embeddings.score"
    joined: str = "joined"
    replay: str = "replay"
    assignments: str = "assignments"
    dead_letter: str = "dead-letter"
    debug: str = "debug"


class Signal(Section):
    """One kind of thing to be de-duplicated. A signal is settings, not code."""

    search_embedding: Part[EmbeddingSpec]
    score_embedding: Part[EmbeddingSpec]
    centres: Path | None = None
    """An .npz with float32 arrays `search` and `score`, subtracted before hashing. None: nothing is subtracted."""
    store_class: str = "rocksdb"
    """Which store: an entry point of the group `neardup.stores`, or `module:Class`."""
    model: Path
    """The folder of the model versions: one folder each, and the file `served`, which names the one in use."""
    model_class: str = "tensorflow"
    """Loads and runs the model: the name of an entry point of `neardup.models`, or `package.module:Class`."""
    manifests: ManifestFolder = ""
    """A folder, or s3://BUCKET/PREFIX, whose manifests are loaded as they appear; "": none."""
    topic_prefix: str = ""
    """The prefix of each topic's name. Default: `neardup.NAME.`."""
    topics: Topics = Topics()
    traces: Part[TraceSettings] = TraceSettings()
    terms: Part[Terms] = Terms()
    density: Part[ChosenDensity] = ChosenDensity()
    code: CodeBits = CodeBits()
    index: TermIndexSettings = TermIndexSettings()
    search: SearchSettings = SearchSettings(**_SERVER_PORTS["search"])
    scorer: ServerSettings = ServerSettings(**_SERVER_PORTS["scorer"])
    storage: StorageSettings = StorageSettings(**_SERVER_PORTS["storage"])
    api: ApiSettings = ApiSettings()
    job_host: str = "127.0.0.1"
    """Where the job runner's page is reached."""
    job_bind_host: str = "127.0.0.1"
    """Where that page listens; anything but loopback must be asked for."""
    job_metrics_port: Port = 17104
    """Where the job runner shows consumer lag and restarts."""

    @model_validator(mode="before")
    @classmethod
    def _ports_may_be_left_out(cls, values: Any) -> Any:
        """A server section without ports gets the default ports."""
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        for part, ports in _SERVER_PORTS.items():
            if isinstance(values.get(part), dict):
                filled[part] = {**ports, **values[part]}
        return filled

    def topic(self, name: Literal["search", "score", "joined", "replay", "assignments", "dead_letter", "debug"]) -> str:
        """The full name of one of the signal's topics."""
        return self.topic_prefix + str(getattr(self.topics, name))


def default_topic_prefix(signal_name: str) -> str:
    """The prefix of a signal's topics unless the settings name another."""
    return f"neardup.{signal_name}."


_PHOTOS: dict[str, Any] = {
    "search_embedding": {"name": "mobilenet_v2_1.0_224", "model_version": "1", "dimension": 1280},
    "score_embedding": {"name": "mobilenet_v1_0.75_192", "model_version": "1", "dimension": 768},
    "centres": "examples/photos/centres.npz",
    "model": "examples/photos/model",
    "code": {"projection": "examples/photos/projection.npz", "bits": 512, "signs": True},
}
"""The signal of settings without signals: the sample's embeddings."""


class Settings(BaseSettings):
    """All settings of a deployment."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="NEARDUP_",
        env_nested_delimiter="__",
        # An error must not show a password.
        hide_input_in_errors=True,
    )

    data: Path = Path("var")
    """The folder of everything that the running parts write."""
    default_signal: Name = "photos"
    java_compiler: JavaCompiler = "full"
    """How much the Java parts compile: `full` for a service, `quick` for processes that run for minutes only."""
    kafka: KafkaSettings = KafkaSettings()
    flink: FlinkSettings = FlinkSettings()
    join: JoinSettings = JoinSettings()
    batching: Part[BatchingSettings] = BatchingSettings()
    signals: dict[Name, Signal]
    api_token: Annotated[str, Field(repr=False)] = ""
    """The key for what people write. Empty: the one in the file that `access` names."""
    access: AccessSettings = AccessSettings()
    tls: Part[TlsSettings] = TlsSettings()
    base: Path = Field(default_factory=Path.cwd, exclude=True)
    """Relative paths start here."""

    @model_validator(mode="before")
    @classmethod
    def _topics_are_the_signals_own(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The default prefix has the signal's name, so no two signals share topics."""
        signals = values.get("signals")
        if not isinstance(signals, dict):
            return values
        filled = {
            name: {"topic_prefix": default_topic_prefix(name), **signal} if isinstance(signal, dict) else signal
            for name, signal in signals.items()
        }
        return {**values, "signals": filled}

    @model_validator(mode="after")
    def _default_signal_is_there(self) -> Settings:
        if self.default_signal not in self.signals:
            raise ValueError(f"default_signal is {self.default_signal!r}, the signals are {sorted(self.signals)}")
        return self

    @model_validator(mode="after")
    def _aliases_have_a_topic_of_their_own(self) -> Settings:
        """It is compacted, which would destroy the records of any other."""
        for name, signal in self.signals.items():
            for part in Topics.model_fields:
                if f"{signal.topic_prefix}{getattr(signal.topics, part)}" == self.kafka.aliases_topic:
                    raise ValueError(f"kafka.aliases_topic is {self.kafka.aliases_topic}, as a topic of {name} is")
        return self

    @model_validator(mode="after")
    def _ports_are_distinct(self) -> Settings:
        seen: dict[tuple[str, int], str] = {}
        for name, host, port in self._listeners():
            other = seen.setdefault((host, port), name)
            if other != name:
                raise ValueError(f"{name} and {other} both listen on {host}:{port}")
        return self

    def _listeners(self) -> list[tuple[str, str, int]]:
        flink, kafka = self.flink, self.kafka
        own = ("port", "controller_port") if kafka.own_broker else ()
        listeners = [
            *((f"kafka.{port}", kafka.host, int(getattr(kafka, port))) for port in own),
            ("flink.rest_port", flink.host, flink.rest_port),
            ("flink.rpc_port", flink.host, flink.rpc_port),
            ("flink.jobmanager_metrics_port", flink.host, flink.jobmanager_metrics_port),
            ("flink.taskmanager_metrics_port", flink.host, flink.taskmanager_metrics_port),
        ]
        for name, signal in self.signals.items():
            for part in ("search", "scorer", "storage"):
                server: ServerSettings = getattr(signal, part)
                listeners.append((f"signals.{name}.{part}.port", server.host, server.port))
                listeners.append((f"signals.{name}.{part}.metrics_port", server.host, server.metrics_port))
            listeners.append((f"signals.{name}.api.port", signal.api.host, signal.api.port))
            listeners.append((f"signals.{name}.job_metrics_port", signal.job_host, signal.job_metrics_port))
        return listeners

    def signal(self, name: str | None = None) -> tuple[str, Signal]:
        """A signal by name (the default one without), with its name.

        Raises:
            SettingsError: There is no such signal.
        """
        chosen = name or self.default_signal
        if chosen not in self.signals:
            raise SettingsError(f"there is no signal {chosen!r}; the settings know {', '.join(sorted(self.signals))}")
        return chosen, self.signals[chosen]

    def path(self, path: Path) -> Path:
        """An absolute path for one that may be relative to the settings file."""
        return path if path.is_absolute() else (self.base / path).absolute()

    def manifests(self, signal: Signal) -> str:
        """Where manifests of a signal are watched, an absolute path or a URI; "": nowhere."""
        folder = signal.manifests
        return folder if not folder or "://" in folder else str(self.path(Path(folder)))

    @cached_property
    def data_dir(self) -> Path:
        """The absolute data folder."""
        return self.path(self.data)

    def kafka_access(self, client_id: str) -> KafkaAccess:
        """How a client reaches Kafka, under the name that it gives itself."""
        return KafkaAccess(self.kafka.servers, client_id, self.kafka_security)

    @property
    def kafka_security(self) -> KafkaSecurity:
        """TLS and SASL of Kafka clients, with absolute paths.

        Raises:
            SettingsError: A file cannot be read. A client would take that for a broker that is down.
        """
        client = self.kafka.client

        def absolute(key: str, file: str) -> str:
            path = self.path(Path(file))
            if file and not os.access(path, os.R_OK):
                raise SettingsError(f"kafka.client.{key}: the file {path} cannot be read")
            return str(path) if file else ""

        return replace(
            client,
            ca_file=absolute("ca_file", client.ca_file),
            client_pem=absolute("client_pem", client.client_pem),
        )

    def signal_dir(self, name: str, part: Literal["index", "store", "job"]) -> Path:
        """Where a part of a signal keeps its data."""
        return self.data_dir / "signals" / name / part

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, whose content comes in as init values."""
        return env_settings, init_settings


def load_settings(file: Path | None = None) -> Settings:
    """Reads, checks and freezes the settings.

    Args:
        file: The settings file; without it `NEARDUP_SETTINGS`, then `neardup.toml` if it exists.

    Raises:
        SettingsError: The file cannot be read, a key is unknown, or values do not hold together.
    """
    path = file or _named_file()
    values: dict[str, Any] = {}
    base = Path.cwd()
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"the settings file {path} is not valid TOML: {error}") from error
        base = path.absolute().parent
    try:
        return Settings(**{"base": base, "signals": {"photos": _PHOTOS}, **values})
    except ValidationError as error:
        raise SettingsError(_explain(error, path)) from error


def _named_file() -> Path | None:
    named = os.environ.get(SETTINGS_FILE_VARIABLE)
    if named:
        return Path(named)
    default = Path(DEFAULT_SETTINGS_FILE)
    return default if default.exists() else None


def _explain(error: ValidationError, path: Path | None) -> str:
    lines = [f"the settings ({path or 'defaults and environment'}) are not valid:"]
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "settings"
        lines.append(f"  {where}: {renamed(item['loc']) or item['msg']}")
    return "\n".join(lines)
