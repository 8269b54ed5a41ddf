"""What training is told: data, codes, the networks, how long, and what the thresholds must keep."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.errors import SettingsError
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from training.labelled import file_sha256

__all__ = ["COMPACT", "DEFAULT_SEED", "FULL", "LARGE", "QUICK", "Effort", "NetworkSettings", "TrainSettings"]

DEFAULT_SEED = 20_240_503


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to train. After each round the look-alikes are weighed anew, and the network is judged."""

    rounds: int
    steps_per_round: int
    patience: int
    """Training stops after so many rounds without a better validation result."""


QUICK = Effort(rounds=3, steps_per_round=100, patience=3)
"""Under three minutes on two cores with the sample."""

FULL = Effort(rounds=6, steps_per_round=250, patience=3)


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The shape of a network, and how it is kept from learning the photographs by heart."""

    hidden: tuple[int, ...]
    xor: bool = False
    """Whether it looks at the bits; it must where codes have no values."""
    branches: bool = True
    """Where codes have values of both embeddings: each unit of the first layer sees those of one embedding only."""
    seeds: int = 80
    """Neighbourhoods of a batch."""
    look_alikes: int = 8
    """Of a neighbourhood."""
    hardness: float = 0.7
    """How much more often a look-alike is met that the network takes for a copy."""
    edited: float = 0.4
    """Share of the images that get a transferred edit."""
    copies_weight: float = 2.0
    """The class weight of copies; different images weigh 1. Copies are some tenth of the pairs."""
    dropout: float = 0.2
    input_dropout: float = 0.1
    """Of the vectors, while a projection is learnt."""
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        """Checks every value that could silently spoil a model."""
        shares = {"dropout": self.dropout, "input_dropout": self.input_dropout, "edited": self.edited}
        for name, value in shares.items():
            if not 0.0 <= value < 1.0:
                raise SettingsError(f"{name} must lie in [0, 1), not {value}")
        if not self.hidden or min(self.hidden) < 1:
            raise SettingsError(f"a network needs hidden layers of at least one unit, not {self.hidden}")
        if self.seeds < 1 or self.look_alikes < 1:
            raise SettingsError(f"batches need seeds and look-alikes, not {self.seeds} and {self.look_alikes}")
        if min(self.copies_weight, self.learning_rate) <= 0 or min(self.weight_decay, self.hardness) < 0:
            raise SettingsError("copies_weight and learning_rate must be above 0, weight_decay and hardness not below")


COMPACT = NetworkSettings(hidden=(128, 32))
"""With 256 values of each embedding 135,000 parameters, half of which are zero."""

LARGE = NetworkSettings(hidden=(4608, 64), xor=True, branches=False, seeds=16, learning_rate=2e-4)
"""With 1,024 bits and 256 values of each embedding 9.7 million parameters, nearly all in the first layer, whose sums
are exact in float32; those of later layers, in float64, cost twice as much."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """One training run. The same settings and data give the same model, up to the processor's rounding in training."""

    photos: Path
    """Labelled photographs (`training.labelled`) with the splits train and val; test is only measured."""
    model: Path
    """The folder of the signal's models; the new version is added to it."""
    terms: TermSettings
    """Of the search that the model will serve: pairs and thresholds come from its candidates."""
    code: CodeSettings
    embedding_name: str
    embedding_version: str
    effort: Effort = QUICK
    compact: NetworkSettings = COMPACT
    large: NetworkSettings | None = None
    """Train a large network as well, and distil the compact one from it."""
    fit_projection: Path | None = None
    """Learn a projection first, and write it here; else that of `code` is used."""
    values: int = 256
    """Of each embedding that a learnt projection takes."""
    leave_one_out: bool = False
    """Choose `accept` on data sets that were left out, each in turn; else on the validation images."""
    splits_of: Path | None = None
    """Labelled photographs whose groups keep their splits: what is test there is test here."""
    train_on_test: bool = False
    """Train on the test split too, less the groups of `splits_of`: for the last training, once another without it has
    told how good such a model is."""
    labels: Path | None = None
    """Labels of pairs, as `neardup label` writes them: the groups of labelled duplicates are joined."""
    never_train: tuple[tuple[str, str], ...] = ()
    """Pairs of images that training never meets, as copies or as different; what each stands for says
    `training.never_trained`. They are measured apart."""
    version: str = ""
    """Name of the new version; empty: made from settings and data. The large one has `-large` after it."""
    serve: bool = True
    """Make the new compact version the one in use."""
    precision: float = 0.99
    """`accept` keeps it over the candidates of a search, by its lower 95 % bound."""
    cluster_precision: float = 0.98
    """`head_accept` and `adopt` keep it on whole clusters (self-excluded BCubed) where they can."""
    corpus_growth: float = 1.0
    """How many times larger the corpus in service is reckoned to be; see `training.thresholds.choose_accept`."""
    orders: int = 5
    """Random orders of the simulated stream on which thresholds are chosen."""
    seed: int = DEFAULT_SEED
    threads: int = 2

    def __post_init__(self) -> None:
        """Checks every value that could silently spoil a model."""
        for name, value in (("precision", self.precision), ("cluster_precision", self.cluster_precision)):
            if not 0.0 <= value < 1.0:
                raise SettingsError(f"{name} must lie in [0, 1), not {value}")
        if self.threads < 1 or self.orders < 1 or self.corpus_growth < 1 or self.values < 1:
            raise SettingsError("threads, orders, corpus_growth and values must be at least 1")
        if self.leave_one_out and self.fit_projection is None and self.code.projection is not None:
            raise SettingsError(
                "leave-one-out needs a projection that is learnt anew (--fit-projection FILE.npz): that of the "
                "settings was learnt on the data sets that are to be left out, and would flatter them"
            )

    def describe(self) -> dict[str, Any]:
        """The settings that a model depends on, as plain values for its card; files by the SHA-256 of their content."""
        return {
            "terms": self.terms.describe(),
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
        }


def _pairs_sha256(pairs: tuple[tuple[str, str], ...]) -> str:
    """Of the pairs in any order."""
    ordered = sorted(sorted(pair) for pair in pairs)
    return hashlib.sha256(json.dumps(ordered).encode()).hexdigest() if pairs else ""


def _plain(network: NetworkSettings) -> dict[str, Any]:
    return {**asdict(network), "hidden": list(network.hidden)}
