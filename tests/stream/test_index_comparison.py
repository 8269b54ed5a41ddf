"""What the index and storage have of images, on the real servers: every difference is told, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import pytest

from core.errors import BusyError
from core.types import ImageId
from search.serving.client import SearchClient
from storage.serving import storage_pb2 as storage_pb
from storage.serving.client import StorageClient
from stream.index_comparison import LOOKS, Compared, compare_with_index
from tests.support.fake_servers import FakeScorer
from tests.support.town import Town, record

IMAGES = 30


class Compare:
    """The two servers with some images, and the comparison of both."""

    def __init__(self, town: Town, storage: StorageClient, index: SearchClient) -> None:
        self.town, self.storage, self.index = town, storage, index
        self.waits: list[float] = []

    def run(self, sample: int | None = None) -> Compared:
        return list(compare_with_index(self.storage, self.index, sample, self.waits.append))[-1]

    def change(self, image_id: str, **fields: object) -> None:
        content = self.town.store._content
        assert content is not None
        key = ImageId(image_id)
        content.image_of[key] = replace(content.image_of[key], **fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    scorer = FakeScorer()
    with pytest.MonkeyPatch.context() as patched:
        for module in ("score", "assign"):
            patched.setattr(f"operators.{module}.open_scorer", lambda address: scorer)
        town = Town(tmp_path_factory.mktemp("town"), scorer)
        town.start()
        for offset in range(IMAGES):
            town.send(offset, record(f"i{offset}", offset))
        town.run_until(lambda: town.position() == IMAGES - 1)
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
    assert both.run() == Compared(IMAGES, IMAGES, IMAGES, {})
    assert both.waits == []


def test_a_sample_is_about_as_large_and_always_the_same(both: Compare) -> None:
    found = [both.run(sample=IMAGES // 2) for _ in range(2)]
    assert found[0] == found[1]
    assert 0 < found[0].compared < IMAGES
    assert both.run(sample=1_000_000).compared == IMAGES


def test_every_difference_is_told_after_several_looks(both: Compare) -> None:
    both.change("i1", version=9)
    both.change("i2", unscored=True)
    content = both.town.store._content
    assert content is not None
    content.embedding_at[3] = replace(content.embedding_at[3], score_code=b"another")
    content.image_of[ImageId("ghost")] = replace(content.image_of[ImageId("i4")], image_id=ImageId("ghost"))
    content.image_of[ImageId("mute")] = replace(
        content.image_of[ImageId("i4")], image_id=ImageId("mute"), unscored=True
    )
    assert both.run().problems == {
        "i1": "the index has version 1 at place 1, storage has version 9 at place 1",
        "i2": "it was not scored, and the index finds it",
        "i3": "its score code in the index is another one",
        "ghost": "the index does not have it",
    }
    assert len(both.waits) == LOOKS - 1


def test_what_was_only_on_its_way_is_no_problem(both: Compare) -> None:
    both.change("i1", version=9)
    both.waits = _Mending(both)
    assert both.run().problems == {}
    assert len(both.waits) == 1


def test_a_busy_server_is_asked_again(both: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refusals = both.index.get, [BusyError("later", 0.25), BusyError("later", None)]

    def get(image_ids: Any) -> Any:
        if refusals:
            raise refusals.pop(0)
        return real(image_ids)

    monkeypatch.setattr(both.index, "get", get)
    assert both.run().problems == {}
    assert both.waits == [0.25, 1.0]


def test_it_waits_for_the_one_that_is_behind(both: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    both.change("i1", version=9)
    offsets = iter([5, 5, 7, 9, 40])
    monkeypatch.setattr(both.storage, "describe", lambda: storage_pb.DescribeResponse(offset=next(offsets)))
    assert set(both.run().problems) == {"i1"}
    assert len(both.waits) == 3 + LOOKS - 1


def test_an_index_of_other_images_ends_the_comparison_early(both: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.index_comparison.MOST_SUSPECTS", 3)
    for number in range(10):
        both.change(f"i{number}", version=9)
    assert len(both.run().problems) == 10


class _Mending(list[float]):
    """The job catches up while the comparison waits."""

    def __init__(self, compare: Compare) -> None:
        super().__init__()
        self._compare = compare

    def append(self, wait_s: float) -> None:
        super().append(wait_s)
        self._compare.change("i1", version=1)


def test_a_hidden_image_is_told(both: Compare) -> None:
    """Last in this module: the index keeps it hidden."""
    both.index.delete(["i7"])
    assert both.run().problems == {"i7": "the index hides it"}
