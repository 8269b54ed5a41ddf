"""What the calls on loads do: the first load of the store, and the deltas that follow it."""

from __future__ import annotations

from pathlib import Path

from core.first_loads import LoadReport, LoadRequest
from storage.interfaces import ClusterStore
from storage.loading.delta_report import DeltaReport
from storage.serving.delta_feeder import DeltaFeeder
from storage.serving.delta_run import FeederParts
from storage.serving.first_loads import FirstLoads

__all__ = ["Loads", "no_loads"]


class Loads:
    """Passes each call on to the one or the other. They raise what the two raise."""

    def __init__(self, first: FirstLoads, deltas: DeltaFeeder) -> None:
        """Takes both."""
        self._first = first
        self._deltas = deltas

    def load(self, request: LoadRequest) -> LoadReport | None:
        """Begins a load, or goes on with it."""
        return self._deltas.load(request).load if request.is_delta else self._first.load(request)

    def report(self, manifest_id: str = "") -> LoadReport | None:
        """How far a load is; without an id the first load. None: nobody has asked for it."""
        if manifest_id and (delta := self._deltas.report(manifest_id)) is not None:
            return delta.load
        found = self._first.report()
        return found if found is not None and manifest_id in ("", found.request.manifest_id) else None

    def deltas(self, manifest_id: str = "") -> list[DeltaReport]:
        """How far deltas are: all that are listed, or one."""
        if not manifest_id:
            return self._deltas.reports()
        found = self._deltas.report(manifest_id)
        return [] if found is None else [found]

    def abort(self, manifest_id: str) -> LoadReport | None:
        """Ends a load."""
        if self._deltas.report(manifest_id) is not None:
            return self._deltas.abort(manifest_id).load
        return self._first.abort(manifest_id)

    def finish(self, manifest_id: str) -> LoadReport | None:
        """Makes a first load live that is ready."""
        return self._first.finish(manifest_id)


def no_loads(store: ClusterStore) -> Loads:
    """Of a server that was not told what may be loaded: each load is refused."""
    parts = FeederParts(None, None, lambda: 0, Path())
    return Loads(FirstLoads(store, None, lambda: None), DeltaFeeder(store, parts))
