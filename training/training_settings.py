"""The settings of training: data, codes, networks, duration, and what the thresholds must guarantee."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.errors import SettingsError
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from search.ranking import DEFAULT_RANKING, Ranking
from training.labelled import file_sha256

__all__ = ["COMPACT", "DEFAULT_SEED", "FULL", "LARGE", "QUICK", "Effort", "NetworkSettings", "TrainSettings"]

DEFAULT_SEED = 20_240_503


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to train. After each round the look-alikes are weighted again, and the network is judged."""

    rounds: int
    steps_per_round: int
    patience: int
    """Rounds without a better validation result before training stops."""


QUICK = Effort(rounds=3, steps_per_round=100, patience=3)
"""Under three minutes on two cores with the sample."""

FULL = Effort(rounds=6, steps_per_round=250, patience=3)


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The shape of a network, and how overfitting is prevented."""

    hidden: tuple[int, ...]
    xor: bool = False
    """Whether it compares the bits; it must if codes have no values."""
    branches: bool = True
    """Where codes have values of both embeddings: each unit of the first layer sees those of one embedding only."""
    seeds: int = 80
    """Neighbourhoods per batch."""
    look_alikes: int = 8
    """Look-alikes per neighbourhood."""
    hardness: float = 0.7
    """How strongly look-alikes that the network takes for copies are preferred; 0: not at all."""
    edited: float = 0.4
    """Share of the images that get a transferred edit (`training.augmentation`)."""
    copies_weight: float = 2.0
    """The class weight of copies; that of different images is 1. About a tenth of the pairs are copies."""
    dropout: float = 0.2
    input_dropout: float = 0.1
    """Dropout of the vectors, while a projection is learnt."""
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        """Checks every value that could silently make a bad model."""
        shares = {"dropout": self.dropout, "input_dropout": self.input_dropout, "edited": self.edited}
        for name, value in shares.items():
            if not 0.0 <= value < 1.0:
                raise SettingsError(f"{name} must lie in [0, 1), not {value}")
        if not self.hidden or min(self.hidden) < 1:
            raise SettingsError(f"a network needs hidden layers of at least one unit, not {self.hidden}")
        if self.seeds < 1 or self.look_alikes < 1:
            raise SettingsError(f"seeds and look_alikes must be at least 1, not {self.seeds} and {self.look_alikes}")
        if min(self.copies_weight, self.learning_rate) <= 0 or min(self.weight_decay, self.hardness) < 0:
            raise SettingsError("copies_weight and learning_rate must be above 0, weight_decay and hardness not below")


COMPACT = NetworkSettings(hidden=(128, 32))
"""135,000 parameters with 256 values of each embedding; half of them are zero."""

LARGE = NetworkSettings(hidden=(4608, 64), xor=True, branches=False, seeds=16, learning_rate=2e-4)
"""9.7 million parameters with 1,024 bits and 256 values of each embedding. Nearly all are in the first layer, with sums
in float32; sums in float64, as in later layers, cost twice as much."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """One training run. Equal settings and data give the same model, except for rounding on another processor."""

    photos: Path
    """Labelled photographs (`training.labelled`) with the splits train and val; test is only for measuring."""
    model: Path
    """The folder of the signal's models; the new version is added to it."""
    terms: TermSettings
    """How terms are made, of which the search chooses the candidates that the model will score."""
    code: CodeSettings
    embedding_name: str
    embedding_version: str
    ranking: Ranking = DEFAULT_RANKING
    """How the search chooses and orders candidates; training and thresholds use the same."""
    effort: Effort = QUICK
    compact: NetworkSettings = COMPACT
    large: NetworkSettings | None = None
    """A large network to train as well; the compact one is then distilled from it."""
    fit_projection: Path | None = None
    """Learn a projection and write it to this file; None: use that of `code`."""
    values: int = 256
    """Values of a learnt projection, for each embedding that it takes."""
    leave_one_out: bool = False
    """Choose `accept` on data sets that were left out, each in turn, instead of the validation images."""
    splits_of: Path | None = None
    """Labelled photographs whose groups keep their splits: test images there are test images here."""
    train_on_test: bool = False
    """Train on the test split too, except for the groups of `splits_of`: for the final model, after a training without
    it has shown how good such a model is."""
    labels: Path | None = None
    """Labels of pairs, as `neardup label` writes them: the groups of labelled duplicates are merged."""
    never_train: tuple[tuple[str, str], ...] = ()
    """Pairs of images that are never trained on, neither as copies nor as different (`training.never_trained`)."""
    thresholds_of: str = ""
    """A version in `model` that gets new thresholds and a new gate, as a new version of the same network. Empty: train
    a network."""
    version: str = ""
    """Name of the new version; empty: a name from settings and data. The large network's version ends in `-large`."""
    serve: bool = True
    """Put the new compact version in use."""
    precision: float = 0.99
    """`accept` guarantees this precision over the candidates of a search, by its lower 95 % bound."""
    cluster_precision: float = 0.98
    """`head_accept` and `adopt` guarantee this precision of clusters (self-excluded BCubed), if they can."""
    corpus_growth: float = 1.0
    """How many times larger the corpus in service will be; see `training.thresholds.choose_accept`."""
    orders: int = 5
    """Random orders of the simulated stream on which thresholds are chosen."""
    seed: int = DEFAULT_SEED
    threads: int = 2

    def __post_init__(self) -> None:
        """Checks every value that could silently make a bad model."""
        for name, value in (("precision", self.precision), ("cluster_precision", self.cluster_precision)):
            if not 0.0 <= value < 1.0:
                raise SettingsError(f"{name} must lie in [0, 1), not {value}")
        if self.threads < 1 or self.orders < 1 or self.corpus_growth < 1 or self.values < 1:
            raise SettingsError("threads, orders, corpus_growth and values must be at least 1")
        if self.thresholds_of and (self.fit_projection is not None or self.large is not None or self.leave_one_out):
            raise SettingsError(
                "where thresholds alone are chosen, nothing is learnt: no projection, no large network, no network "
                "without one data set"
            )
        values = self.values * (2 if self.code.search_dimension else 1)
        if self.fit_projection is not None and self.code.signs and self.code.bits != values:
            raise SettingsError(
                f"a projection of {values} values is to be learnt, and with `signs` each gives one bit: bits must be "
                f"{values}, not {self.code.bits}"
            )
        if self.leave_one_out and self.fit_projection is None and self.code.projection is not None:
            raise SettingsError(
                "leave-one-out needs a newly learnt projection (--fit-projection FILE.npz): that of the settings was "
                "learnt on the data sets that are to be left out, so results would be too good"
            )

    def describe(self) -> dict[str, Any]:
        """The settings that a model depends on, as plain values for its card; files by their SHA-256."""
        return {
            "terms": self.terms.describe(),
            "ranking": self.ranking.describe(),
            "code": self.code.describe(),
            "effort": asdict(self.effort),
            "compact": _plain(self.compact),
            "large": None if self.large is None else _plain(self.large),
            "fitted_values": self.values if self.fit_projection is not None else 0,
            "leave_one_out": self.leave_one_out,
            "never_train": {"pairs": len(self.never_train), "sha256": _pairs_sha256(self.never_train)},
            "train_on_test": self.train_on_test,
            "labels": "" if self.labels is None else file_sha256(self.labels),
            "splits_of": "" if self.splits_of is None else file_sha256(self.splits_of),
            "precision": self.precision,
            "cluster_precision": self.cluster_precision,
            "corpus_growth": self.corpus_growth,
            "orders": self.orders,
            "seed": self.seed,
            **({"thresholds_of": self.thresholds_of} if self.thresholds_of else {}),
        }


def _pairs_sha256(pairs: tuple[tuple[str, str], ...]) -> str:
    """SHA-256 (hex) of the pairs, the same for any order."""
    ordered = sorted(sorted(pair) for pair in pairs)
    return hashlib.sha256(json.dumps(ordered).encode()).hexdigest() if pairs else ""


def _plain(network: NetworkSettings) -> dict[str, Any]:
    return {**asdict(network), "hidden": list(network.hidden)}
