"""Files of the index: damage is named and refused, leftovers go, what is hidden survives, the disk may be full."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.errors import BadInputError, MismatchError, UnavailableError
from core.types import ImageId
from search.index.engine import SegmentedIndex
from search.index.errors import IndexDamagedError
from search.index.interface import Remove
from tests.search.index.index_oracle import LOG, Oracle, index_settings, insert, plain

SETTINGS = index_settings(candidates=5, seal_entries=10, merge_fan=3)


def filled(folder: Path, count: int = 64) -> Oracle:
    """An index of several segments, with entries that are hidden."""
    random = np.random.RandomState(2)
    oracle = Oracle(SETTINGS)
    index = SegmentedIndex(folder, SETTINGS, background=False)
    for first in range(0, count, 8):
        records = [
            insert(first + row, f"i{random.randint(0, 40)}", first, random.randint(0, 4, 4).tolist())
            for row in range(8)
        ]
        oracle.apply(records)
        index.insert_and_search(LOG, records)
        index.tidy()
        place = int(random.randint(0, first + 8))
        index.hide(place)
        oracle.hide(place)
    index.close()
    return oracle


def agrees(folder: Path, oracle: Oracle) -> None:
    index = SegmentedIndex(folder, SETTINGS, background=False)
    again = [plain(answer) for answer in index.insert_and_search(LOG, oracle.log)]
    assert again == [oracle.answer(record) for record in oracle.log]
    assert index.images == oracle.images()
    index.close()


def sealed(folder: Path, kind: str = "segment") -> Path:
    return sorted(folder.glob(f"{kind}-*"))[0]


def test_any_damaged_byte_of_a_sealed_file_is_refused_with_its_name(tmp_path: Path) -> None:
    oracle = filled(tmp_path / "index")
    random = np.random.RandomState(3)
    for kind in ("segment", "hidden"):
        path = sealed(tmp_path / "index", kind)
        whole = path.read_bytes()
        described = json.loads(whole[16 : 16 + int.from_bytes(whole[8:12], "little")])["sections"]
        inside = [one["offset"] for one in described.values() if 0 not in one["shape"]]
        for at in [0, 5, 9, 13, 20, len(whole) - 1, *inside, *random.choice(inside, 5).tolist()]:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << int(random.randint(8))]) + whole[at + 1 :])
            with pytest.raises(Exception, match=path.name) as caught:
                SegmentedIndex(tmp_path / "index", SETTINGS, background=False)
            assert type(caught.value).__name__ in ("IndexDamagedError", "MismatchError")
        for broken in (whole[:-1], whole[:50], b"", whole + b"x"):
            path.write_bytes(broken)
            with pytest.raises(IndexDamagedError, match=path.name):
                SegmentedIndex(tmp_path / "index", SETTINGS, background=False)
        path.unlink()
        with pytest.raises(IndexDamagedError, match=path.name):
            SegmentedIndex(tmp_path / "index", SETTINGS, background=False)
        path.write_bytes(whole)
    agrees(tmp_path / "index", oracle)


def test_a_segment_of_another_index_is_refused(tmp_path: Path) -> None:
    filled(tmp_path / "index")
    other = index_settings(groups=5, seal_entries=1)
    index = SegmentedIndex(tmp_path / "other", other, background=False)
    index.insert_and_search(LOG, [insert(0, "a", 1, (0, 0, 0, 0, 0))])
    index.tidy()
    index.close()
    sealed(tmp_path / "index").write_bytes(sealed(tmp_path / "other").read_bytes())
    with pytest.raises(IndexDamagedError, match="from another index"):
        SegmentedIndex(tmp_path / "index", SETTINGS, background=False)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"format": 1, "crc32c": 0, "body": {}}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    filled(tmp_path / "index")
    (tmp_path / "index" / "manifest.json").write_text(content)
    with pytest.raises(IndexDamagedError, match=r"manifest\.json"):
        SegmentedIndex(tmp_path / "index", SETTINGS, background=False)


def test_leftovers_are_removed(tmp_path: Path) -> None:
    oracle = filled(tmp_path / "index")
    before = {path.name for path in (tmp_path / "index").iterdir()}
    for name in ("segment-00009999", "hidden-00009999", "segment-00009998.tmp", "manifest.json.tmp", "log-00000000"):
        (tmp_path / "index" / name).write_bytes(b"left over")
    agrees(tmp_path / "index", oracle)
    assert {path.name for path in (tmp_path / "index").iterdir()} == before


@pytest.mark.parametrize("call", ["os.fsync", "os.link", "pathlib.Path.replace"])
def test_a_full_disk_leaves_segments_and_snapshots_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    settings = index_settings(candidates=5, seal_entries=4, merge_fan=2, sync=True)
    index = SegmentedIndex(tmp_path / "index", settings, background=False)
    oracle = Oracle(settings)
    for first in range(0, 24, 4):
        records = [insert(first + row, f"i{first + row}", 1, (row, first % 3, 1, 2)) for row in range(4)]
        oracle.apply(records)
        index.insert_and_search(LOG, records)
    index.tidy()
    index.insert_and_search(LOG, [insert(24 + row, f"j{row}", 1, (1, 1, 1, row % 4)) for row in range(5)])
    oracle.apply([insert(24 + row, f"j{row}", 1, (1, 1, 1, row % 4)) for row in range(5)])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(call, full)
        with pytest.raises(UnavailableError, match="No space left"):
            index.snapshot(tmp_path / "copy")
        assert not (tmp_path / "copy").exists()
        if call != "os.link":
            with pytest.raises(UnavailableError, match="No space left"):
                index.tidy()
    assert [plain(one) for one in index.insert_and_search(LOG, oracle.log)] == [oracle.answer(r) for r in oracle.log]
    index.tidy()
    index.close()
    index = SegmentedIndex(tmp_path / "index", settings, background=False)
    assert [plain(one) for one in index.insert_and_search(LOG, oracle.log)] == [oracle.answer(r) for r in oracle.log]
    index.close()


def test_a_snapshot_stands_still(tmp_path: Path) -> None:
    oracle = filled(tmp_path / "index")
    index = SegmentedIndex(tmp_path / "index", SETTINGS, background=False)
    assert index.snapshot(tmp_path / "copies" / "one").offset == oracle.position
    with pytest.raises(BadInputError, match="exists"):
        index.snapshot(tmp_path / "copies" / "one")
    for first in range(64, 164, 20):
        index.insert_and_search(LOG, [insert(first + row, f"later-{first + row}") for row in range(20)])
        index.tidy()
    index.close()
    agrees(tmp_path / "copies" / "one", oracle)


def test_what_is_released_is_merged_away(tmp_path: Path) -> None:
    settings = index_settings(candidates=50, seal_entries=10, merge_fan=2)
    index = SegmentedIndex(tmp_path / "index", settings, background=False)
    index.insert_and_search(LOG, [insert(place, f"i{place}", 1, (1, 1, 1, 1)) for place in range(20)])
    index.tidy()
    for place in range(10):
        assert index.delete([ImageId(f"i{place}")]) == [True]
        assert index.delete([ImageId(f"i{place}")]) == [False]
    before = index.stats()
    assert (before.images, before.entries, before.segments) == (10, 20, 1)
    index.tidy()
    assert index.stats().bytes.codes == before.bytes.codes  # searches as of earlier places still see them
    index.release(19)
    index.tidy()
    after = index.stats()
    assert (after.images, after.entries, after.released) == (10, 20, 19)
    assert after.bytes.codes < before.bytes.codes
    (gone,) = index.get([ImageId("i3")])
    assert gone is not None
    assert (gone.place, gone.hidden, gone.code) == (3, True, b"")
    assert index.insert_and_search(LOG, [insert(20, "i3", 1, (1, 1, 1, 1))])[0].place == 3
    index.close()


def test_what_is_released_is_known_after_a_clean_stop(tmp_path: Path) -> None:
    """A storage that is put back meanwhile must not pass for one that the index fits."""
    index = SegmentedIndex(tmp_path / "index", SETTINGS, background=False)
    index.insert_and_search(LOG, [insert(place, f"i{place}") for place in range(5)])
    index.release(3)
    index.close()
    again = SegmentedIndex(tmp_path / "index", SETTINGS, background=False)
    assert again.released == 3
    assert again.get([ImageId("i4")])[0] is not None
    again.close()


def test_removes_whose_images_came_again_are_rewritten_no_more_than_once(tmp_path: Path) -> None:
    """They keep id, version and place, so that nothing more can be dropped of them."""
    settings = index_settings(seal_entries=10, merge_fan=4)
    index = SegmentedIndex(tmp_path / "index", settings, background=False)
    index.insert_and_search(LOG, [insert(at, f"i{at}", 1) for at in range(10)])
    index.insert_and_search(LOG, [Remove(10 + at, 0, ImageId(f"i{at}"), 2) for at in range(10)])
    index.insert_and_search(LOG, [insert(20 + at, f"i{at}", 3) for at in range(10)])
    while index._store.seal():
        pass
    index.release(29)
    merges = 0
    while merges < 10 and index._store.merge():
        merges += 1
    assert merges == 1  # what the ten images were before
    assert (index.stats().segments, index.stats().images, index.stats().entries) == (3, 10, 30)
    index.close()


def test_ten_thousand_twins_are_not_lost(tmp_path: Path) -> None:
    """Pairs in one batch and in neighbouring ones, while tails are sealed and segments merged in the background."""
    settings = index_settings(groups=8, bits_per_group=16, candidates=3, seal_entries=500)
    index = SegmentedIndex(tmp_path / "index", settings)
    random = np.random.RandomState(6)
    offset = pair = 0
    missing = []
    waiting: list[tuple[int, list[int]]] = []
    while pair < 10_000 or waiting:
        batch, expected = [], []
        for number, terms in waiting:
            batch.append(insert(offset, f"b{number}", 1, terms))
            expected.append((len(batch) - 1, f"a{number}"))
            offset += 1
        waiting = []
        while len(batch) < 250 and pair < 10_000:
            terms = random.randint(0, 2**16, 8).tolist()
            batch.append(insert(offset, f"a{pair}", 1, terms))
            offset += 1
            if pair % 2:
                waiting.append((pair, terms))
            else:
                batch.append(insert(offset, f"b{pair}", 1, terms))
                expected.append((len(batch) - 1, f"a{pair}"))
                offset += 1
            pair += 1
        answers = index.insert_and_search(LOG, batch)
        missing += [name for row, name in expected if name not in answers[row].result.image_ids]
    assert missing == []
    assert index.images == 20_000
    index.close()


def test_a_manifest_of_the_last_release_is_read_and_written_anew_before_the_log_grows(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    SegmentedIndex(folder, SETTINGS, background=False).close()
    path = folder / "manifest.json"
    now = json.loads(path.read_text())
    path.write_text(json.dumps({**now, "format": 1}))
    SegmentedIndex(folder, SETTINGS, background=False).close()
    assert json.loads(path.read_text()) == now
    path.write_text(json.dumps({**now, "format": 4}))
    with pytest.raises(MismatchError, match="format 4"):
        SegmentedIndex(folder, SETTINGS, background=False)
