"""What can be compared: how each kind is named, and the rows that it gives."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.access import Credentials
from core.errors import BadInputError, MismatchError, SettingsError, UnavailableError
from core.types import ImageId
from manifests.manifest import Manifest
from storage.serving.client import StorageClient
from storage.testing.decisions import A, B, C, deletes, founds, joins, put
from stream.bootstrap.sources import Columns
from stream.comparing.interface import Clustering
from stream.comparing.sources import open_clustering
from stream.settings import Settings, load_settings
from tests.search.loading import manifest_of
from tests.support.moto_s3 import AWS
from tests.support.served_store import ServedStore, served_store

TOML = """
default_signal = "photos"
[signals.photos]
search_embedding = {{ name = "s", model_version = "1", dimension = 24 }}
score_embedding = {{ name = "c", model_version = "1", dimension = 12 }}
model = "model"
terms = {{ bits = 64, groups = 4, bits_per_group = 2, candidates = 100 }}
code = {{ bits = 16 }}
storage = {{ port = {port} }}
"""

Open = Callable[..., Clustering]


@pytest.fixture
def world() -> Iterator[ServedStore]:
    with served_store() as served:
        yield served


@pytest.fixture
def settings(tmp_path: Path, world: ServedStore) -> Settings:
    file = tmp_path / "neardup.toml"
    file.write_text(TOML.format(port=world.port), encoding="utf-8")
    return load_settings(file)


@pytest.fixture
def opened(settings: Settings, tmp_path: Path) -> Open:
    def opened(text: object, columns: Columns | None = None, **options: Credentials) -> Clustering:
        return open_clustering(str(text), settings, None, columns or Columns(), tmp_path, **options)

    return opened


def rows_of(side: Clustering) -> list[tuple[str, int, str | None]]:
    return [
        row for part in side.rows() for row in zip(part.image_ids, part.versions.tolist(), part.clusters, strict=True)
    ]


def test_a_running_store_by_its_signal_or_its_address(opened: Open, world: ServedStore) -> None:
    put(world.store, founds(0, A), joins(1, B, A, version=4), founds(2, C), deletes(3, C, C))
    for text, name in (
        ("store", "store of photos"),
        ("store:photos", "store of photos"),
        (f"127.0.0.1:{world.port}", f"store at 127.0.0.1:{world.port}"),
    ):
        side = opened(text)
        assert side.name == name
        assert rows_of(side) == [(A, 1, A), (B, 4, A)]
        assert side.moment() == "position 3"


def test_a_store_that_goes_on_meanwhile_is_of_some_moment(
    opened: Open, world: ServedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world.store, founds(0, A))
    real = StorageClient.select

    def select(client: StorageClient, asked: object) -> Iterator[object]:
        put(world.store, founds(1, B))
        return real(client, asked)  # type: ignore[arg-type]

    monkeypatch.setattr(StorageClient, "select", select)
    side = opened("store")
    assert len(rows_of(side)) == 2
    assert side.moment() == "a position from 0 to 1"


def test_a_store_that_does_not_answer(opened: Open, world: ServedStore) -> None:
    with pytest.raises(UnavailableError):
        list(opened("127.0.0.1:1").rows())


def test_a_key_is_read_for_an_address_alone(opened: Open, world: ServedStore, tmp_path: Path) -> None:
    other = Credentials(key_file=str(tmp_path / "no-key"))
    with pytest.raises(SettingsError, match=r"no-key cannot be read"):
        opened(f"127.0.0.1:{world.port}", elsewhere=other)
    assert rows_of(opened("store", elsewhere=other)) == []


def written(folder: Path) -> Manifest:
    return manifest_of.write(folder, manifest_of.files_of(manifest_of.images(9, seed=1), size=5))


def test_a_manifest(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "old")
    expected = [(each.image_id, each.version, each.image_id) for each in manifest_of.images(9, seed=1)]
    path = tmp_path / "old" / "manifests" / manifest_of.NAME
    assert rows_of(opened(path)) == expected
    for folder, text in (
        ("old/manifests", path.name),
        ("old", f"manifests/{path.name}"),
        ("old", f"./manifests/{path.name}"),
    ):
        monkeypatch.chdir(tmp_path / folder)
        assert rows_of(opened(text)) == expected
    monkeypatch.chdir(tmp_path)
    assert opened(f"old/manifests/{path.name}").name == f"old/manifests/{path.name}"


def test_a_manifest_in_s3(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto_url: str) -> None:
    for name, value in {**AWS, "AWS_ENDPOINT_URL": moto_url}.items():
        monkeypatch.setenv(name, value)
    assert httpx.put(f"{moto_url}/compared").status_code == 200
    written(tmp_path / "old")
    for path in (tmp_path / "old").rglob("*.*"):
        key = path.relative_to(tmp_path).as_posix()
        assert httpx.put(f"{moto_url}/compared/{key}", content=path.read_bytes()).status_code == 200
    side = opened(f"s3://compared/old/manifests/{manifest_of.NAME}")
    assert len(rows_of(side)) == 9


def test_what_is_no_snapshot_is_refused(opened: Open, tmp_path: Path) -> None:
    table = manifest_of.table(manifest_of.images(5, seed=1))
    manifest_of.write(tmp_path / "new", [table], manifest_of.Kind.DELTA)
    with pytest.raises(BadInputError, match=r"first\.json is a delta, which has no clusters of its own"):
        opened(tmp_path / "new/manifests/first.json")
    for text in ("old/first.json", "first.json", "s3://bucket/first.json"):
        with pytest.raises(BadInputError, match=r"those lie in FOLDER/manifests/NAME\.json"):
            opened(text)
    with pytest.raises(BadInputError, match="cannot read"):
        opened(tmp_path / "new/manifests/second.json")


def test_a_changed_file_of_a_manifest_is_refused(opened: Open, tmp_path: Path) -> None:
    written(tmp_path / "old")
    path = tmp_path / "old/data/part-1.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(MismatchError, match=r"part-1\.parquet"):
        rows_of(opened(tmp_path / "old/manifests/first.json"))


def test_files_of_another_system(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    first = pa.table({"photo": ["x", "y"], "group": [7, 7], "search": ["no embedding", ""], "image_version": [2, 1]})
    pq.write_table(first, tmp_path / "files" / "1.parquet")
    with gzip.open(tmp_path / "files" / "2.csv.gz", "wt", encoding="utf-8") as file:
        file.write("group,photo\n8,z\n,x\n")
    (tmp_path / "files" / "3.tsv").write_text("photo\tgroup\nw\t7\n", encoding="utf-8")
    for name in ("read.me", ".1.parquet.crc", "_SUCCESS", "_metadata.parquet"):
        (tmp_path / "files" / name).write_text("nothing", encoding="utf-8")
    columns = Columns(image_id="photo", cluster="group")
    assert rows_of(opened(tmp_path / "files" / "1.parquet", columns)) == [("x", 2, "7"), ("y", 1, "7")]
    side = opened(tmp_path / "files", columns)
    assert rows_of(side) == [("x", 2, "7"), ("y", 1, "7"), ("z", 1, "8"), ("x", 1, None), ("w", 1, "7")]
    assert [(part.done, part.total) for part in opened(tmp_path / "files", columns).rows()][-1] == (5, None)
    (part,) = opened(tmp_path / "files" / "1.parquet", columns).rows()
    assert (part.done, part.total) == (2, 2)


def test_an_empty_cluster_is_none(opened: Open, tmp_path: Path) -> None:
    """In Parquet as in CSV; else all images without a cluster would be one."""
    rows = {"image_id": ["x", "y", "z"], "head": ["", "x", None]}
    pq.write_table(pa.table(rows), tmp_path / "1.parquet")
    (tmp_path / "1.csv").write_text("image_id,head\nx,\ny,x\nz,\n", encoding="utf-8")
    for name in ("1.parquet", "1.csv"):
        assert rows_of(opened(tmp_path / name)) == [("x", 1, None), ("y", 1, "x"), ("z", 1, None)]


def test_files_without_such_columns(opened: Open, tmp_path: Path) -> None:
    pq.write_table(pa.table({"image_id": ["x"]}), tmp_path / "1.parquet")
    with pytest.raises(BadInputError, match="has no column head: name the one with the heads"):
        opened(tmp_path / "1.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=r"has no files that end in \.parquet, \.csv, \.tsv"):
        opened(tmp_path / "empty")
    with pytest.raises(BadInputError, match="cannot read"):
        opened(tmp_path / "none.csv")


def test_a_file_may_be_called_like_an_address(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"image_id": ["x"], "head": ["x"]}), tmp_path / "export:1")
    assert rows_of(opened("export:1")) == [(ImageId("x"), 1, "x")]
