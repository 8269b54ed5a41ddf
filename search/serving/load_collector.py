"""The gauges of the first load."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.first_loads import LoadState
from search.loading.loads import Loads

__all__ = ["LoadCollector"]


class LoadCollector(Collector):
    """Shows how far the first load is; nothing if none was asked for."""

    def __init__(self, loads: Loads) -> None:
        """Takes the loads."""
        self._loads = loads

    def collect(self) -> Iterator[Metric]:
        """Reads the status."""
        report = self._loads.report
        if report is None:
            return
        gauges = {
            "rows": ("Rows that the first load has taken", report.rows_done),
            "rows_total": ("Rows of its manifest; 0: it was not read yet", report.rows_total),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"neardup_search_load_{name}", text, value=float(value))
        states = GaugeMetricFamily("neardup_search_load_state", "1: the first load is so", labels=["state"])
        for state in LoadState:
            states.add_metric([state], float(state is report.state))
        yield states
