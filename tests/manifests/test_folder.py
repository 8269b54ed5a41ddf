"""What every folder of manifests does: a local one, Moto's S3, and a second, small S3 server."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.errors import BadInputError, MismatchError, UnavailableError
from manifests import folder as folder_module
from manifests.folder import Folder, LocalFolder, open_folder, read_manifest
from manifests.manifest import Kind, Manifest, ManifestFile
from tests.support.moto_s3 import AWS
from tests.support.small_s3 import small_s3

LARGE = hashlib.sha256(b"large").digest() * 500_000
"""16 MB: several parts of an upload, several requests of a download."""


@pytest.fixture(params=["local", "moto", "small"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty root of each kind."""
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    match request.param:
        case "local":
            yield str(tmp_path / "root")
        case "moto":
            url, bucket = request.getfixturevalue("moto_url"), f"bucket-{uuid.uuid4().hex}"
            assert httpx.put(f"{url}/{bucket}").status_code == 200
            monkeypatch.setenv("AWS_ENDPOINT_URL", url)
            yield f"s3://{bucket}/old images/of 2025"
        case _:
            with small_s3() as server:
                monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
                yield "s3://bucket"


@pytest.fixture
def folder(uri: str) -> Folder:
    return open_folder(uri)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


def put(folder: Folder, path: str, content: bytes) -> None:
    with folder.put(path) as draft:
        draft.write_bytes(content)


def listed(content: bytes = b"rows", path: str = "data/a.parquet") -> ManifestFile:
    return ManifestFile(path, 1, len(content), hashlib.sha256(content).hexdigest())


def written(folder: Folder, content: bytes = b"rows") -> Manifest:
    put(folder, "data/a.parquet", content)
    manifest = Manifest(Kind.SNAPSHOT, [listed()])
    put(folder, "manifests/one.json", manifest.encoded())
    return manifest


def test_what_is_put_is_found(folder: Folder, uri: str, spool: Path) -> None:
    manifest = written(folder)
    again = open_folder(uri)
    assert list(again.manifests()) == ["one.json"]
    assert read_manifest(again, "one.json").id == manifest.id
    with again.fetch(manifest.files[0], spool) as path:
        assert path.read_bytes() == b"rows"
        assert path.name == "a.parquet"
    assert list(spool.iterdir()) == []


def test_large_files_come_back(folder: Folder, spool: Path) -> None:
    put(folder, "data/large", LARGE)
    with folder.fetch(listed(LARGE, "data/large"), spool) as path:
        assert path.read_bytes() == LARGE


def test_a_later_file_takes_the_place_of_an_earlier(folder: Folder, spool: Path) -> None:
    for content in (LARGE, b"rows", b""):
        put(folder, "data/a.parquet", content)
        with folder.fetch(listed(content), spool) as path:
            assert path.read_bytes() == content


def test_manifests_are_all_named_and_sorted(folder: Folder) -> None:
    names = [f"{number}.json" for number in (5, 1, 4, 2, 7, 3, 6)]
    for name in [*names, "readme.txt", ".hidden.json", "deeper/8.json"]:
        put(folder, f"manifests/{name}", b"{}")
    assert list(folder.manifests()) == sorted(names)


def test_a_file_of_another_size_is_refused(folder: Folder, spool: Path) -> None:
    manifest = written(folder, b"more rows")
    with (
        pytest.raises(MismatchError, match=r"a\.parquet has 9 bytes, the manifest says 4"),
        folder.fetch(manifest.files[0], spool),
    ):
        pass


def test_a_file_that_was_changed_is_refused(folder: Folder, spool: Path) -> None:
    manifest = written(folder, b"rowS")
    with (
        pytest.raises(MismatchError, match=r"a\.parquet has 4 bytes and the SHA-256 .* the manifest says 4 and"),
        folder.fetch(manifest.files[0], spool),
    ):
        pass
    assert list(spool.iterdir()) == []


def test_a_file_that_is_written_halfway_is_not_there(folder: Folder, spool: Path) -> None:
    class StopError(Exception):
        pass

    def write_half(name: str) -> None:
        with folder.put(f"manifests/{name}") as draft:
            draft.write_bytes(b"half")
            assert list(folder.manifests()) == ["one.json"]
            raise StopError

    manifest = written(folder)
    for name in ("one.json", "two.json"):
        with pytest.raises(StopError):
            write_half(name)
    assert list(folder.manifests()) == ["one.json"]
    assert read_manifest(folder, "one.json").id == manifest.id


def test_what_is_removed_is_gone(folder: Folder, spool: Path) -> None:
    written(folder)
    for _ in range(2):
        folder.remove("manifests/one.json")
    put(folder, "manifests/two.json", b"{}")
    assert list(folder.manifests()) == ["two.json"]


def test_what_is_missing_is_named(folder: Folder, spool: Path) -> None:
    with pytest.raises(BadInputError, match=r"there is no .*manifests"):
        folder.manifests()
    manifest = written(folder)
    folder.remove("data/a.parquet")
    with pytest.raises(BadInputError, match=r"a\.parquet"), folder.fetch(manifest.files[0], spool):
        pass
    with pytest.raises(BadInputError, match=r"none\.json"):
        read_manifest(folder, "none.json")
    put(folder, "manifests/one.json", b"{}")
    with pytest.raises(BadInputError, match=r"manifest one\.json: it has format None"):
        read_manifest(folder, "one.json")


def refusing(monkeypatch: pytest.MonkeyPatch, number: int, part: str) -> None:
    """Each file and folder whose path has this part is refused."""
    real_open, real_names = Path.open, Path.iterdir

    def opened(path: Path, *arguments: Any, **options: Any) -> Any:
        if part in str(path):
            raise OSError(number, os.strerror(number))
        return real_open(path, *arguments, **options)

    def names(path: Path) -> Iterator[Path]:
        if part in str(path):
            raise OSError(number, os.strerror(number))
        return real_names(path)

    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(Path, "iterdir", names)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES])
def test_a_local_disk_that_does_not_answer_is_waited_for(
    tmp_path: Path, spool: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = LocalFolder(tmp_path / "root")
    manifest = written(folder)
    refusing(monkeypatch, number, "root")
    with pytest.raises(UnavailableError, match=r"cannot read .*manifests"):
        folder.manifests()
    with pytest.raises(UnavailableError, match=r"cannot read .*one\.json"):
        read_manifest(folder, "one.json")
    with (
        pytest.raises(UnavailableError, match=r"cannot read .*a\.parquet"),
        folder.fetch(manifest.files[0], spool),
    ):
        pass


def test_a_local_folder_that_is_not_mounted_is_waited_for(tmp_path: Path, spool: Path) -> None:
    folder = LocalFolder(tmp_path / "root")
    manifest = written(folder)
    (tmp_path / "root").rename(tmp_path / "elsewhere")
    (tmp_path / "root").mkdir()
    with pytest.raises(UnavailableError, match=r"one\.json.*is it mounted"):
        read_manifest(folder, "one.json")
    with pytest.raises(UnavailableError, match="is it mounted"), folder.fetch(manifest.files[0], spool):
        pass


@pytest.mark.parametrize("fails", [False, True])
def test_a_local_file_that_is_changed_while_it_is_read_is_refused(tmp_path: Path, spool: Path, fails: bool) -> None:
    folder = LocalFolder(tmp_path / "root")
    manifest = written(folder)

    def read() -> None:
        with folder.fetch(manifest.files[0], spool):
            put(folder, "data/a.parquet", b"rowS")
            if fails:
                raise BadInputError("it is damaged")

    with pytest.raises(MismatchError, match=r"a\.parquet was changed while it was read"):
        read()


def test_a_local_file_is_hashed_once_and_again_after_a_change(
    tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = LocalFolder(tmp_path / "root")
    manifest, hashed = written(folder), list[str]()
    check = folder_module.check_bytes

    def counted(path: str, file: ManifestFile, size: int, sha256: str) -> None:
        hashed.append(path)
        check(path, file, size, sha256)

    monkeypatch.setattr(folder_module, "check_bytes", counted)
    for _ in range(3):
        with folder.fetch(manifest.files[0], spool):
            pass
    assert len(hashed) == 1
    put(folder, "data/a.parquet", b"rowS")
    with pytest.raises(MismatchError, match="SHA-256"), folder.fetch(manifest.files[0], spool):
        pass
    assert len(hashed) == 2


def test_a_name_does_not_lead_elsewhere(folder: Folder) -> None:
    with pytest.raises(BadInputError, match="no name of a manifest"):
        read_manifest(folder, "../data/a.json")


def test_of_a_large_manifest_only_the_beginning_is_read(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("manifests.folder", "manifests.s3"):
        monkeypatch.setattr(f"{module}.MAX_BYTES", 100)
    put(folder, "manifests/one.json", bytes(1000))
    assert folder.read("one.json") == bytes(101)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    def write() -> None:
        with LocalFolder(tmp_path).put("data/a.parquet") as draft:
            draft.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UnavailableError, match=r"disk of .* is full"):
        write()
    assert list((tmp_path / "data").iterdir()) == []
