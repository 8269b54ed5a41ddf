"""What the index and storage hold, on the real servers: every difference is told, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import chain, repeat
from typing import Any

import pytest

from core.errors import BusyError
from core.protos.joined_pb2 import JoinedDelete, JoinedRecord
from core.types import ImageId
from search.serving.admission import AdmissionPolicy
from search.serving.client import SearchClient
from storage.serving import storage_pb2 as storage_pb
from storage.serving.client import StorageClient
from stream.index_comparison import LOOKS, Compared, Side, compare_with_index
from stream.index_differences import Difference, Remedy
from tests.support.fake_servers import FakeScorer
from tests.support.town import Town, record

IMAGES = 30
AGAIN = "again"
"""An image with two versions."""

GONE, LATE, SECRET = (ImageId(each) for each in ("gone", "late", "secret"))
"""Images that were deleted; the last one is forgotten."""

VERSIONS = [*(f"i{number}" for number in range(IMAGES - 1)), AGAIN]
"""The images that are there, by place; the last one has a second version."""

DELETED_AT = {GONE: IMAGES + 4, LATE: IMAGES + 5, SECRET: IMAGES + 6}


def order() -> list[bytes]:
    """Images, a second version, and deletes."""
    records = [record(image_id, offset) for offset, image_id in enumerate(VERSIONS)]
    records.append(record(AGAIN, IMAGES, version=2))
    records += [record(image_id, IMAGES + 1 + at) for at, image_id in enumerate(DELETED_AT)]
    deletes = (JoinedDelete(image_id=each, forget=each == SECRET) for each in DELETED_AT)
    return records + [JoinedRecord(delete=each).SerializeToString(deterministic=True) for each in deletes]


SIDES = {Side.IMAGES: IMAGES, Side.DELETES: 3, Side.INDEX: IMAGES + 3}
"""How many a whole comparison compares."""


class Compare:
    """The two servers with some images, and the comparison of both."""

    def __init__(self, town: Town, storage: StorageClient, index: SearchClient) -> None:
        self.town, self.storage, self.index = town, storage, index
        self.waits: list[float] = []

    def run(self, sample: int | None = None) -> Compared:
        return list(compare_with_index(self.storage, self.index, sample, self.waits.append))[-1]

    def problems(self) -> dict[str, str]:
        return {image_id: each.text for image_id, each in self.run().problems.items()}

    @property
    def content(self) -> Any:
        """What the store holds, to be damaged."""
        return self.town.store._content

    def change(self, image_id: str, **fields: object) -> None:
        key = ImageId(image_id)
        self.content.image_of[key] = replace(self.content.image_of[key], **fields)


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    scorer = FakeScorer()
    with pytest.MonkeyPatch.context() as patched:
        for module in ("score", "assign"):
            patched.setattr(f"operators.{module}.open_scorer", lambda address: scorer)
        town = Town(tmp_path_factory.mktemp("town"), scorer)
        town.admission = AdmissionPolicy(interactive_per_s=0)  # no test waits in earnest
        town.start()
        for offset, payload in enumerate(order()):
            town.send(offset, payload)
        town.run_until(lambda: town.position() == len(order()) - 1)
        yield town
        town.stop()
        for step in town.steps:
            step.function.close()


@pytest.fixture
def both(towns: Town) -> Iterator[Compare]:
    content = towns.store._content
    assert content is not None
    before = content.copy()
    with ExitStack() as parts:
        storage = parts.enter_context(closing(StorageClient(towns.address(2).address, 5.0, 1 << 20)))
        index = parts.enter_context(closing(SearchClient(towns.address(0).address, 5.0, 1 << 20)))
        yield Compare(towns, storage, index)
    towns.store._content = before


def test_what_agrees_is_no_problem(both: Compare) -> None:
    assert both.run() == Compared(Side.INDEX, IMAGES + 3, IMAGES + 3, SIDES)
    assert both.waits == []


def test_a_sample_is_about_as_large_and_always_the_same(both: Compare) -> None:
    found = [both.run(sample=IMAGES // 2) for _ in range(2)]
    assert found[0] == found[1]
    assert 0 < found[0].compared[Side.IMAGES] < IMAGES
    assert 0 < found[0].compared[Side.INDEX] < IMAGES
    assert both.run(sample=1).compared[Side.DELETES] < 3
    assert both.run(sample=1_000_000).compared == SIDES


def test_every_difference_is_told_after_several_looks(both: Compare) -> None:
    both.change("i1", version=9)
    both.change("i2", unscored=True)
    content = both.content
    content.embedding_at[3] = replace(content.embedding_at[3], score_code=b"another")
    content.image_of[ImageId("ghost")] = replace(content.image_of[ImageId("i4")], image_id=ImageId("ghost"))
    content.image_of[ImageId("mute")] = replace(
        content.image_of[ImageId("i4")], image_id=ImageId("mute"), unscored=True
    )
    assert both.problems() == {
        "i1": "the index has version 1 at place 1, storage has version 9 at place 1",
        "i2": "it was not scored, and the index finds it",
        "i3": "its score code in the index is another one",
        "ghost": "the index does not have it",
    }
    assert len(both.waits) == LOOKS - 1


def test_a_delete_is_told_that_only_one_of_them_has(both: Compare) -> None:
    content = both.content
    tombstones, images = content.tombstone_of, content.image_of
    tombstones[ImageId("i5")] = replace(tombstones[GONE], image_id=ImageId("i5"), position=35)
    del images[ImageId("i5")]
    tombstones[ImageId("never")] = replace(tombstones[GONE], image_id=ImageId("never"), version=2, position=7)
    del tombstones[GONE]
    tombstones[LATE] = replace(tombstones[LATE], position=8)
    found = both.run().problems
    assert {image_id: each.text for image_id, each in found.items()} == {
        "i5": "the index has version 1 at place 5, storage deleted version 1 at position 35",
        "never": "the index does not know that storage deleted version 2 at position 7",
        GONE: f"the index deleted version 1 at place {DELETED_AT[GONE]}, storage does not know it",
        LATE: f"the index deleted version 1 at place {DELETED_AT[LATE]}, storage deleted version 1 at position 8",
    }
    assert found.pop(GONE).remedy is Remedy.DELETE
    assert {each.remedy for each in found.values()} == {Remedy.BUILD}


def test_an_image_is_told_that_only_one_of_them_deleted(both: Compare) -> None:
    content = both.content
    del content.tombstone_of[GONE]
    content.image_of[GONE] = replace(content.image_of[ImageId("i4")], image_id=GONE, unscored=True)
    assert both.run().problems == {
        GONE: Difference(
            f"the index deleted version 1 at place {DELETED_AT[GONE]}, storage has version 1 at place 4", Remedy.DELETE
        )
    }


def test_an_image_is_told_that_only_the_index_has(both: Compare) -> None:
    del both.content.image_of[ImageId("i6")]
    assert both.run().problems == {
        "i6": Difference("the index has version 1 at place 6, storage does not know it", Remedy.SEND)
    }


def test_a_version_is_told_that_searches_find_beside_the_last_one(both: Compare) -> None:
    """The index has lost that it is hidden. A question for the image gives the last version, which is right."""
    state = both.town.index._store.state  # type: ignore[attr-defined]
    source, entry = state.place_of(IMAGES - 1)
    hidden = state.sources[source].hidden
    before, hidden[entry] = hidden[entry], 0
    try:
        assert both.problems() == {
            AGAIN: f"the index has version 1 at place {IMAGES - 1}, storage has version 2 at place {IMAGES}"
        }
    finally:
        hidden[entry] = before


def test_a_forgotten_image_is_found_by_the_position_of_its_delete(both: Compare) -> None:
    """Before it is erased from the index and after it, when it has another pseudonym there."""
    position, index = DELETED_AT[SECRET], both.town.index
    assert [each.image_id for each in both.index.get((), [position]).listed] == [SECRET]
    (name,) = (each for each in both.content.tombstone_of if each not in (GONE, LATE))
    original = both.content.tombstone_of[name]
    for erased in (False, True):
        if erased:
            index.release(index.position.offset)
            index.tidy()  # type: ignore[attr-defined]
            (listed,) = both.index.get((), [position]).listed
            assert listed.erased
            assert listed.image_id not in (SECRET, name)
        assert both.problems() == {}
        both.content.tombstone_of[name] = replace(original, position=9)
        found = both.problems()
        assert found.pop(name) == "the index does not know that storage deleted version 1 at position 9"
        assert list(found) == ([] if erased else [SECRET])
        both.content.tombstone_of[name] = original


@pytest.mark.parametrize("kind", ["image of storage", "delete of storage", "image of the index", "delete of the index"])
def test_what_was_only_on_its_way_is_no_problem(both: Compare, kind: str) -> None:
    before, content = both.content.copy(), both.content
    match kind:
        case "image of storage":
            both.change("i1", version=9)
        case "delete of storage":
            content.tombstone_of[GONE] = replace(content.tombstone_of[GONE], version=9)
        case "image of the index":
            del content.image_of[ImageId("i1")]
        case _:
            del content.tombstone_of[GONE]

    def mend() -> None:
        both.town.store._content = before

    both.waits = _Mending(mend)
    assert both.run().problems == {}
    assert len(both.waits) == 1


def test_a_busy_server_is_asked_again(both: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refusals = both.index.get, [BusyError("later", 0.25), BusyError("later", None)]

    def get(*asked: Any) -> Any:
        if refusals:
            raise refusals.pop(0)
        return real(*asked)

    monkeypatch.setattr(both.index, "get", get)
    assert both.run().problems == {}
    assert both.waits == [0.25, 1.0]


def test_it_waits_for_the_one_that_is_behind(both: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    both.change("i1", version=9)
    offsets = chain([5, 5, 7, 9], repeat(len(order()) - 1))
    monkeypatch.setattr(both.storage, "describe", lambda: storage_pb.DescribeResponse(offset=next(offsets)))
    assert set(both.run().problems) == {"i1"}
    assert len(both.waits) == 3 + LOOKS - 1


def test_an_index_of_other_images_ends_the_comparison_early(both: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.index_comparison.MOST_SUSPECTS", 3)
    for number in range(10):
        both.change(f"i{number}", version=9)
    found = both.run()
    assert len(found.problems) == 10
    assert found.cut_short


def test_one_that_was_far_behind_is_compared_whole(both: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was on its way alone would end the comparison early."""
    monkeypatch.setattr("stream.index_comparison.MOST_SUSPECTS", 3)
    before, behind = both.content.copy(), [True]
    for number in range(10):
        del both.content.image_of[ImageId(f"i{number}")]

    def mend() -> None:
        both.town.store._content = before
        behind.clear()

    describe = both.storage.describe
    monkeypatch.setattr(
        both.storage, "describe", lambda: storage_pb.DescribeResponse(offset=5) if behind else describe()
    )
    both.waits = _Mending(mend)
    assert both.run() == Compared(Side.INDEX, IMAGES + 3, IMAGES + 3, SIDES)


def test_a_comparison_that_ended_early_says_so_if_no_suspect_lasts(
    both: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.index_comparison.MOST_SUSPECTS", 3)
    before = both.content.copy()
    for number in range(10):
        both.change(f"i{number}", version=9)

    def mend() -> None:
        both.town.store._content = before

    both.waits = _Mending(mend)
    found = both.run()
    assert (found.problems, found.compared[Side.DELETES], found.compared[Side.INDEX]) == ({}, 0, 0)
    assert found.cut_short


class _Mending(list[float]):
    """The job catches up while the comparison waits."""

    def __init__(self, mend: Callable[[], None]) -> None:
        super().__init__()
        self._mend = mend

    def append(self, wait_s: float) -> None:
        super().append(wait_s)
        self._mend()


def test_a_busy_reading_of_tombstones_is_begun_again(both: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refusals = both.storage.embeddings, [BusyError("another reading", 0.5)]

    def embeddings() -> Iterator[Any]:
        if refusals:
            raise refusals.pop(0)
        yield from real()

    monkeypatch.setattr(both.storage, "embeddings", embeddings)
    assert both.run().compared == SIDES
    assert both.waits == [0.5]


def test_a_hidden_image_is_told(both: Compare) -> None:
    """Last in this module: the index keeps it hidden."""
    both.index.delete(["i7"])
    assert both.problems() == {"i7": "the index hides it"}
