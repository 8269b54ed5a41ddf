"""Lost pages of the index's log: what was acknowledged stays, and the call in progress is there whole or not at all."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.index.engine import SegmentedIndex
from tests.search.index.index_oracle import LOG, index_settings, insert
from tests.support.damage import zero_pages

SETTINGS = index_settings(candidates=5, sync=True)
LAST = 300


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """An index with a call in progress, and how many bytes of its log were acknowledged before. A hide was the last."""
    folder = tmp_path_factory.mktemp("written")
    index = SegmentedIndex(folder / "index", SETTINGS, background=False)
    index.insert_and_search(LOG, [insert(offset, f"i{offset}", 1, (1, 2, 3, 1)) for offset in range(5)])
    index.hide(2)
    (acknowledged,) = index._store._logs.sizes().values()
    index.insert_and_search(LOG, [insert(at, f"i{at}" * 9, 1, (1, 2, 3, 1)) for at in range(5, LAST + 1)])
    (size,) = index._store._logs.sizes().values()
    assert size > acknowledged + 5_000
    shutil.copytree(folder / "index", folder / "killed")
    index.close()
    yield folder / "killed", acknowledged
    shutil.rmtree(folder)


@pytest.mark.parametrize("seed", range(30))
def test_an_acknowledged_hide_outlives_lost_pages(written: tuple[Path, int], tmp_path: Path, seed: int) -> None:
    folder = Path(shutil.copytree(written[0], tmp_path / "index"))
    (log,) = folder.glob("log-*")
    choice = random.Random(seed)
    if seed % 3 == 0:
        with log.open("r+b") as file:  # the length was not written either
            file.truncate(choice.randrange(written[1] + 1, written[1] + 9_000))
    zero_pages(log, written[1], choice)
    for _ in range(2):
        index = SegmentedIndex(folder, SETTINGS, background=False)
        assert index.position.offset in (4, LAST)
        stored = index.get([insert(0, f"i{number}", 1, (1, 2, 3, 1)).image_id for number in range(5)])
        assert [each is not None and each.hidden for each in stored] == [False, False, True, False, False]
        index.close()
