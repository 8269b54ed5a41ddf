"""The store of the example keeps the contract, and writes its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.extending.another_store import LoggedStore
from storage.interfaces import ClusterStore
from storage.testing import StoreContract
from storage.testing.decisions import A, B, founds, joins, put


class TestLoggedStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make(self) -> ClusterStore:
        return LoggedStore(self.folder / "store", "photos")

    def test_every_write_is_logged(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A))
        put(store, joins(2, B, A, old=A, version=2))
        assert (self.folder / "store" / "writes.log").read_text().splitlines() == [
            "1 a -> a (founded)",
            "2 b -> a (matched)",
            "3 b -> a (matched)",
        ]
