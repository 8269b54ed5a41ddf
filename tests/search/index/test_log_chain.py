"""The chain of logs: only what grew last may have a torn tail; a tail torn before that is damage, and is not cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from search.index.codec import Hidden, encode_frame
from search.index.engine import SegmentedIndex
from search.index.errors import IndexDamagedError
from search.index.log_chain import LogChain
from search.index.manifest import log_name
from tests.search.index.index_oracle import LOG, index_settings, insert

FRAMES = [encode_frame(Hidden((number,), number)) for number in range(6)]
LENGTH = len(FRAMES[0])


def replayed(folder: Path, sync: bool = True) -> list[bytes]:
    chain = LogChain(folder, 1, sync)
    try:
        return [frame for _, frame in chain.replay()]
    finally:
        chain.close()


@pytest.fixture(params=[True, False], ids=["sync", "no sync"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Three logs of two frames each."""
    (tmp_path / log_name(1)).touch()
    chain = LogChain(tmp_path, 1, request.param)
    assert list(chain.replay()) == []
    for number, frame in enumerate(FRAMES):
        if number and number % 2 == 0:
            chain.rotate()
        chain.append(frame)
    chain.close()
    return tmp_path


def test_all_frames_come_back_in_order(folder: Path) -> None:
    assert replayed(folder) == FRAMES


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("kept", [1, LENGTH - 1, LENGTH + 1, 2 * LENGTH - 1])
def test_a_tail_that_is_torn_before_later_logs_is_refused_by_name(folder: Path, number: int, kept: int) -> None:
    path = folder / log_name(number)
    os.truncate(path, kept)
    before = path.read_bytes()
    with pytest.raises(
        IndexDamagedError, match=rf"{path.name} is damaged from byte {kept // LENGTH * LENGTH} to its end"
    ):
        replayed(folder)
    assert path.read_bytes() == before  # it may still be repaired


@pytest.mark.parametrize("kept", [1, LENGTH - 1, LENGTH + 1, 2 * LENGTH - 1])
def test_a_torn_tail_of_the_last_log_is_cut(folder: Path, kept: int) -> None:
    os.truncate(folder / log_name(3), kept)
    assert replayed(folder) == FRAMES[: 4 + kept // LENGTH]
    assert (folder / log_name(3)).stat().st_size == kept // LENGTH * LENGTH


def test_an_empty_log_that_could_not_be_begun_leaves_the_one_before_the_last(folder: Path) -> None:
    (folder / log_name(4)).touch()
    os.truncate(folder / log_name(3), LENGTH + 1)
    assert replayed(folder) == FRAMES[:5]


def test_a_log_that_is_missing_is_named(folder: Path) -> None:
    (folder / log_name(2)).unlink()
    with pytest.raises(IndexDamagedError, match=r"one of the logs after it is missing \(there are \[1, 3\]\)"):
        LogChain(folder, 1, True)


def test_an_index_whose_earlier_log_lost_its_end_does_not_open(tmp_path: Path) -> None:
    settings = index_settings(seal_entries=10)
    index = SegmentedIndex(tmp_path, settings, background=False)
    index.insert_and_search(LOG, [insert(place, f"i{place}") for place in range(10)])
    index.insert_and_search(LOG, [insert(10 + place, f"i{10 + place}") for place in range(9)])
    index.insert_and_search(LOG, [insert(19, "i19")])
    index.hide(3)  # in the third log
    index.close()
    second = tmp_path / log_name(2)
    os.truncate(second, second.stat().st_size - 3)
    with pytest.raises(IndexDamagedError, match=f"{second.name} is damaged"):
        SegmentedIndex(tmp_path, settings, background=False)
