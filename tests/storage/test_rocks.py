"""The store on disk keeps the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.interfaces import ClusterStore
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.testing import StoreContract


class TestRocksStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.made = 0

    def make(self) -> ClusterStore:
        self.made += 1
        return RocksStore(self.folder / str(self.made), options=RocksOptions(sync=False))
