"""The models that a scorer holds in memory: the served version always, other versions when a request names them.

The served version can change while requests arrive. The new version is loaded, checked and warmed up while the old one
serves. If the new version is damaged or was made for other codes, the old one goes on serving.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass

from scoring.code_identity import CodeIdentity
from scoring.model import PairModel
from scoring.model_folder import ModelFolder, version_name

__all__ = ["LoadedModels", "Refusal"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the version that the pointer names is not served."""

    version: str
    """Empty if the pointer itself cannot be read."""
    reason: str


class LoadedModels:
    """Loads versions of one folder on demand and keeps the last used ones. Threads may share it."""

    def __init__(
        self, folder: ModelFolder, kind: type[PairModel], kept: int = 4, codes: CodeIdentity | None = None
    ) -> None:
        """Loads and warms up the served version.

        Args:
            folder: Holds the versions.
            kind: The class that loads them.
            kept: Versions held in memory beside the served one; the least recently used is dropped first.
            codes: The codes that every model must compare; None: those of the first model.

        Raises:
            BadInputError: No version is served, or it cannot be opened.
            MismatchError: It compares other codes.
        """
        self._folder = folder
        self._kind = kind
        self._kept = kept
        self._codes = codes
        self._others: OrderedDict[str, PairModel] = OrderedDict()
        self._loading = threading.Lock()
        self._stamp = folder.pointer_stamp()
        self.refusal: Refusal | None = None
        """Why the version that the pointer names is not served; None: it is served."""
        self.served = self._load(folder.served())
        """The model for requests that name no version."""

    def get(self, version: str = "") -> PairModel:
        """A version, loaded and warmed up if it is not in memory; without a name the served one.

        One version is loaded at a time, and calls for versions other than the served one wait for it.

        Raises:
            BadInputError: There is no such version, or it cannot be opened.
            MismatchError: It compares other codes than the served one.
        """
        served = self.served
        if not version or version == served.card.version:
            return served
        version_name(version)
        with self._loading:
            model = self._others.get(version)
            if model is None:
                # This call may have waited while the version became the served one.
                model = self.served if version == self.served.card.version else self._load(version)
            self._keep(model)
            return model

    def refresh(self) -> bool:
        """Checks the pointer; if it was written since the last check, serves the version that it names.

        A version that cannot be served is not tried again before the pointer is written again; `refusal` says why.

        Returns:
            Whether the served version has changed.
        """
        stamp = self._folder.pointer_stamp()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        version = ""
        try:
            version = self._folder.served()
            before = self.served
            if version != before.card.version:
                self._serve(version)
        except Exception as error:  # noqa: BLE001 - a damaged model may raise anything; the old one goes on serving
            self.refusal = Refusal(version, str(error) or type(error).__name__)
            log.error("still serving %s: %s cannot take its place: %s", self.served.card.version, version, error)
            return False
        self.refusal = None
        return self.served is not before

    def _serve(self, version: str) -> None:
        with self._loading:
            model = self._others.pop(version, None) or self._load(version)
            before, self.served = self.served, model
            # Running requests, and later ones that name it, still need the old version.
            self._keep(before)
        log.info("serving %s instead of %s", version, before.card.version)

    def _keep(self, model: PairModel) -> None:
        if model is self.served:
            return
        self._others[model.card.version] = model
        self._others.move_to_end(model.card.version)
        while len(self._others) > self._kept:
            self._others.popitem(last=False)

    def _load(self, version: str) -> PairModel:
        codes = self._codes
        if codes is not None:
            codes.check(self._folder.card(version))
        model = self._folder.load(version, self._kind)
        model.warm_up()
        self._codes = codes or CodeIdentity.of(model.card)
        log.info("loaded the model %s: %d bits, %d parameters", version, model.card.bits, model.card.parameters)
        return model
