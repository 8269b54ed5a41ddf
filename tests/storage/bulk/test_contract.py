"""What people say, and what is forgotten, does the same when every move is a bulk move."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.overrides import OverrideOutcome, OverrideRequest
from core.types import LogPosition
from storage.interfaces import ClusterStore
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.testing.forgetting import ForgetContract
from storage.testing.overrides import OverrideContract
from storage.testing.rollbacks import RollbackContract


class Settled(RocksStore):
    """Each move is over before anybody looks."""

    def override(self, request: OverrideRequest, at_ms: int, *, dry_run: bool = False) -> OverrideOutcome:  # type: ignore[misc]
        said = super().override(request, at_ms, dry_run=dry_run)
        while self.settle(1):
            pass
        return said

    def apply(self, *args: Any) -> LogPosition:  # type: ignore[misc]
        position = super().apply(*args)
        while self.settle(1):
            pass
        return position


class TestBulkMoves(ForgetContract, OverrideContract, RollbackContract):
    """The contract of what people say, and of what is forgotten."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        """The test's."""
        self._folder = tmp_path

    def make(self) -> ClusterStore:
        """In a folder of its own."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        return Settled(folder, options=RocksOptions(sync=False), moves_at_once=0)

    @pytest.fixture
    def store(self) -> Iterator[ClusterStore]:
        store = self.make()
        yield store
        store.close()
