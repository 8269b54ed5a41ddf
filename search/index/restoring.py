"""Makes a snapshot of an index the one that serves.

The snapshot is copied into a new generation and opened there, which compares every checksum. Then the pointer
`current` is replaced. So an interrupted restore leaves the old index or the new one, never a mix. The generation that
served until now stays, as after a build.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import UnavailableError
from search.index.engine import SegmentedIndex
from search.index.errors import IndexDamagedError
from search.index.folder import locked
from search.index.generations import IndexGenerations
from search.index.interface import IndexStats
from search.index.settings import IndexSettings
from search.index.snapshot import check_snapshot, copy_file, link_or_copy

__all__ = ["restore_snapshot"]


def restore_snapshot(
    generations: IndexGenerations, snapshot: Path, settings: IndexSettings, check: Callable[[IndexStats], None]
) -> tuple[Path, IndexStats]:
    """Restores an index; no server may have it open.

    Args:
        generations: The folder of the index.
        snapshot: The folder of the snapshot, which stays as it is.
        settings: The settings that the index must have been made for.
        check: Gets what the snapshot holds, and raises if the other parts do not fit.

    Returns:
        The folder that serves from now on, and what it holds.

    Raises:
        BadInputError: There is no such snapshot.
        IndexLockedError: A server has the index open, or another process builds one.
        IndexDamagedError: The snapshot is damaged.
        MismatchError: It was made for other settings, or does not fit the other parts.
        UnavailableError: The disk does not take the copy.
    """
    info = check_snapshot(snapshot)
    with _nobody_serves(generations), generations.building() as folder:
        try:
            folder.mkdir(mode=0o700)
            for file in sorted(snapshot.iterdir()):
                kind = file.name.partition("-")[0]
                if kind in ("segment", "hidden"):
                    link_or_copy(file, folder / file.name)
                elif kind == "log" or file.name in ("index.json", "manifest.json"):
                    copy_file(file, folder / file.name)
        except OSError as error:
            raise UnavailableError(f"cannot copy {snapshot} to {folder}: {error.strerror}") from error
        index = SegmentedIndex(folder, settings, background=False)
        try:
            stats = index.stats()
        finally:
            index.close()
        if info.files and stats.position != info.position:
            raise IndexDamagedError(
                f"the snapshot {snapshot} reaches offset {stats.position.offset}, {info.position.offset} was written"
            )
        check(stats)
        return generations.adopt(folder, settings.identity), stats


@contextmanager
def _nobody_serves(generations: IndexGenerations) -> Iterator[None]:
    """Holds the lock of the generation that serves, if there is one."""
    try:
        current = generations.current()
    except IndexDamagedError:  # then no server can open it either
        current = None
    if current is None or not generations.folder(current).is_dir():
        yield
        return
    with locked(generations.folder(current)):
        yield
