"""The store in memory keeps the contract."""

from __future__ import annotations

from storage.interfaces import ClusterStore
from storage.memory import MemoryStore
from storage.testing import StoreContract


class TestMemoryStore(StoreContract):
    def make(self) -> ClusterStore:
        return MemoryStore()
