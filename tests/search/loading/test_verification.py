"""Verification finds what is wrong with an index that was built, and nothing in one that is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from core.types import LogPosition
from search.index import segment
from search.index.builder import IndexBuilder
from search.index.errors import IndexDamagedError
from search.index.interface import Insert
from search.index.posting_lists import ListShape, PostingLists, invert
from search.index.rate_limiter import RateLimiter
from search.index.settings import IndexSettings
from search.loading.verification import verify
from search.ranking import Order, Ranking
from tests.search.index.index_oracle import Oracle
from tests.search.loading.manifest_of import BY_DISTANCE, LOG, images, settings

BY_OVERLAP = Ranking(3, order=Order.OVERLAP)


def built(folder: Path, told: IndexSettings, records: list[Insert], first_place: int = 0) -> Path:
    with IndexBuilder(folder, told, segment_entries=40) as builder:
        builder.add(
            np.array([first_place + one.offset for one in records], np.int64),
            [one.image_id for one in records],
            np.array([one.version for one in records], np.uint64),
            np.array([one.terms for one in records], np.uint32),
            np.array([list(one.code) for one in records], np.uint8),
        )
        builder.finish(LogPosition(LOG, first_place + len(records) - 1, 0, len(records)))
    return folder


@pytest.mark.parametrize("ranking", [BY_DISTANCE, BY_OVERLAP, Ranking(3, depth=200, min_overlap=2)])
@pytest.mark.parametrize("max_postings", [10**8, 8])
def test_a_right_index_is_verified(tmp_path: Path, ranking: Ranking, max_postings: int) -> None:
    told = settings(ranking, max_postings=max_postings)
    records = images(150, 3)
    oracle = Oracle(told)
    oracle.apply(records)
    folder = built(tmp_path / "index", told, records)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert verify(folder, told, 150, seed=1) == verify(folder, told, 150, samples=10) == oracle.images()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("ranking", [BY_DISTANCE, BY_OVERLAP])
def test_wrong_postings_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranking: Ranking) -> None:
    def swapped(
        rows: NDArray[np.uint8], entries: NDArray[np.uint32], shape: ListShape, limiter: RateLimiter | None
    ) -> PostingLists:
        return invert(np.roll(rows, 1, axis=0), entries, shape, limiter)

    monkeypatch.setattr(segment, "invert", swapped)
    folder = built(tmp_path / "index", settings(ranking), images(150, 3))
    with pytest.raises(IndexDamagedError, match=r"the search for the image at place \d+ as of place \d+ finds"):
        verify(folder, settings(ranking), 150)


def test_wrong_counts_and_places_are_found(tmp_path: Path) -> None:
    folder = built(tmp_path / "index", settings(), images(50, 3))
    with pytest.raises(IndexDamagedError, match="has 50 entries and the position 49, of 51 rows it should have 51"):
        verify(folder, settings(), 51)
    folder = built(tmp_path / "shifted", settings(), images(50, 3), first_place=1)
    with pytest.raises(IndexDamagedError, match="has not the places from 0 on"):
        verify(folder, settings(), 50)


def test_damage_is_found(tmp_path: Path) -> None:
    folder = built(tmp_path / "index", settings(), images(50, 3))
    file = folder / "segment-00000001"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(IndexDamagedError, match="is damaged"):
        verify(folder, settings(), 50)
