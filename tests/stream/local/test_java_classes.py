"""Our Java classes: compiled once, packed into one jar, and again when a source changes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from stream.local.errors import DeploymentError, MissingPieceError
from stream.local.flink_home import flink_distribution
from stream.local.java_classes import JAR, build_jar

JARS = sorted((flink_distribution() / "lib").glob("*.jar"))


def test_the_jar_is_made_once_and_again_when_a_source_changes(tmp_path: Path) -> None:
    jar = build_jar(tmp_path, JARS)
    assert jar == tmp_path / JAR
    content = jar.read_bytes()
    with zipfile.ZipFile(jar) as packed:
        names = {f"neardup/{name}.class" for name in ("BoundHttpServers", "RecordBatches", "FolderFiles", "WholeFiles")}
        assert names <= set(packed.namelist())
    jar.write_bytes(b"kept")
    build_jar(tmp_path, JARS)
    assert jar.read_bytes() == b"kept"
    (tmp_path / "made-from").write_text("an older source")
    build_jar(tmp_path, JARS)
    assert jar.read_bytes() == content


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingPieceError, match="make setup"):
        build_jar(tmp_path, [tmp_path / "other.jar"])
    empty = tmp_path / "flink-table-runtime-0.jar"
    empty.touch()
    with pytest.raises(DeploymentError, match=r"BoundHttpServers\.java, .*WholeFiles\.java cannot be compiled"):
        build_jar(tmp_path, [empty])
