"""The manifest: one line, all of it checked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from core.errors import BadInputError
from manifests.manifest import Kind, Manifest, ManifestFile

FILES = (ManifestFile("data/a.parquet", 3, 100, "0" * 64), ManifestFile("data/b.parquet", 2, 50, "1" * 64))
SNAPSHOT = Manifest(Kind.SNAPSHOT, FILES)


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(SNAPSHOT.encoded()), **fields}).encode()


def test_it_is_one_line_and_comes_back() -> None:
    delta = Manifest(Kind.DELTA, FILES[:1], previous=SNAPSHOT.id)
    for manifest in (SNAPSHOT, delta):
        line = manifest.encoded()
        assert line.count(b"\n") == 1
        again = Manifest.decoded(line)
        assert (again.kind, tuple(again.files), again.previous) == (
            manifest.kind,
            tuple(manifest.files),
            manifest.previous,
        )
    assert (SNAPSHOT.rows, SNAPSHOT.size) == (5, 150)


def test_the_id_is_of_the_content() -> None:
    others = [
        Manifest(Kind.SNAPSHOT, FILES[:1]),
        Manifest(Kind.SNAPSHOT, FILES[::-1]),
        Manifest(Kind.DELTA, FILES, previous=SNAPSHOT.id),
        Manifest(Kind.SNAPSHOT, (FILES[0], replace(FILES[1], sha256="2" * 64))),
    ]
    assert len({SNAPSHOT.id, *(each.id for each in others)}) == 5
    assert Manifest(Kind.SNAPSHOT, list(FILES)).id == SNAPSHOT.id


FILE = json.loads(SNAPSHOT.encoded())["files"][0]

BAD: dict[str, tuple[bytes, str]] = {
    "no JSON": (SNAPSHOT.encoded()[:-5], "not JSON"),
    "no object": (b"[]", "not a JSON object"),
    "deep": (b"[" * 100_000, "not JSON"),
    "other format": (changed(format=2), "format 2, this program reads format 1"),
    "unknown key": (changed(more=1), "it has the keys"),
    "other kind": (changed(kind="all"), "its kind is 'all', not snapshot or delta"),
    "rows": (changed(rows=6), "it says rows 6, and its files have 5"),
    "bytes": (changed(bytes=6), "it says bytes 6, and its files have 150"),
    "id": (changed(id="0" * 32), "it says id '0"),
    "a file less": (changed(files=[FILE], rows=3, bytes=100), "it says id"),
    "previous of a snapshot": (Manifest(Kind.SNAPSHOT, FILES, previous="0" * 32).encoded(), "a delta names"),
    "delta of nothing": (Manifest(Kind.DELTA, FILES).encoded(), "a delta names"),
    "previous is no id": (changed(previous="yesterday"), "no id of a manifest"),
    "files": (changed(files={}), "no list"),
    "file twice": (changed(files=[FILE, FILE]), "names the file 'data/a.parquet' twice"),
    "path up": (changed(files=[{**FILE, "path": "data/../../x"}]), "leads out of the folder"),
    "absolute path": (changed(files=[{**FILE, "path": "/etc/x"}]), "leads out of the folder"),
    "empty path": (changed(files=[{**FILE, "path": ""}]), "leads out of the folder"),
    "negative rows": (changed(files=[{**FILE, "rows": -1}]), "rows is -1"),
    "rows are true": (changed(files=[{**FILE, "rows": True}]), "rows is True"),
    "checksum": (changed(files=[{**FILE, "sha256": "abc"}]), "not 64 hexadecimal digits"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(name: str) -> None:
    line, message = BAD[name]
    with pytest.raises(BadInputError, match=message):
        Manifest.decoded(line)
