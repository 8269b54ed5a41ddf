"""A store of your own: in memory, with a log of all writes.

    store_class = "examples.extending.another_store:LoggedStore"

in `[signals.photos]` makes the storage server use it. Whatever Python can import has a name like this; an installed
package may declare a shorter one as an entry point of the group `neardup.stores`.
"""

from pathlib import Path

from storage.memory import MemoryStore
from storage.staging import Changes


class LoggedStore(MemoryStore):
    def __init__(self, folder: Path, identity: str) -> None:
        super().__init__(folder, identity)
        folder.mkdir(parents=True, exist_ok=True)
        self._log = (folder / "writes.log").open("a", encoding="utf-8")

    def _commit(self, changes: Changes) -> None:
        for entry in changes.history:
            self._log.write(f"{entry.number} {entry.image_id} -> {entry.new_head} ({entry.cause})\n")
        self._log.flush()
        super()._commit(changes)
