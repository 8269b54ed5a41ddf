"""The description of formats names what the code writes and reads, and nothing that is gone."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from core.aliases import Alias, SignalPlace, encode_record
from core.dead_letters import BadRecord, Provenance, Reason, dead_letter
from core.types import Cause, ImageId, Versions
from manifests.manifest import Kind, Manifest, ManifestFile
from manifests.metadata import FileMetadata
from neardup.events_pb2 import EmbeddingNotification
from storage.api.app import create_app
from storage.memory import MemoryStore
from storage.records import HistoryEntry
from storage.serving.assignments import message_of
from storage.testing.decisions import EPOCH
from stream.kafka_settings import KafkaSettings
from stream.settings import Topics

ROOT = Path(__file__).parents[2]
FORMATS = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")


def first_cells(title: str) -> set[str]:
    """The names in the first column of the table under a heading."""
    section = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", FORMATS, re.MULTILINE | re.DOTALL)
    assert section is not None
    cells = re.findall(r"^\| (`[^|]*)\|", section.group(1), re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_assignments() -> None:
    entry = HistoryEntry(
        number=1,
        image_id=ImageId("a"),
        old_head=None,
        new_head=ImageId("a"),
        cause=Cause.FOUNDED,
        score=None,
        matched=None,
        place=0,
        offset=0,
        version=1,
        decided_at_ms=0,
        created_at_ms=0,
        arrived_at_ms=0,
        versions=Versions(),
    )
    assert first_cells("`assignments`") == set(json.loads(message_of(entry, EPOCH).value))
    assert all(f"`{cause.value}`" in FORMATS for cause in Cause)


def test_dead_letters() -> None:
    dead = dead_letter(BadRecord(Reason.UNPARSABLE, "x"), Provenance("t", 0, 0, 0), b"y")
    assert first_cells("`dead-letter`") == set(json.loads(dead))


def test_every_reason_has_its_advice() -> None:
    documented = set(re.findall(r"`(\w+)`", RUNBOOK))
    assert {reason.value for reason in Reason} - documented == set()


def test_notifications() -> None:
    assert first_cells("`EmbeddingNotification`") == set(EmbeddingNotification.DESCRIPTOR.fields_by_name)


def test_topics() -> None:
    signal = set(Topics().model_dump().values())
    assert first_cells("Kafka topics") - {"kafka.partitions"} == signal | {KafkaSettings().aliases_topic}


def test_aliases() -> None:
    record = json.loads(encode_record(Alias("photos", 0), SignalPlace("http://a")))
    assert first_cells("`neardup.aliases`") == set(record)


def test_every_column_of_parquet_is_named_as_the_reader_does() -> None:
    import manifests.image_files as reader

    assert first_cells("Parquet for `neardup publish`") == set(
        re.findall(r"^\| `(\w+)`", reader.__doc__ or "", re.MULTILINE)
    )


def test_every_column_of_clustered_images_is_named_as_the_reader_does() -> None:
    import manifests.clustered_files as clustered
    import manifests.image_files as images

    documented = re.findall(r"^\| `(\w+)`", f"{images.__doc__}\n{clustered.__doc__}", re.MULTILINE)
    assert first_cells("Clustered images in Parquet") == set(documented)


def test_the_metadata_of_clustered_images() -> None:
    assert first_cells("Metadata of clustered images") == set(FileMetadata("x").encoded())


def test_manifests() -> None:
    manifest = Manifest(Kind.SNAPSHOT, [ManifestFile("data/a", 1, 2, "0" * 64)])
    assert first_cells("Manifests") == set(json.loads(manifest.encoded()))


@pytest.mark.parametrize(
    "path", ["/v1/images/{image_id}/similar", "/v1/clusters/{head}/members", "/v1/stats", "/readyz"]
)
def test_some_paths_are_in_the_api(path: str) -> None:
    from prometheus_client import CollectorRegistry

    assert path in create_app(MemoryStore(), 10, CollectorRegistry()).openapi()["paths"]


def test_every_path_of_the_api_is_described() -> None:
    from prometheus_client import CollectorRegistry

    paths = create_app(MemoryStore(), 10, CollectorRegistry()).openapi()["paths"]
    assert [path for path in paths if f"{path}" not in FORMATS] == []


def test_the_changelog_begins_with_this_release() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", changelog, re.MULTILINE)
    assert next(heading for heading in headings if heading != "Unreleased") == version
    assert "Unreleased" not in headings[1:]
