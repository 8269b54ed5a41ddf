"""A fitted network that nobody had to fit: the fewer bits differ, the likelier a copy. For tests around training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from scoring.features import PairInputs
from training.fit import FitSettings
from training.fitted_network import FittedNetwork
from training.labelled import LabelledPhotos
from training.neighbourhoods import Neighbourhoods


def hamming_network(hidden: tuple[int, ...], bits: int) -> FittedNetwork:
    """The logit is 6 less 16 times the share of differing bits, through layers of the wanted sizes."""
    sizes = (bits, *hidden)
    layers = [
        (np.full((a, b), 1 / a, np.float32), np.zeros(b, np.float32)) for a, b in zip(sizes, hidden, strict=False)
    ]
    last = (np.full((hidden[-1], 1), -16 / hidden[-1], np.float32), np.array([6.0], np.float32))
    return FittedNetwork((*layers, last), PairInputs(bits), None, 1)


@dataclass(frozen=True, eq=False)
class Fit:
    """What one call of `fit_network` was given."""

    photos: LabelledPhotos
    neighbourhoods: Neighbourhoods
    settings: FitSettings
    found: FittedNetwork


class KnownFits:
    """Stands in for `fit_network`, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.fits: list[Fit] = []

    def __call__(
        self,
        photos: LabelledPhotos,
        neighbourhoods: Neighbourhoods,
        settings: FitSettings,
        judge: Any,
        told: Any,
    ) -> FittedNetwork:
        del judge, told
        found = hamming_network(settings.network.hidden, settings.code.bits)
        self.fits.append(Fit(photos, neighbourhoods, settings, found))
        return found


def known_fits(monkeypatch: pytest.MonkeyPatch) -> KnownFits:
    """Lets training take known networks, and draw nothing, until the test ends."""
    from training import train

    known = KnownFits()
    monkeypatch.setattr(train, "fit_network", known)
    monkeypatch.setattr(train, "draw_all", lambda *_: [])
    return known
