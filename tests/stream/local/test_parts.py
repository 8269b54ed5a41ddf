"""The list of parts holds together: names, order, ports."""

from __future__ import annotations

from graphlib import TopologicalSorter

from core.notifications import EmbeddingSpec
from stream.kafka_settings import KafkaSettings
from stream.local.parts import Part, deployment_parts, part_checks
from stream.local.readiness import KafkaReady
from stream.settings import (
    ApiSettings,
    SearchSettings,
    ServerSettings,
    Settings,
    Signal,
    StorageSettings,
)


def _with_text_signal(settings: Settings) -> Settings:
    text = Signal(
        search_embedding=EmbeddingSpec(name="text", model_version="1", dimension=64),
        score_embedding=EmbeddingSpec(name="text-score", model_version="1", dimension=32),
        model=settings.data_dir / "model",
        search=SearchSettings(port=17501, metrics_port=17601),
        scorer=ServerSettings(port=17502, metrics_port=17602),
        storage=StorageSettings(port=17503, metrics_port=17603),
        api=ApiSettings(port=17504),
        job_metrics_port=17604,
    )
    return settings.model_copy(update={"signals": {**settings.signals, "text": text}})


def _names(parts: tuple[Part, ...]) -> list[str]:
    return [part.name for part in parts]


def test_every_process_is_there_for_every_signal(settings: Settings) -> None:
    parts = deployment_parts(_with_text_signal(settings))
    shared = ["broker", "jobmanager", "taskmanager", "topics"]
    own = [f"{name}-{role}" for name in ("photos", "text") for role in ("search", "scorer", "storage", "job")]
    assert sorted(_names(parts)) == sorted(shared + own)


def test_a_broker_that_others_run_is_no_part(settings: Settings) -> None:
    kafka = KafkaSettings(bootstrap=("kafka-1.example:9092", "kafka-2.example:9092"))
    settings = settings.model_copy(update={"kafka": kafka})
    parts = {part.name: part for part in deployment_parts(settings)}
    assert "broker" not in parts
    assert parts["topics"].after == ()
    assert all("broker" not in part.after for part in parts.values())
    listeners = {item.setting: item.port for part in parts.values() for item in part.listeners}
    assert listeners == {name: port for name, _, port in settings._listeners()}
    # It is still asked whether it serves, as each client asks.
    check = part_checks(settings)["broker"]
    assert isinstance(check, KafkaReady)
    assert check.access.bootstrap == "kafka-1.example:9092,kafka-2.example:9092"


def test_each_part_can_start(settings: Settings) -> None:
    parts = deployment_parts(_with_text_signal(settings))
    graph = {part.name: part.after for part in parts}
    assert set().union(*graph.values()) <= graph.keys()
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("broker") < order.index("topics") < order.index("photos-job")


def test_the_job_stops_first_and_the_broker_last(settings: Settings) -> None:
    waves = {part.name: part.stop_wave for part in deployment_parts(settings)}
    assert waves["photos-job"] < waves["taskmanager"] == waves["jobmanager"] < waves["photos-storage"]
    assert waves["photos-search"] == waves["photos-scorer"] == waves["photos-storage"] < waves["broker"]


def test_every_port_is_bound_by_one_part_under_its_setting(settings: Settings) -> None:
    settings = _with_text_signal(settings)
    listeners = {item.setting: item.port for part in deployment_parts(settings) for item in part.listeners}
    assert listeners == {name: port for name, _, port in settings._listeners()}


def test_only_topics_end_by_themselves(settings: Settings) -> None:
    assert [part.name for part in deployment_parts(settings) if part.once] == ["topics"]
