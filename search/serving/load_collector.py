"""The gauges of the first load."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from search.loading.load_state import LoadState
from search.loading.loads import Loads

__all__ = ["LoadCollector"]


class LoadCollector(Collector):
    """Shows how far the first load is; nothing if none was asked for."""

    def __init__(self, loads: Loads) -> None:
        """Takes the loads."""
        self._loads = loads

    def collect(self) -> Iterator[Metric]:
        """Reads the status."""
        status = self._loads.status
        if status is None:
            return
        gauges = {
            "rows_done": ("Rows of the first load that were taken", status.rows_done),
            "rows": ("Rows of the first load; 0 until its manifest was read", status.rows_total),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"neardup_search_load_{name}", text, value=float(value))
        states = GaugeMetricFamily("neardup_search_load_state", "1 for the state of the first load", labels=["state"])
        for state in LoadState:
            states.add_metric([state], float(state is status.state))
        yield states
