"""The embeddings of a store whose server does not run, read from its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from core.errors import UnavailableError
from storage.embeddings import EmbeddingsPage, embedding_pages
from storage.opening import open_store
from stream.data_folders import runs
from stream.servers import store_identity
from stream.settings import Settings

__all__ = ["stored_pages"]

PAGE_BYTES = 8 * 1024 * 1024
"""Of embeddings that are in memory at once, about."""


@contextmanager
def stored_pages(
    settings: Settings, signal_name: str, unanswered: UnavailableError
) -> Iterator[Iterator[EmbeddingsPage]]:
    """All embeddings of a signal's store, as `StorageClient.embeddings` gives them. Nobody else can open it meanwhile.

    Args:
        settings: Of the deployment.
        signal_name: The signal.
        unanswered: Why the server did not give them. It is raised where the service runs, since the supervisor will
            start the server again, and where the store is not on this machine.

    Raises:
        UnavailableError: See `unanswered`.
        StorageError: A server has the store open, or it is damaged.
    """
    name, signal = settings.signal(signal_name)
    folder = settings.signal_dir(name, "store")
    if runs(settings) or not folder.is_dir() or not any(folder.iterdir()):
        raise unanswered
    with (
        closing(open_store(signal.store_class, folder, store_identity(settings, name))) as store,
        store.snapshot() as view,
    ):
        yield embedding_pages(view, PAGE_BYTES)
