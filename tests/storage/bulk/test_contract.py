"""What people say does the same when every override that moves images is a bulk move."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.overrides import OverrideOutcome, OverrideRequest
from storage.interfaces import ClusterStore
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.testing.overrides import OverrideContract
from storage.testing.rollbacks import RollbackContract


class Settled(RocksStore):
    """Each move is over before anybody looks."""

    def override(self, request: OverrideRequest, at_ms: int, *, dry_run: bool = False) -> OverrideOutcome:  # type: ignore[misc]
        said = super().override(request, at_ms, dry_run=dry_run)
        while self.settle(1):
            pass
        return said


class TestBulkMoves(OverrideContract, RollbackContract):
    """The contract of what people say."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ClusterStore]:
        store = Settled(tmp_path, options=RocksOptions(sync=False), moves_at_once=0)
        yield store
        store.close()
