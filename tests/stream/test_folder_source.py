"""Our list and our reader of a folder's files, in Flink's Java: nothing that happens to a file raises there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pyflink.java_gateway import get_gateway
from pyflink.util.java_utils import to_jarray

from operators.rows import KEYED_FILE_TYPE
from stream.settings import Settings

pytestmark = [pytest.mark.cluster]


@pytest.fixture
def jvm(flink_settings: Settings) -> Any:
    """The JVM, with our classes on its path."""
    return get_gateway().jvm


def listed(jvm: Any, files: Any, *folders: Path) -> list[Any]:
    paths = [jvm.org.apache.flink.core.fs.Path(f"file://{folder}") for folder in folders]
    return list(files.enumerateSplits(to_jarray(jvm.org.apache.flink.core.fs.Path, paths), 1).toArray())


def names(splits: list[Any]) -> list[str]:
    """Those of files; a word on the folder without its time."""
    return sorted(re.sub(r"^(\.[a-z]+)-\d{13}$", r"\1", str(split.path().getName())) for split in splits)


def reader(jvm: Any, path: Path, most_bytes: int = 100) -> Any:
    split = jvm.org.apache.flink.connector.file.src.FileSourceSplit(
        "id", jvm.org.apache.flink.core.fs.Path(f"file://{path}"), 0, 1, 0, 1
    )
    files = jvm.neardup.WholeFiles(most_bytes, KEYED_FILE_TYPE.get_java_type_info())
    assert not files.isSplittable()
    return files.createReader(jvm.org.apache.flink.configuration.Configuration(), split)


def element(batch: Any) -> tuple[int, str, bytes | None, str | None] | None:
    found = batch.next()
    if found is None:
        return None
    assert batch.next() is None
    row = found.getRecord()
    file = row.getField(1)
    content = file.getField(1)
    return row.getField(0), file.getField(0), None if content is None else bytes(content), file.getField(2)


def test_files_of_the_folder_itself_are_listed(jvm: Any, tmp_path: Path) -> None:
    for name in ("a.json", "b c%20.json", ".hidden.json", "a.json.tmp", "notes.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "below.json").mkdir()
    (tmp_path / "below.json" / "c.json").write_text("x")
    files = jvm.neardup.FolderFiles(".json").create()
    assert names(listed(jvm, files, tmp_path)) == [".answers", "a.json", "b c%20.json"]
    assert names(listed(jvm, files, tmp_path)) == ["a.json", "b c%20.json"]


def test_a_folder_that_is_away_is_empty_until_it_answers(jvm: Any, tmp_path: Path) -> None:
    folder, files = tmp_path / "later", jvm.neardup.FolderFiles(".json")
    words = listed(jvm, files, folder)
    assert names(words) == [".away"]
    assert listed(jvm, files, folder) == []
    folder.mkdir()
    (folder / "a.json").write_text("x")
    words += listed(jvm, files, folder)
    assert names(words) == [".answers", ".away", "a.json"]
    bucket = jvm.org.apache.flink.core.fs.Path("nowhere://bucket/manifests")
    (word,) = files.enumerateSplits(to_jarray(jvm.org.apache.flink.core.fs.Path, [bucket]), 1).toArray()
    assert names([word]) == [".away"]
    told = {}
    for split in words:
        opened = reader(jvm, Path(split.path().getPath()))
        told[names([split])[0]] = element(opened.readBatch())
        assert opened.readBatch() is None
    assert told == {
        ".away": (0, words[0].path().getName(), None, "it cannot be listed; the log of the job manager says why"),
        ".answers": (0, words[-1].path().getName(), None, None),
        "a.json": (0, "a.json", b"x", None),
    }


@pytest.mark.parametrize(
    ("content", "read"), [(b"", b""), (b"one\nline\n\xff\x00", b"one\nline\n\xff\x00"), (b"x" * 200_000, b"x" * 101)]
)
def test_a_file_is_one_element(jvm: Any, tmp_path: Path, content: bytes, read: bytes) -> None:
    file = tmp_path / "b c%20.json"
    file.write_bytes(content)
    opened = reader(jvm, file)
    assert element(opened.readBatch()) == (0, "b c%20.json", read, None)
    assert opened.readBatch() is None
    opened.close()


def test_a_file_that_cannot_be_read_is_tried_again_and_then_told(jvm: Any, tmp_path: Path) -> None:
    late, never = reader(jvm, tmp_path / "late.json"), reader(jvm, tmp_path / "never.json")
    assert element(late.readBatch()) is None
    (tmp_path / "late.json").write_bytes(b"here")
    assert element(late.readBatch()) == (0, "late.json", b"here", None)
    assert late.readBatch() is None
    shortened = never.getClass().getDeclaredField("tries")
    shortened.setAccessible(True)
    shortened.setInt(never, 59)
    told = element(never.readBatch())
    assert told is not None
    assert told[:3] == (0, "never.json", None)
    assert "never.json" in (told[3] or "")
    assert never.readBatch() is None
