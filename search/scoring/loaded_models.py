"""The models that a scorer holds in memory: the served one always, others as they are asked for."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict

from search.scoring.model import ModelLoader, PairModel
from search.scoring.model_folder import ModelFolder, version_name

__all__ = ["LoadedModels"]

log = logging.getLogger(__name__)


class LoadedModels:
    """Loads versions of one folder on demand and keeps the last used. May be shared between threads."""

    def __init__(self, folder: ModelFolder, loader: ModelLoader, kept: int = 4) -> None:
        """Loads and warms up the served version.

        Args:
            folder: Where the versions lie.
            loader: Opens one.
            kept: Versions held in memory beside the served one; the least recently used goes first.

        Raises:
            BadInputError: No version is served, or it cannot be opened.
        """
        self._folder = folder
        self._loader = loader
        self._kept = kept
        self._others: OrderedDict[str, PairModel] = OrderedDict()
        self._loading = threading.Lock()
        self.served = self._load(folder.served())
        """The model that is used when a request names none."""

    def get(self, version: str = "") -> PairModel:
        """A version, loaded and warmed up if it is not in memory; the served one without a name.

        Others that ask for a version wait while one is loaded; those that ask for the served one do not.

        Raises:
            BadInputError: There is no such version, or it cannot be opened.
        """
        if not version or version == self.served.card.version:
            return self.served
        version_name(version)
        with self._loading:
            model = self._others.get(version)
            if model is None:
                model = self._load(version)
                self._others[version] = model
                while len(self._others) > self._kept:
                    self._others.popitem(last=False)
            self._others.move_to_end(version)
            return model

    def _load(self, version: str) -> PairModel:
        model = self._folder.load(version, self._loader)
        model.warm_up()
        log.info("loaded the model %s: %d bits, %d parameters", version, model.card.bits, model.card.parameters)
        return model
