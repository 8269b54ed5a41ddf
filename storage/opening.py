"""Opens the store that the settings name: one of ours, or one of another package or module."""

from __future__ import annotations

from pathlib import Path

from core.errors import SettingsError
from core.plugins import load_plugin
from storage.interfaces import ClusterStore

__all__ = ["open_store"]

GROUP = "neardup.stores"
"""The group of entry points under which packages declare stores."""

_OURS = {"memory": "storage.memory:MemoryStore", "rocksdb": "storage.rocks.store:RocksStore"}
"""Our own entry points, which are thus also found where the project is not installed but on the path."""


def open_store(name: str, folder: Path, identity: str) -> ClusterStore:
    """Opens the store of this name, or creates a new one.

    Args:
        name: An entry point of the group `neardup.stores`, such as `rocksdb`, or `module:Class`. What it names is
            called with `folder` and `identity`.
        folder: Where the store keeps its data.
        identity: What the store serves. A store that was created for something else is refused.

    Raises:
        SettingsError: There is nothing of this name, it cannot be imported, or it is not a store.
        StorageError: The store is damaged, open elsewhere, or was created for something else.
    """
    found = load_plugin(GROUP, _OURS.get(name, name))
    store = found(folder, identity) if callable(found) else found
    if not isinstance(store, ClusterStore):
        raise SettingsError(f"the store {name!r} is a {type(store).__name__}, not a storage.interfaces.ClusterStore")
    return store
