"""The log of an index as a chain of files. The last one grows; older ones are removed once their records are sealed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from core.errors import UnavailableError
from core.files import sync_folder
from search.index.errors import IndexDamagedError
from search.index.frame_log import FrameLog
from search.index.manifest import log_name

__all__ = ["LogChain"]


class LogChain:
    """Log files, numbered without a gap. Not thread-safe."""

    def __init__(self, folder: Path, first: int, sync: bool) -> None:
        """Opens the logs from `first` on; `replay` must run to its end before anything else.

        Raises:
            IndexDamagedError: One is missing.
        """
        self._folder = folder
        self._sync = sync
        numbers = sorted(_number(path) for path in folder.glob("log-*") if _number(path) >= first)
        if numbers != list(range(first, first + max(1, len(numbers)))):
            raise IndexDamagedError(
                f"{folder / log_name(first)} or one of the logs after it is missing (there are {numbers}): "
                "restore the folder from a copy, or delete it and build the index again"
            )
        self._logs = {number: FrameLog(folder / log_name(number), sync) for number in numbers}
        if sync:
            # A killed `rotate` may have left the name of the newest log in memory alone.
            sync_folder(folder)

    @property
    def size(self) -> int:
        """Bytes of all logs."""
        return sum(one.size for one in list(self._logs.values()))

    @property
    def growing(self) -> int:
        """The number of the log that grows."""
        return max(self._logs)

    def replay(self) -> Iterator[tuple[str, bytes]]:
        """All frames in order, each with a text on where it ends; a torn end of the last log is cut off.

        The last log is the last one that is not empty: after a failed `rotate`, an empty file may follow the log that
        went on growing.

        Raises:
            IndexDamagedError: A log is damaged in a way that no crash explains.
        """
        last = max((number for number, one in self._logs.items() if one.path.stat().st_size > 0), default=0)
        for number, one in self._logs.items():
            for frame in one.replay(whole=number < last):
                yield f"{one.path} before byte {one.size}", frame

    def append(self, frame: bytes) -> None:
        """See `FrameLog.append`."""
        self._logs[self.growing].append(frame)

    def rotate(self) -> int:
        """Begins the next log and returns its number.

        Raises:
            UnavailableError: It could not be made; the current one goes on growing.
        """
        number = self.growing + 1
        path = self._folder / log_name(number)
        try:
            path.touch()
            if self._sync:
                sync_folder(self._folder)
            log = FrameLog(path, self._sync)
        except OSError as error:
            raise UnavailableError(f"cannot make {path}: {error.strerror}", retry_after_s=1.0) from error
        list(log.replay())
        self._logs[number] = log
        return number

    def drop_before(self, number: int) -> None:
        """Removes the logs below a number."""
        for old in [one for one in self._logs if one < number]:
            log = self._logs.pop(old)
            log.close()
            log.path.unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        """The size of each log, by name."""
        return {one.path.name: one.size for one in self._logs.values()}

    def close(self) -> None:
        """Closes all files."""
        for one in self._logs.values():
            one.close()


def _number(path: Path) -> int:
    tail = path.name.removeprefix("log-")
    return int(tail) if tail.isdigit() else -1
