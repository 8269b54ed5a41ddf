"""S3 that fails: what is tried again, and what is told when that does not help."""

from __future__ import annotations

import hashlib
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import BadInputError, UnavailableError
from manifests.manifest import ManifestFile
from manifests.s3 import S3Folder
from tests.support.moto_s3 import AWS
from tests.support.small_s3 import Fault, SmallS3, small_s3

CONTENT = hashlib.sha256(b"content").digest() * 400_000
"""Two pieces."""

FILE = ManifestFile("data/a", 1, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallS3]:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    with small_s3() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        yield server


def opened(uri: str = "s3://bucket/old", silence_s: float = 20.0) -> S3Folder:
    return S3Folder(uri, tries=3, silence_s=silence_s)


def fetched(server: SmallS3, spool: Path, silence_s: float = 20.0) -> bytes:
    server.objects["bucket/old/data/a"] = CONTENT
    with opened(silence_s=silence_s).fetch(FILE, spool) as path:
        return path.read_bytes()


FOR_A_MOMENT = {
    "503 before the file": Fault("HEAD", "busy"),
    "503 in the middle": Fault("GET", "busy", key="old/data/a"),
    "a lost connection": Fault("GET", "cut", times=2),
}


@pytest.mark.parametrize("name", FOR_A_MOMENT)
def test_what_fails_for_a_moment_is_tried_again(server: SmallS3, tmp_path: Path, name: str) -> None:
    server.faults = [replace(FOR_A_MOMENT[name])]
    assert fetched(server, tmp_path) == CONTENT
    assert server.faults[0].times == 0


def test_a_silent_connection_is_left(server: SmallS3, tmp_path: Path) -> None:
    server.faults = [Fault("GET", "stalled", stall_s=6.0)]
    assert fetched(server, tmp_path, silence_s=2.0) == CONTENT
    assert sum(method == "GET" for method, _ in server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("HEAD", "busy", 99), "cannot be reached .*503.*look at the network"),
        (Fault("GET", "cut", 99), "cannot be reached .*look at the network"),
        (Fault("GET", "refused", 99), "refuses s3://bucket/old/data/a .*AWS_ACCESS_KEY_ID"),
        (Fault("HEAD", "refused", 99), "refuses s3://bucket/old/data/a .*AWS_ACCESS_KEY_ID"),
    ],
)
def test_what_goes_on_failing_is_told(server: SmallS3, tmp_path: Path, fault: Fault, message: str) -> None:
    server.faults = [replace(fault)]
    with pytest.raises(UnavailableError, match=message):
        fetched(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", [Fault("PUT", "busy", 99), Fault("PUT", "cut", 99), Fault("POST", "busy", 99)])
def test_an_upload_that_fails_leaves_what_was_there(server: SmallS3, fault: Fault) -> None:
    server.objects["bucket/old/data/a"] = b"before"
    server.faults = [replace(fault)]
    with pytest.raises(UnavailableError, match="s3://bucket/old/data/a cannot be reached"):
        put(CONTENT)
    assert server.objects == {"bucket/old/data/a": b"before"}


def test_an_upload_goes_on_after_a_fault(server: SmallS3) -> None:
    server.faults = [Fault("PUT", "busy"), Fault("POST", "cut")]
    put(CONTENT)
    assert server.objects == {"bucket/old/data/a": CONTENT}


def put(content: bytes) -> None:
    with opened().put("data/a") as draft:
        draft.write_bytes(content)


def test_a_store_that_is_down_is_told(server: SmallS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match="cannot be reached"):
        opened().manifests()


def test_a_bucket_that_is_missing_is_told(server: SmallS3) -> None:
    folder = opened("s3://another")
    with pytest.raises(BadInputError, match="there is no bucket of s3://another/manifests"):
        folder.manifests()
    with pytest.raises(BadInputError, match="there is no bucket of s3://another/data/a"), folder.put("data/a") as draft:
        draft.write_bytes(b"x")


@pytest.mark.parametrize("uri", ["s3://", "s3:///x", "http://bucket/x", "s3://Bucket/x", "s3://b/x"])
def test_a_uri_must_name_a_bucket(uri: str) -> None:
    with pytest.raises(BadInputError, match="names no bucket"):
        S3Folder(uri)


@pytest.mark.parametrize(("total", "spare"), [(10 << 30, 1 << 30), (100 << 30, 5 << 30)])
def test_a_download_leaves_room_for_others(
    server: SmallS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int, spare: int
) -> None:
    def has(free: int) -> None:
        usage = namedtuple("usage", "total used free")(total, total - free, free)
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage)

    has(len(CONTENT) + spare - 1)
    with pytest.raises(UnavailableError, match=rf"has 12800000 bytes, and .* has \d+ left, of which {spare} stay free"):
        fetched(server, tmp_path)
    assert not [path for method, path in server.requests if method == "GET"]
    has(len(CONTENT) + spare)
    assert fetched(server, tmp_path) == CONTENT


def test_drafts_lie_where_they_are_asked_to(server: SmallS3, tmp_path: Path) -> None:
    with S3Folder("s3://bucket/old", tmp_path).put("data/a") as draft:
        draft.write_bytes(b"x")
        assert tmp_path in draft.parents
    assert list(tmp_path.iterdir()) == []
    assert server.objects == {"bucket/old/data/a": b"x"}
