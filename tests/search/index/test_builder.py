"""The bulk builder: what it makes is what inserting one by one makes, and a build that breaks off leaves nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import BadInputError, MismatchError
from core.types import ImageId, LogPosition
from search.index.builder import SEGMENT_ENTRIES, IndexBuilder, build_name, entries_of_segment
from search.index.columns import Kind
from search.index.engine import SegmentedIndex
from search.index.errors import IndexDamagedError
from search.index.interface import Insert, Record, Skip
from search.index.planning import RecordShape
from tests.search.index.index_oracle import LOG, Deleted, Oracle, delete, index_settings, insert, plain, replay

SETTINGS = index_settings(candidates=5, seal_entries=20)


def log_of(count: int) -> list[Record]:
    """Versions of few images, some of them skipped or deleted, some replayed."""
    random = np.random.RandomState(8)
    records: list[Record] = []
    for offset in range(count):
        image_id, version = f"i{random.randint(0, count // 3)}", int(random.randint(0, 9))
        terms = random.randint(0, 4, 4).tolist()
        kinds = [
            Skip(offset, offset + 1, ImageId(image_id), version),
            delete(offset, image_id, version if offset % 2 else None),
            *[replay(offset, image_id, one, terms) for one in range(9)],
        ]
        kind = random.randint(0, 2 * len(kinds))
        records.append(kinds[kind] if kind < len(kinds) else insert(offset, image_id, version, terms))
    return records


def add(builder: IndexBuilder, records: Sequence[Insert | Skip | Deleted]) -> None:
    kinds = {Insert: Kind.SEARCHABLE, Skip: Kind.SKIPPED, Deleted: Kind.REMOVED}
    inserts = [one for one in records if isinstance(one, Insert)]
    builder.add(
        np.array([one.offset for one in records], np.int64),
        [one.image_id for one in records],
        np.array([one.version for one in records], np.uint64),
        np.array([one.terms for one in inserts], np.uint32).reshape(-1, 4),
        np.array([list(one.code) for one in inserts], np.uint8).reshape(-1, 2),
        np.array([kinds[type(one)] for one in records], np.uint8),
    )


def test_a_built_index_is_the_one_that_inserting_makes(tmp_path: Path) -> None:
    oracle = Oracle(SETTINGS)
    oracle.apply(log_of(300))
    placed = oracle.placed()
    with IndexBuilder(tmp_path / "index", SETTINGS, segment_entries=70) as builder:
        for first in range(0, len(placed), 33):
            add(builder, placed[first : first + 33])
        assert builder.entries == len(placed)
        builder.finish(LogPosition(LOG, 299, 300))
    for _ in range(2):
        index = SegmentedIndex(tmp_path / "index", SETTINGS, background=False)
        assert index.stats().segments >= 2
        assert (index.position.offset, index.images) == (oracle.position, oracle.images())
        again = [plain(answer) for answer in index.insert_and_search(LOG, oracle.log)]
        assert again == [oracle.answer(record) for record in oracle.log]
        oracle.apply([insert(oracle.position + 1, "i3", 99, (1, 2, 3, 0))])
        assert plain(index.insert_and_search(LOG, oracle.log[-1:])[0]) == oracle.answer(oracle.log[-1])
        index.tidy()
        index.close()


def test_an_empty_build_is_an_empty_index(tmp_path: Path) -> None:
    with IndexBuilder(tmp_path / "index", SETTINGS) as builder:
        builder.finish(LogPosition())
    index = SegmentedIndex(tmp_path / "index", SETTINGS, background=False)
    assert index.insert_and_search(LOG, [insert(0, "a")])[0].place == 0
    index.close()


def test_a_build_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with IndexBuilder(tmp_path / "index", SETTINGS, segment_entries=2) as builder:
        add(builder, [insert(0, "a"), insert(1, "b"), insert(2, "c")])
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("count", [0, 40])
def test_a_build_killed_at_any_step_is_whole_or_opened_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """What kill -9 leaves is what the folder holds at that moment."""
    synced = replace(SETTINGS, sync=True)
    oracle = Oracle(SETTINGS)
    oracle.apply(log_of(count))
    images: list[Path] = []

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        def killed_before(*args: Any) -> Any:
            if (tmp_path / "index" / "manifest.json").exists():
                images.append(tmp_path / f"killed-{len(images)}")
                shutil.copytree(tmp_path / "index", images[-1])
            return call(*args)

        return killed_before

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", before(os.fsync))
        patch.setattr(Path, "rename", before(Path.rename))
        patch.setattr(Path, "replace", before(Path.replace))
        with IndexBuilder(tmp_path / "index", synced, segment_entries=15) as builder:
            started = len(images)
            add(builder, oracle.placed())
            builder.finish(LogPosition(LOG, count + 4, 9))
    refused: list[str] = []
    for image in images[started:]:
        try:
            index = SegmentedIndex(image, synced, background=False)
        except IndexDamagedError as error:
            refused.append(str(error))
            continue
        assert (index.position.offset, index.images) == (count + 4, oracle.images())
        index.close()
    assert len(refused) > 3
    assert all("did not finish: delete the folder" in message for message in refused)
    index = SegmentedIndex(tmp_path / "index", synced, background=False)
    assert (index.position.offset, index.images) == (count + 4, oracle.images())
    index.close()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with IndexBuilder(tmp_path / "index", SETTINGS) as builder:
        add(builder, [insert(3, "a", 2)])
        for records in ([insert(3, "b")], [insert(5, "b"), insert(4, "c")]):
            with pytest.raises(BadInputError, match="ascend from 4"):
                add(builder, records)
        with pytest.raises(BadInputError, match="bits"):
            add(builder, [insert(5, "b", 1, (0, 0, 0, 4))])
        with pytest.raises(BadInputError, match="expected"):
            builder.add(np.array([9]), [], np.array([1], np.uint64), np.zeros((1, 4)), np.zeros((1, 2), np.uint8))  # type: ignore[arg-type]
        with pytest.raises(BadInputError, match="after the position"):
            builder.finish(LogPosition(LOG, 2, 0))
        add(builder, [insert(7, "a", 2)])
        with pytest.raises(BadInputError, match="'a' has version 2 at place 7, after version 2 at place 3"):
            builder.finish(LogPosition(LOG, 7, 0))
    with IndexBuilder(tmp_path / "deletes", SETTINGS) as builder:
        add(builder, [insert(1, "a", 2), Deleted(2, 3, ImageId("a"), 2), Deleted(5, 6, ImageId("a"), 1)])
        with pytest.raises(BadInputError, match="'a' has version 1 at place 5, after version 2 at place 2"):
            builder.finish(LogPosition(LOG, 7, 0))
    with IndexBuilder(tmp_path / "index", SETTINGS) as builder:
        builder.finish(LogPosition())
    with pytest.raises(BadInputError, match="not empty"):
        IndexBuilder(tmp_path / "index", SETTINGS)
    with pytest.raises(MismatchError):
        SegmentedIndex(tmp_path / "index", index_settings(terms="others"))


def filled(builder: IndexBuilder, placed: Sequence[Insert | Skip | Deleted], batch: int) -> None:
    """Adds what is missing, and finishes."""
    for first in range(builder.entries, len(placed), batch):
        add(builder, placed[first : first + batch])
    builder.finish(LogPosition(LOG, 299, 300))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_named_build_goes_on_after_the_last_sealed_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At whatever step it was killed, the same files come out, however the rows come."""
    synced = replace(SETTINGS, sync=True)
    oracle = Oracle(SETTINGS)
    oracle.apply(log_of(300))
    placed = oracle.placed()
    images: list[Path] = []

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        def killed_before(*args: Any, **options: Any) -> Any:
            images.append(tmp_path / f"killed-{len(images)}")
            shutil.copytree(tmp_path / "index", images[-1])
            return call(*args, **options)

        return killed_before

    with monkeypatch.context() as patch:
        for owner, name in ((os, "fsync"), (Path, "rename"), (Path, "replace"), (Path, "unlink")):
            patch.setattr(owner, name, before(getattr(owner, name)))
        with IndexBuilder(tmp_path / "index", synced, segment_entries=50, name="a load") as builder:
            filled(builder, placed, 33)
    whole = files(tmp_path / "index")
    assert sum(name.startswith("hidden") for name in whole) == 1
    safe = set()
    for number, image in enumerate(images):
        if not (image / "index.json").exists():
            with IndexBuilder(image, synced, segment_entries=50, name="a load") as builder:
                safe.add(builder.entries)
                filled(builder, placed, 7 + number)
        assert files(image) == whole
    assert {0, 50, 100} <= safe


def test_an_unfinished_build_belongs_to_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with IndexBuilder(folder, SETTINGS, segment_entries=2, name="a load") as builder:
        add(builder, [insert(0, "a"), insert(1, "b"), insert(2, "c")])
    with pytest.raises(BadInputError, match="holds the unfinished build of a load, not of another"):
        IndexBuilder(folder, SETTINGS, name="another")
    with pytest.raises(BadInputError, match="is not empty"):
        IndexBuilder(folder, SETTINGS)
    with pytest.raises(MismatchError, match="made for other settings"):
        IndexBuilder(folder, index_settings(terms="others"), name="a load")
    with pytest.raises(IndexDamagedError, match="did not finish"):
        SegmentedIndex(folder, SETTINGS)
    with IndexBuilder(folder, SETTINGS, name="a load") as builder:
        assert builder.entries == 2
        with pytest.raises(BadInputError, match="ascend from 2"):
            add(builder, [insert(1, "b")])
        builder.finish(LogPosition(LOG, 1, 2))
    assert build_name(folder) == "a load"
    with pytest.raises(BadInputError, match="is not empty"):
        IndexBuilder(folder, SETTINGS, name="a load")
    (folder / "build.json").write_text("{}")
    with pytest.raises(IndexDamagedError, match=r"build\.json is damaged"):
        build_name(folder)


def test_a_segment_fits_into_memory() -> None:
    assert entries_of_segment(SETTINGS.shape) == SEGMENT_ENTRIES
    assert 200_000 < entries_of_segment(RecordShape(groups=128, bits_per_group=12, code_bytes=576)) < 400_000
    assert entries_of_segment(RecordShape(groups=1, bits_per_group=1, code_bytes=2**40)) == 1
