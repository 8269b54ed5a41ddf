"""A manifest that somebody asked to load: another one is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import BadInputError, MismatchError, NeardupError
from manifests.asked import asked_manifest
from manifests.folder import LocalFolder
from manifests.manifest import Kind, Manifest, ManifestFile

FILES = [ManifestFile("data/a.parquet", 3, 4, "0" * 64)]
DELTA, SNAPSHOT = Manifest(Kind.DELTA, FILES, previous="1" * 32), Manifest(Kind.SNAPSHOT, FILES)


def written(root: Path, manifest: Manifest) -> LocalFolder:
    folder = LocalFolder(root)
    with folder.put("manifests/one.json") as path:
        path.write_bytes(manifest.encoded())
    return folder


@pytest.mark.parametrize("manifest", [DELTA, SNAPSHOT, Manifest(Kind.DELTA, [], previous="1" * 32)])
def test_it_is_read(tmp_path: Path, manifest: Manifest) -> None:
    folder = written(tmp_path, manifest)
    assert asked_manifest(folder, "one.json") == manifest
    assert asked_manifest(folder, "one.json", manifest.kind, manifest.id) == manifest


@pytest.mark.parametrize(
    ("manifest", "kind", "manifest_id", "error", "message"),
    [
        (DELTA, Kind.SNAPSHOT, DELTA.id, BadInputError, r"manifest one\.json is a delta, no snapshot"),
        (SNAPSHOT, Kind.DELTA, None, BadInputError, r"manifest one\.json is a snapshot, no delta"),
        (SNAPSHOT, Kind.SNAPSHOT, DELTA.id, MismatchError, f"the id {SNAPSHOT.id}, {DELTA.id} was asked for"),
        (Manifest(Kind.SNAPSHOT, []), None, None, BadInputError, r"manifest one\.json has no rows"),
    ],
)
def test_another_one_is_refused(
    tmp_path: Path,
    manifest: Manifest,
    kind: Kind | None,
    manifest_id: str | None,
    error: type[NeardupError],
    message: str,
) -> None:
    folder = written(tmp_path, manifest)
    with pytest.raises(error, match=message):
        asked_manifest(folder, "one.json", kind, manifest_id)
