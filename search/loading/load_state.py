"""What is known of a first load: what was asked for, and how far it is. It is kept in a file beside the generations."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from core.checked_json import read_checked, write_checked
from core.errors import MismatchError
from search.index.errors import IndexDamagedError

__all__ = ["LoadRequest", "LoadState", "LoadStatus", "read_status", "write_status"]

_FORMAT = 1


class LoadState(StrEnum):
    """How far a load is."""

    LOADING = "loading"
    WAITING = "waiting"
    """For what the detail says; it goes on by itself."""
    FAILED = "failed"
    """The detail says why; nothing is left of it. It can be asked for again."""
    READY = "ready"
    """Whole and verified, and not live."""
    LIVE = "live"
    ABORTED = "aborted"
    """Nothing is left of it. It can be asked for again."""

    @property
    def is_under_way(self) -> bool:
        """Whether another load must wait."""
        return self in (LoadState.LOADING, LoadState.WAITING, LoadState.READY)


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What is loaded. Two are the same load if manifest id and log id are equal."""

    folder: str
    """The URI of the folder."""
    manifest: str
    """The name of the manifest."""
    manifest_id: str
    """Its content id."""
    log_id: str
    """The log that follows its rows."""

    @property
    def name(self) -> str:
        """What the build is called."""
        return f"manifest {self.manifest_id} before log {self.log_id}"


@dataclass(frozen=True, slots=True)
class LoadStatus:
    """How far a load is. Times are milliseconds since the epoch, 0 for none."""

    request: LoadRequest
    started_ms: int
    state: LoadState = LoadState.LOADING
    detail: str = ""
    rows_done: int = 0
    rows_total: int = 0
    """0 until the manifest was read."""
    images: int = 0
    """That a search finds, of a load that is ready."""
    generation: str = ""
    """That it became, or becomes when it is adopted; "" before it is ready."""
    ended_ms: int = 0
    """When it was ready, failed or was aborted."""
    rows_per_s: float = field(default=0.0, compare=False)
    """Since the process that loads was started."""


def write_status(path: Path, status: LoadStatus) -> None:
    """Replaces the file.

    Raises:
        OSError: It could not be written.
    """
    write_checked(path, _FORMAT, {**asdict(status), "rows_per_s": 0.0})


def read_status(path: Path) -> LoadStatus | None:
    """The file's content; None without a file.

    Raises:
        IndexDamagedError: It cannot be read.
        MismatchError: A later release wrote it.
    """
    try:
        found = read_checked(path)
        if not found.checked:
            raise ValueError("it has no checksum")
        if found.format != _FORMAT:
            raise MismatchError(f"{path} has format {found.format}, this program reads format {_FORMAT}")
        body = dict(found.body)
        return LoadStatus(LoadRequest(**body.pop("request")), state=LoadState(body.pop("state")), **body)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexDamagedError(f"{path} is damaged ({error}): delete it, and ask for the load again") from error
