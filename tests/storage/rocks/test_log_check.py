"""Logs of a database after a power cut: the write in progress is cut off, and any other damage is refused."""

from __future__ import annotations

import logging
import random
import shutil
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from crc32c import crc32c

from storage.errors import CorruptedError
from storage.rocks.database import Database
from storage.rocks.log_check import cut_torn_ends
from storage.rocks.options import META, RocksOptions
from storage.rocks.record_log import BLOCK_BYTES, SECTOR_BYTES, read_log
from storage.rocks.store import RocksStore
from storage.testing.decisions import assert_holds, fill
from storage.testing.model import StoreModel, seeded_actions
from storage.verify import verify
from tests.support.damage import zero_pages
from tests.support.store_writer import SMALL

QUICK = RocksOptions(sync=False)
BATCHES = 10


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[int]]]:
    """A store that was killed, and the size of its log after each of ten batches."""
    folder, sizes = tmp_path_factory.mktemp("written"), list[int]()
    store = RocksStore(folder / "store", "photos", QUICK)
    store.on_apply(lambda state: sizes.append(log_of(folder / "store").stat().st_size))
    fill(store, StoreModel(), seeded_actions(1, 50 * BATCHES, ids=100), batch=50)
    shutil.copytree(folder / "store", folder / "killed")
    store.close()
    yield folder / "killed", sizes
    shutil.rmtree(folder)


@pytest.fixture
def killed(written: tuple[Path, list[int]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0], tmp_path / "killed"))


def log_of(folder: Path) -> Path:
    """The write-ahead log in use."""
    return max((folder / "db").glob("*.log"))


def offset_of(folder: Path) -> int:
    """How far a store goes; its two relations agree."""
    store = RocksStore(folder, "photos", QUICK)
    try:
        with store.snapshot() as view:
            assert [progress.problem_count for progress in verify(view)][-1] == 0
            return view.state().position.offset
    finally:
        store.close()


def small_records(folder: Path, count: int, more: int = 0) -> Path:
    """A database that was killed after some small writes; its log. 512 records of 64 bytes fill a block.

    Args:
        folder: For the database.
        count: How many writes.
        more: Bytes that the first record is longer.
    """
    database = Database(folder / "open", QUICK, create=True)
    for number in range(count):
        database.write([(META, b"key", b"%0*d" % (39 if number else 39 + more, number))])
    shutil.copytree(folder / "open", folder / "db")
    database.close()
    return log_of(folder)


@pytest.mark.parametrize("seed", range(40))
def test_pages_of_the_last_write_may_be_lost(written: tuple[Path, list[int]], killed: Path, seed: int) -> None:
    """The write in progress is there whole or not at all; the nine acknowledged ones are there."""
    durable = written[1][-2]
    choice = random.Random(seed)
    log = log_of(killed)
    zero_pages(log, durable, choice)
    if seed % 4 == 0:
        with log.open("r+b") as file:
            file.truncate(choice.randrange(durable, log.stat().st_size))
    assert offset_of(killed) == 50 * (BATCHES - 1) - 1
    assert offset_of(killed) == 50 * (BATCHES - 1) - 1


def test_what_was_cut_off_is_said(
    written: tuple[Path, list[int]], killed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, durable = log_of(killed), written[1][-2]
    size = log.stat().st_size
    zero_pages(log, durable, random.Random(1))
    with caplog.at_level(logging.WARNING):
        offset_of(killed)
    (message,) = caplog.messages
    assert f"cut off the last {size - durable} bytes, from byte {durable} on" in message


def test_lost_pages_of_an_acknowledged_write_are_refused(written: tuple[Path, list[int]], killed: Path) -> None:
    log, last = log_of(killed), written[1][-2]
    whole = log.read_bytes()
    for start in range(0, last - 4_096, 4_096):
        log.write_bytes(whole[:start] + bytes(4_096) + whole[start + 4_096 :])
        damaged = log.read_bytes()
        with pytest.raises(CorruptedError, match=r"was acknowledged \(stop the server"):
            RocksStore(killed, "photos", QUICK)
        assert log.read_bytes() == damaged


def test_a_flipped_bit_of_the_last_write_is_refused(written: tuple[Path, list[int]], killed: Path) -> None:
    """A power cut leaves zeros, so something else damaged it, perhaps after it was acknowledged."""
    log, last = log_of(killed), written[1][-2]
    whole = log.read_bytes()
    for at in range(last + 7, len(whole), 997):
        log.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(CorruptedError, match="not by a power cut"):
            RocksStore(killed, "photos", QUICK)


def test_a_whole_block_of_zeros_is_not_skipped(tmp_path: Path) -> None:
    """RocksDB itself opens such a log, and the writes in the block are gone."""
    log = small_records(tmp_path, 3_000)
    data = log.read_bytes()
    assert len(data) > 3 * BLOCK_BYTES
    log.write_bytes(data[:BLOCK_BYTES] + bytes(BLOCK_BYTES) + data[2 * BLOCK_BYTES :])
    with pytest.raises(CorruptedError, match="intact again from byte"):
        cut_torn_ends(tmp_path / "db")


@pytest.mark.parametrize("left", range(24))
def test_a_record_may_begin_with_little_or_nothing_at_the_end_of_a_block(tmp_path: Path, left: int) -> None:
    """Then its number lies in the next block."""
    log_file = small_records(tmp_path, 600, more=64 - left)
    content = read_log(log_file.read_bytes())
    assert [record.sequence for record in content.records] == list(
        range(content.records[0].sequence, content.records[0].sequence + 600)
    )
    assert content.damaged_at is None
    cut_torn_ends(tmp_path / "db")
    ends = [record.end for record in content.records]
    behind = next(number for number, end in enumerate(ends) if end > BLOCK_BYTES)
    data = bytearray(log_file.read_bytes())
    data[ends[behind - 2] : ends[behind - 1]] = bytes(ends[behind - 1] - ends[behind - 2])
    log_file.write_bytes(data)
    with pytest.raises(CorruptedError, match="intact again"):
        cut_torn_ends(tmp_path / "db")


def test_the_first_record_of_all_was_acknowledged_if_another_follows(tmp_path: Path) -> None:
    """A power cut during the second write loses the sector that both share: no record tells which number is next."""
    log = small_records(tmp_path, 2, more=640)
    data = log.read_bytes()
    first, second = (record.end for record in read_log(data).records)
    assert SECTOR_BYTES < first < 2 * SECTOR_BYTES
    log.write_bytes(data[:SECTOR_BYTES] + bytes(second - SECTOR_BYTES))
    damaged = log.read_bytes()
    with pytest.raises(CorruptedError, match=f"intact again from byte {first}"):
        cut_torn_ends(tmp_path / "db")
    assert log.read_bytes() == damaged


def test_a_missing_record_is_noticed_by_its_number(tmp_path: Path) -> None:
    log = small_records(tmp_path, 100)
    data = log.read_bytes()
    first, second = (record.end for record in read_log(data).records[50:52])
    log.write_bytes(data[:first] + data[second:])
    with pytest.raises(CorruptedError, match="records before it are lost"):
        cut_torn_ends(tmp_path / "db")


def test_a_missing_log_is_noticed_by_the_numbers(tmp_path: Path) -> None:
    log = small_records(tmp_path, 90)
    data = log.read_bytes()
    ends = [record.end for record in read_log(data).records]
    parts = data[: ends[29]], data[ends[29] : ends[59]], data[ends[59] :]
    for number, part in enumerate(parts):
        (log.parent / f"{int(log.stem) + number:06}.log").write_bytes(part)
    cut_torn_ends(tmp_path / "db")
    (log.parent / f"{int(log.stem) + 1:06}.log").unlink()
    with pytest.raises(CorruptedError, match="records before it are lost"):
        cut_torn_ends(tmp_path / "db")


def test_a_torn_end_that_a_later_log_goes_on_from_is_cut(tmp_path: Path) -> None:
    """A start dropped the torn record, wrote on in the next log, and the removal of the old log was lost."""
    log = small_records(tmp_path, 60)
    data = log.read_bytes()
    ends = [record.end for record in read_log(data).records]
    torn = bytearray(data[ends[29] : ends[30]])
    torn[-1] ^= 1
    log.write_bytes(data[: ends[29]] + torn)
    (log.parent / f"{int(log.stem) + 1:06}.log").write_bytes(data[ends[29] :])
    cut_torn_ends(tmp_path / "db")
    assert log.read_bytes() == data[: ends[29]]


def test_bytes_of_a_value_are_no_record(tmp_path: Path) -> None:
    """A stranger's vector may hold the bytes of an intact record; it stops no start after a power cut."""
    payload = struct.pack("<QI", 1, 1) + b"\1\3key\5value"
    checksum = crc32c(b"\1" + payload)
    masked = ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
    forged = struct.pack("<IHB", masked, len(payload), 1) + payload
    assert len(read_log(forged).records) == 1
    database = Database(tmp_path / "open", QUICK, create=True)
    for number in range(5):
        database.write([(META, b"key", b"%d" % number)])
    durable = log_of_database(tmp_path / "open").stat().st_size
    database.write([(META, b"large", random.Random(1).randbytes(9_000) + forged * 50)])
    shutil.copytree(tmp_path / "open", tmp_path / "db")
    database.close()
    log = log_of(tmp_path)
    data = log.read_bytes()
    log.write_bytes(data[: durable + 512] + bytes(4_096) + data[durable + 4_608 :])
    cut_torn_ends(tmp_path / "db")
    assert log.stat().st_size == durable
    database = Database(tmp_path / "db", QUICK, create=False)
    assert database.get(META, b"key") == b"4"
    assert database.get(META, b"large") is None
    database.close()


def log_of_database(folder: Path) -> Path:
    """The write-ahead log in use."""
    return max(folder.glob("*.log"))


def test_the_last_edits_of_the_manifest_may_be_lost(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "store", "photos", SMALL)
    fill(store, StoreModel(), seeded_actions(3, 3_000, ids=500), batch=100)
    (manifest,) = (tmp_path / "store" / "db").glob("MANIFEST-*")
    data = manifest.read_bytes()
    store.close()
    (manifest,) = (tmp_path / "store" / "db").glob("MANIFEST-*")
    ends = [record.end for record in read_log(data).records]
    crossing = 0
    for durable, end in pairwise(ends):
        sector = (durable // SECTOR_BYTES + 1) * SECTOR_BYTES
        for lost in (durable, sector):
            for size in (end, len(data)):  # alone, or with all that were synced together with it
                if lost < end:
                    crossing += lost == sector
                    manifest.write_bytes(data[:lost] + bytes(size - lost))
                    cut_torn_ends(tmp_path / "store" / "db")
                    assert manifest.read_bytes() == data[:durable]
    assert crossing
    manifest.write_bytes(data[:20] + bytes(30) + data[50:])
    with pytest.raises(CorruptedError, match="MANIFEST"):
        RocksStore(tmp_path / "store", "photos", SMALL)


def test_edits_that_were_synced_together_may_be_lost_but_for_the_last(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "store", "photos", SMALL)
    fill(store, StoreModel(), seeded_actions(3, 3_000, ids=500), batch=100)
    (manifest,) = (tmp_path / "store" / "db").glob("MANIFEST-*")
    data = manifest.read_bytes()
    store.close()
    (manifest,) = (tmp_path / "store" / "db").glob("MANIFEST-*")
    ends = [record.end for record in read_log(data).records]
    tried = 0
    for durable, later in pairwise(ends):
        sector = (durable // SECTOR_BYTES + 1) * SECTOR_BYTES
        if sector < later and len(data) > sector + SECTOR_BYTES and durable % SECTOR_BYTES:
            manifest.write_bytes(data[:durable] + bytes(sector - durable) + data[sector:])
            cut_torn_ends(tmp_path / "store" / "db")
            assert manifest.read_bytes() == data[:durable]
            # A sector that is lost as a whole was written once.
            manifest.write_bytes(data[:sector] + bytes(SECTOR_BYTES) + data[sector + SECTOR_BYTES :])
            with pytest.raises(CorruptedError, match="intact again"):
                cut_torn_ends(tmp_path / "store" / "db")
            tried += 1
    assert tried


def test_nothing_is_wrong_with_a_store_that_flushes_and_merges(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs come and go all the time; whenever a write is acknowledged, all of them are whole."""
    store, model = RocksStore(tmp_path / "store", "photos", SMALL), StoreModel()
    names = set[str]()
    problems = []

    def check(_: object) -> None:
        names.update(path.name for path in (tmp_path / "store" / "db").glob("*.log"))
        try:
            cut_torn_ends(tmp_path / "store" / "db")
        except CorruptedError as error:
            problems.append(error)

    store.on_apply(check)
    fill(store, model, seeded_actions(3, 6_000, ids=500), batch=100)
    assert not problems
    assert not caplog.messages
    assert len(names) > 2
    assert_holds(store, model)
    store.close()
