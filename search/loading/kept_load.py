"""What is known of a first load, kept in a file beside the generations."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from core.checked_json import read_checked, write_checked
from core.errors import MismatchError
from core.first_loads import LoadReport, LoadRequest, LoadState
from search.index.errors import IndexDamagedError

__all__ = ["KeptLoad", "build_named", "read_kept", "write_kept"]

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class KeptLoad:
    """How far a load is; one that waits is kept as one that loads."""

    report: LoadReport
    generation: str = ""
    """That it became, or becomes when it is adopted; "" before it is ready. One that is adopted is kept as `live`."""

    @property
    def is_under_way(self) -> bool:
        """Whether it has or makes a generation that does not serve yet."""
        return self.report.state in (LoadState.LOADING, LoadState.WAITING, LoadState.READY)


def build_named(request: LoadRequest) -> str:
    """What the build of an index is called. Two requests of one name are the same load, before whatever log."""
    return f"manifest {request.manifest_id}"


def write_kept(file: Path, load: KeptLoad) -> None:
    """Replaces the file.

    Raises:
        OSError: It could not be written.
    """
    state = LoadState.LOADING if load.report.state is LoadState.WAITING else load.report.state
    write_checked(file, _FORMAT, asdict(replace(load, report=replace(load.report, state=state, rows_per_s=0.0))))


def read_kept(file: Path) -> KeptLoad | None:
    """The file's content; None without a file.

    Raises:
        IndexDamagedError: It cannot be read.
        MismatchError: A later release wrote it.
    """
    try:
        found = read_checked(file)
        if not found.checked:
            raise ValueError("it has no checksum")
        if found.format != _FORMAT:
            raise MismatchError(f"{file} has format {found.format}, this program reads format {_FORMAT}")
        body = dict(found.body["report"])
        request, state = LoadRequest(**body.pop("request")), LoadState(body.pop("state"))
        return KeptLoad(LoadReport(request, state, **body), str(found.body["generation"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexDamagedError(f"{file} is damaged ({error}): delete it, and ask for the load again") from error
