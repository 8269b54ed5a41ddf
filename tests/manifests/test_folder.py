"""A local folder of manifests and files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from core.errors import BadInputError, MismatchError
from manifests.folder import LocalFolder, open_folder, read_manifest
from manifests.manifest import Kind, Manifest, ManifestFile


def written(root: Path, content: bytes = b"rows") -> Manifest:
    folder = LocalFolder(root)
    with folder.put("data/a.parquet") as path:
        path.write_bytes(content)
    manifest = Manifest(Kind.SNAPSHOT, [ManifestFile("data/a.parquet", 1, 4, hashlib.sha256(b"rows").hexdigest())])
    with folder.put("manifests/one.json") as path:
        path.write_bytes(manifest.encoded())
    return manifest


def test_what_is_put_is_found(tmp_path: Path) -> None:
    manifest = written(tmp_path)
    folder = open_folder(str(tmp_path))
    assert list(folder.manifests()) == ["one.json"]
    assert read_manifest(folder, "one.json").id == manifest.id
    with folder.fetch(manifest.files[0], tmp_path / "spool") as path:
        assert path.read_bytes() == b"rows"


def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    manifest = written(tmp_path, b"rowS")
    with (
        pytest.raises(MismatchError, match=r"a\.parquet has 4 bytes and the SHA-256 .* the manifest says 4 and"),
        LocalFolder(tmp_path).fetch(manifest.files[0], tmp_path / "spool"),
    ):
        pass


def test_a_file_that_is_written_halfway_is_not_there(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    folder = LocalFolder(tmp_path)

    def write_half() -> None:
        with folder.put("manifests/one.json") as path:
            path.write_bytes(b"half")
            assert list(folder.manifests()) == []
            raise StopError

    with pytest.raises(StopError):
        write_half()
    assert list((tmp_path / "manifests").iterdir()) == []


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    with pytest.raises(BadInputError, match="there is no folder"):
        folder.manifests()
    manifest = written(tmp_path)
    (tmp_path / "data" / "a.parquet").unlink()
    with pytest.raises(BadInputError, match=r"cannot read .*a\.parquet"), folder.fetch(manifest.files[0], tmp_path):
        pass
    (tmp_path / "manifests" / "one.json").write_bytes(b"{}")
    with pytest.raises(BadInputError, match=r"manifest one\.json: it has format None"):
        read_manifest(folder, "one.json")
