"""A server that takes a first load, for tests of whoever asks both of them."""

from __future__ import annotations

import random
from dataclasses import replace

from core.errors import MismatchError, UnavailableError
from core.first_loads import LoadReport, LoadRequest, LoadState
from core.types import LogPosition

__all__ = ["ROWS", "LoadingServer"]

ROWS = 30
"""Of each manifest."""

ACTIVE = (LoadState.LOADING, LoadState.WAITING, LoadState.READY)


class LoadingServer:
    """A server that loads ten rows at each look, as both real ones do: one load at a time, calls may be repeated."""

    def __init__(self, dice: random.Random | None = None) -> None:
        self.report: LoadReport | None = None
        self.applied = False
        self.down = False
        self.fails_at = ROWS + 1
        self.why = ""
        self.adopted: tuple[str, int] | None = None
        self.follows: LogPosition | None = None
        self.starting = 0
        """How often it is asked before it has started again on what it adopted."""
        self.begun: list[str] = []
        """The ids of the manifests whose load it began, in order."""
        self._dice = dice

    def _answer(self) -> None:
        if self._dice is not None and self._dice.random() < 0.2:
            raise UnavailableError("down")
        if self.down:
            raise UnavailableError("down")

    def _known(self, manifest_id: str) -> LoadReport:
        if self.report is None or self.report.request.manifest_id != manifest_id:
            raise MismatchError("no such load")
        return self.report

    def load(self, request: LoadRequest) -> LoadReport:
        self._answer()
        report = self.report
        if self.applied:
            raise MismatchError("something was applied")
        if report is not None and (report.state in ACTIVE or report.state is LoadState.LIVE):
            if report.request.manifest_id != request.manifest_id:
                raise MismatchError("another load")
            self.report = report = replace(report, request=request)
            return report
        self.begun.append(request.manifest_id)
        self.report = LoadReport(request, LoadState.LOADING, rows_total=ROWS)
        return self.report

    def load_status(self, manifest_id: str = "") -> LoadReport | None:
        self._answer()
        self.starting -= 1
        if self.starting == 0:
            self.finish_load(self._loaded().request.manifest_id)
        report = self.report
        if report is not None and report.state is LoadState.LOADING:
            rows = report.rows_done + 10
            state = LoadState.READY if rows >= ROWS else LoadState.LOADING
            if rows >= self.fails_at:
                self.report = replace(report, rows_done=rows, state=LoadState.FAILED, detail=self.why)
            else:
                self.report = replace(report, rows_done=rows, state=state)
        return self.report

    def abort_load(self, manifest_id: str) -> LoadReport:
        self._answer()
        report = self._known(manifest_id)
        if report.state is LoadState.LIVE:
            raise MismatchError("it is live")
        if report.state in ACTIVE:
            self.report = report = replace(report, state=LoadState.ABORTED)
        return report

    def finish_load(self, manifest_id: str) -> LoadReport:
        self._answer()
        report = self._known(manifest_id)
        if report.state not in (LoadState.READY, LoadState.LIVE):
            raise MismatchError("it is not ready")
        self.report = replace(report, state=LoadState.LIVE)
        return self.report

    def adopt_load(self, manifest_id: str, log_id: str, base: int) -> LoadReport:
        self._answer()
        report = self._known(manifest_id)
        if report.state is not LoadState.READY:
            raise MismatchError("it is not ready")
        if base != report.rows_total:
            raise MismatchError("another base")
        self.adopted = log_id, base
        if self.starting <= 0:
            self.starting = 2
        return report

    def describe(self) -> LogPosition:
        self._answer()
        if self.follows is not None:
            return self.follows
        live = self.report is not None and self.report.state is LoadState.LIVE
        return LogPosition("topic", ROWS - 1, 0, ROWS) if live else LogPosition("", -1, 0, 0)

    def _loaded(self) -> LoadReport:
        assert self.report is not None
        return self.report

    def close(self) -> None:
        """Nothing is open."""
