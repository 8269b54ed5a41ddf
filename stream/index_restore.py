"""May a snapshot of the index go on beside the storage that is there?"""

from __future__ import annotations

from contextlib import closing

from core.access import Right
from core.errors import MismatchError, UnavailableError
from core.types import NO_OFFSET, LogPosition
from search.index.interface import IndexStats
from storage.opening import open_store
from storage.serving.client import StorageClient
from stream.access import credentials
from stream.servers import store_identity
from stream.settings import Settings
from stream.start_plan import check_released

__all__ = ["check_beside", "storage_position"]

_CALL_S = 5.0


def storage_position(settings: Settings, signal_name: str) -> LogPosition:
    """The position of storage: of its server if that runs, else of the store on disk, opened for a moment.

    Raises:
        UnavailableError: Neither answers.
        StorageError: The store on disk is damaged, or another process has it open.
    """
    name, signal = settings.signal(signal_name)
    server, proof = signal.storage, credentials(settings, Right.READ)
    try:
        with closing(StorageClient(server.address, _CALL_S, server.max_message_bytes, proof)) as client:
            found = client.describe()
            return LogPosition(found.log_id, found.offset, found.checksum, found.base)
    except UnavailableError as error:
        folder = settings.signal_dir(name, "store")
        if not folder.is_dir():
            raise UnavailableError(
                f"{error}, and there is no store in {folder}: start the storage server, so that its position is known"
            ) from error
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
