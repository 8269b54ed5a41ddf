"""Watches the file `served` of a folder of models, and serves the version that it names."""

from __future__ import annotations

import threading

from scoring.loaded_models import LoadedModels
from scoring.serving.metrics import ScorerMetrics

__all__ = ["ModelWatch"]


class ModelWatch:
    """A thread that checks the file at an interval."""

    def __init__(self, models: LoadedModels, metrics: ScorerMetrics, every_s: float) -> None:
        """Starts the thread.

        Args:
            models: Checks the file and loads the version.
            metrics: Gets the served version, and whether another one was refused.
            every_s: Seconds between two checks.
        """
        self._models = models
        self._metrics = metrics
        self._every_s = every_s
        self._stopping = threading.Event()
        metrics.serves(models.served.card.version)
        self._thread = threading.Thread(target=self._run, name="model-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, after a load that is under way."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self.look()

    def look(self) -> None:
        """Checks once."""
        if self._models.refresh():
            self._metrics.serves(self._models.served.card.version)
        self._metrics.refused_model.set(self._models.refusal is not None)
