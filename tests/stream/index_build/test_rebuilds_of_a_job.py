"""An index that is built anew from what a job left, where calls failed and the job died: the real steps and a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from operators.decided import Decided, StoreDecisions
from storage.embeddings import EmbeddingsPage, embedding_pages
from stream.index_build.sources import ImageSource, OrderSource, StoreSource
from tests.operators.test_places_agree import IMAGES, RECORDS, check_places, live
from tests.stream.index_build.life import as_seen
from tests.stream.index_build.order import settings_in
from tests.stream.index_build.test_build import free_searches
from tests.stream.index_build.test_rebuilds import rebuilt
from tests.support.fake_servers import FakeStorage


@pytest.mark.parametrize("seed", [202, 206])
def test_what_becomes_of_images_during_a_build_from_storage_is_in_the_new_index(tmp_path: Path, seed: int) -> None:
    """A build takes hours: meanwhile images cannot be scored, and replays place them anew."""
    pages: list[EmbeddingsPage] = []

    def begin(storage: FakeStorage) -> None:
        if not pages and storage.store.position().offset >= RECORDS // 3:
            with storage.store.snapshot() as view:
                pages.extend(embedding_pages(view, 2000))

    index, storage, order = live(tmp_path / "live", seed, begin)
    source = StoreSource(iter(pages))
    anew = rebuilt(tmp_path / "anew", source, order, StoreDecisions(storage, source.released))
    check_places(anew, storage.store)
    anew.close()
    index.close()


@pytest.mark.parametrize("seed", range(100, 103))
def test_a_rebuilt_index_is_the_one_that_the_job_made(tmp_path: Path, seed: int) -> None:
    index, storage, order = live(tmp_path / "live", seed)
    ids = [f"i{number}" for number in range(IMAGES)]
    with storage.store.snapshot() as view:
        pages = list(embedding_pages(view, 2000))
    sources: list[tuple[str, ImageSource, Decided | None]] = [
        ("storage", StoreSource(iter(pages)), None),
        ("joined", OrderSource(), StoreDecisions(storage)),
    ]
    for name, source, decided in sources:
        anew = rebuilt(tmp_path / name, source, order, decided)
        assert as_seen(anew, ids) == as_seen(index, ids)
        assert anew.images == index.images
        assert free_searches(anew, settings_in(tmp_path)) == free_searches(index, settings_in(tmp_path))
        anew.close()
    index.close()
