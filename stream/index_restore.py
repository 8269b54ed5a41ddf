"""May a snapshot of the index go on beside the storage that is there?"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from core.access import Right
from core.errors import MismatchError, UnavailableError
from core.types import NO_OFFSET, LogPosition
from search.index.interface import IndexStats
from storage.errors import LockedError
from storage.opening import open_store
from storage.serving.client import StorageClient
from stream.access import credentials
from stream.errors import NoStoreError
from stream.servers import store_identity
from stream.settings import Settings
from stream.start_plan import check_released

__all__ = ["check_beside", "storage_position"]

_CALL_S = 5.0

_ASK_AGAIN_S = 1.0

_PATIENCE_S = 60.0
"""A server on a busy machine may be slow for so long, or start again."""


def storage_position(
    settings: Settings, signal_name: str, patience_s: float = _PATIENCE_S, sleep: Callable[[float], None] = time.sleep
) -> LogPosition:
    """The position of storage: of its server if that runs, else of the store on disk, opened for a moment.

    Args:
        settings: Of the deployment.
        signal_name: The signal.
        patience_s: How long a server is asked again that has the store open and does not answer.
        sleep: Waits; takes seconds.

    Raises:
        NoStoreError: No server answers, and there is no store.
        UnavailableError: A process has the store open, and no server answers.
        StorageError: The store on disk is damaged.
    """
    waited_s = 0.0
    while True:
        try:
            return _served_position(settings, signal_name)
        except UnavailableError as error:
            try:
                return _position_on_disk(settings, signal_name, error)
            except LockedError as locked:
                if waited_s >= patience_s:
                    raise UnavailableError(
                        f"{error}, although a process has the store open: try again, or see the log of the storage "
                        f"server ({locked})"
                    ) from error
        sleep(_ASK_AGAIN_S)
        waited_s += _ASK_AGAIN_S


def _served_position(settings: Settings, signal_name: str) -> LogPosition:
    server, proof = settings.signal(signal_name)[1].storage, credentials(settings, Right.READ)
    with closing(StorageClient(server.address, _CALL_S, server.max_message_bytes, proof)) as client:
        found = client.describe()
        return LogPosition(found.log_id, found.offset, found.checksum, found.base)


def _position_on_disk(settings: Settings, signal_name: str, unanswered: UnavailableError) -> LogPosition:
    name, signal = settings.signal(signal_name)
    folder = settings.signal_dir(name, "store")
    if not folder.is_dir():
        raise NoStoreError(
            f"{unanswered}, and there is no store in {folder}: start the storage server, so that its position is known"
        ) from unanswered
    store = open_store(signal.store_class, folder, store_identity(settings, name))
    with closing(store):
        return store.position()


def check_beside(storage: LogPosition, snapshot: IndexStats) -> None:
    """Makes sure that storage is not behind what the snapshot has forgotten.

    Raises:
        MismatchError: It is behind, or it followed another log.
    """
    check_released("the snapshot", snapshot.released, storage)
    position = snapshot.position
    if NO_OFFSET not in (position.offset, storage.offset) and position.log_id != storage.log_id:
        raise MismatchError(
            f"the snapshot followed the log {position.log_id!r}, storage follows {storage.log_id!r}: build the index "
            "with `neardup index build --from storage`"
        )
