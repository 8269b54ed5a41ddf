"""A loaded index is the one that inserting the rows one by one makes; what is wrong with the rows is named."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from core.errors import BadInputError, MismatchError
from core.first_loads import LoadRequest
from core.types import LogPosition
from manifests.manifest import Kind
from search.index.engine import SegmentedIndex
from search.index.errors import IndexDamagedError, IndexLockedError
from search.index.generations import IndexGenerations
from search.index.interface import TermQuery
from search.loading import loader
from search.loading.load_task import LoadTask, Progress
from search.loading.loader import load
from search.ranking import Order, Ranking
from tests.search.index.index_oracle import Oracle, insert, plain, plain_found
from tests.search.loading.manifest_of import (
    BY_DISTANCE,
    CODE,
    LOG,
    TERMS,
    files_of,
    given,
    images,
    request,
    settings,
    table,
    write,
)


def told_nothing(_: Progress) -> None:
    """Takes the progress."""


@pytest.mark.parametrize("ranking", [BY_DISTANCE, Ranking(3, order=Order.OVERLAP, min_overlap=2)])
@pytest.mark.parametrize("seed", range(4))
def test_a_loaded_index_is_the_one_that_inserting_makes(tmp_path: Path, seed: int, ranking: Ranking) -> None:
    chance = random.Random(seed)
    n, told = chance.randint(1, 120), settings(ranking, seal_entries=20)
    oracle = Oracle(told)
    oracle.apply(images(n, seed))
    source = given(tmp_path, images(n, seed), chance.randint(1, 50))
    seen: list[Progress] = []
    assert load(source.task(told, segment_entries=chance.randint(5, 60)), seen.append) == oracle.images()
    assert seen[-1] == Progress(n, n, verifying=True)
    folder = IndexGenerations(source.index).load()
    assert folder is not None
    index = SegmentedIndex(folder, told, background=False)
    assert index.position == LogPosition(LOG, n - 1, 0, n)
    for _ in range(20):
        own = chance.choice(oracle.log)
        query = TermQuery(own.terms, 5, chance.randint(0, 4), as_of=chance.randint(0, n), code=own.code)  # type: ignore[union-attr]
        assert plain_found(index.search([query])[0]) == oracle.free(query)
    known = oracle.log[chance.randrange(n)].image_id
    after = [insert(n, "new", 1, (1, 2, 3, 0)), insert(n + 1, known, 99, (1, 2, 3, 1)), insert(n + 2, known, 1)]
    oracle.apply(after)
    for _ in range(2):
        answers = [plain(answer) for answer in index.insert_and_search(LOG, after)]
        assert answers == [oracle.answer(record) for record in after]
    index.tidy()  # the rows are released, so superseded versions may lose their codes
    assert [plain(answer) for answer in index.insert_and_search(LOG, after[:2])] == answers[:2]
    assert index.images == oracle.images()
    index.close()


def test_terms_and_codes_are_made_of_the_embeddings_where_they_are_not_given(tmp_path: Path) -> None:
    records = images(30, 1)
    half = table(records[15:], given=False)
    half = half.append_column("terms", pa.array([each.terms.tolist() for each in records[15:]], pa.list_(pa.uint32())))
    source = given(tmp_path, records).rewrite([table(records[:15], given=False), half])
    load(source.task(), told_nothing)
    (folder,) = source.index.glob("*.load")
    index = SegmentedIndex(folder, settings(), background=False)
    vectors = {
        name: np.concatenate([np.array(part[name].to_pylist(), np.float16) for part in (table(records[:15]), half)])
        for name in ("search", "score")
    }
    terms, codes = TERMS.build().terms(vectors["search"]), CODE.build().codes(vectors["score"], vectors["search"])
    newest = {each.image_id: row for row, each in enumerate(records)}
    for image_id, found in zip(newest, index.terms_and_codes(list(newest)), strict=True):
        row = newest[image_id]
        assert found is not None
        assert found[0].tolist() == (terms[row] if row < 15 else records[row].terms).tolist()
        assert found[1] == codes[row].tobytes()
    index.close()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("search", np.full(24, np.nan), r"part-1\.parquet: row 3: search\[0\] is not a number"),
        ("score", np.zeros(12), r"part-1\.parquet: row 3: all 12 numbers of score are zero"),
        ("image_id", "", r"part-1\.parquet: row 3: the image id is empty"),
        ("image_id", "x" * 300, r"part-1\.parquet: row 3: the image id has 300 bytes"),
        ("image_id", "image-0", r"part-1\.parquet: row 3: image 'image-0' has version .* versions must rise"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, column: str, value: Any, message: str) -> None:
    records = [insert(place, f"image-{place}", 1 if place else 2) for place in range(20)]
    files = files_of(records, 10, given=False)
    values = files[1][column].to_pylist()
    values[3] = value.astype(np.float16) if isinstance(value, np.ndarray) else value
    at = files[1].schema.get_field_index(column)
    files[1] = files[1].set_column(at, column, pa.array(values, files[1].schema.field(column).type))
    source = given(tmp_path, records).rewrite(files)
    with pytest.raises(BadInputError, match=message):
        load(source.task(segment_entries=4), told_nothing)


def test_a_manifest_without_rows_is_refused(tmp_path: Path) -> None:
    source = given(tmp_path, [])
    with pytest.raises(BadInputError, match=r"manifest first\.json has no rows"):
        load(source.task(), told_nothing)


def test_another_manifest_than_was_asked_for_is_refused(tmp_path: Path) -> None:
    source = given(tmp_path, images(5, 1))
    task = source.task()
    source.rewrite(files_of(images(6, 2), 3))
    with pytest.raises(MismatchError, match="was asked for: it was replaced"):
        load(task, told_nothing)
    delta = write(source.root, files_of(images(6, 2), 3), Kind.DELTA)
    with pytest.raises(BadInputError, match="is a delta, no snapshot"):
        load(_with(task, request(source.root, delta)), told_nothing)


def test_files_that_changed_or_were_made_for_others_are_refused(tmp_path: Path) -> None:
    source = given(tmp_path, images(50, 1))
    task = source.task(segment_entries=10)
    with pytest.raises(MismatchError, match=r"was made for 'photos; .*', the settings say 'faces'"):
        load(_with(task, signal="faces"), told_nothing)
    file = source.root / "data" / "part-1.parquet"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")
    with pytest.raises(MismatchError, match=r"part-1\.parquet has .* it was changed after the manifest was written"):
        load(task, told_nothing)
    file.write_bytes(content)
    seen: list[Progress] = []
    load(task, seen.append)
    assert seen[0].rows_done == 20  # what was sealed before it failed


def test_one_load_at_a_time_and_each_in_its_own_folder(tmp_path: Path) -> None:
    source = given(tmp_path, images(5, 1))
    task = source.task()
    with IndexGenerations(source.index).building(), pytest.raises(IndexLockedError, match="another process builds"):
        load(task, told_nothing)
    load(task, told_nothing)
    load(_with(task, request(source.root, source.manifest, "another")), told_nothing)  # the rows are the same
    (tmp_path / "other").mkdir()
    other = given(tmp_path / "other", images(7, 2)).task()
    with pytest.raises(IndexDamagedError, match=r"was not built of manifest"):
        load(replace(other, index=task.index), told_nothing)


def test_an_index_that_is_not_verified_stays_and_is_verified_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = given(tmp_path, images(5, 1))

    def killed(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loader, "verify", killed)
        with pytest.raises(KeyboardInterrupt):
            load(source.task(), told_nothing)
    seen: list[Progress] = []
    load(source.task(), seen.append)
    assert seen == [Progress(5, 5, verifying=True)]


def test_the_pace_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spent: list[int] = []
    monkeypatch.setattr(loader.RateLimiter, "spend", lambda _, rows: spent.append(rows))
    load(given(tmp_path, images(50, 1)).task(rows_per_s=10.0), told_nothing)
    assert sum(spent) == 50


def _with(task: LoadTask, asked: LoadRequest | None = None, **fields: Any) -> LoadTask:
    return replace(task, request=asked or task.request, **fields)
