"""What training is told: data, codes, the network, how long, and what the thresholds must keep."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.errors import SettingsError
from search.score_codes import CodeSettings
from search.scoring.pairs import MiningSettings
from search.terms import TermSettings

__all__ = ["FULL", "QUICK", "Effort", "TrainSettings"]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to train. A round makes a fresh corpus (other transferred edits), mines its pairs and trains on them."""

    rounds: int
    steps_per_round: int
    transferred_per_photo: int
    """Edits of other photographs that each photograph gets in a round."""
    patience: int
    """Rounds without a better validation result after which training stops."""


QUICK = Effort(rounds=8, steps_per_round=400, transferred_per_photo=8, patience=4)
"""Under three minutes on two cores with the sample."""

FULL = Effort(rounds=40, steps_per_round=600, transferred_per_photo=12, patience=10)


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """One training run. The same settings and data give the same model, up to the processor's rounding in training."""

    photos: Path
    """Labelled photographs (`search.scoring.labelled`) with the splits train and val; test is only measured."""
    model: Path
    """The folder of the signal's models; the new version is added to it."""
    terms: TermSettings
    """Of the search that the model will serve: pairs and thresholds come from its candidates."""
    code: CodeSettings
    embedding_name: str
    embedding_version: str
    effort: Effort = QUICK
    version: str = ""
    """Name of the new version; empty: made from settings and data."""
    serve: bool = True
    """Make the new version the one in use."""
    hidden: tuple[int, ...] = (128, 32)
    dropout: float = 0.2
    bit_dropout: float = 0.3
    """Share of the differing bits hidden at random from each pair."""
    bit_flips: float = 0.3
    """Up to this share of a pair's bits is flipped; without such noise the network learns the photographs by heart."""
    learning_rate: float = 1e-3
    batch: int = 512
    copies_share: float = 0.25
    """The class weights: this share of each batch are copies, however many there are of each class."""
    mining: MiningSettings = field(default_factory=MiningSettings)
    precision: float = 0.99
    """`accept` keeps it over the candidates of the validation images, by its lower 95 % bound."""
    cluster_precision: float = 0.98
    """`head_accept` and `adopt` keep it on whole clusters (self-excluded BCubed) where they can."""
    corpus_growth: float = 1.0
    """How many times larger the corpus in service is reckoned to be; see `search.scoring.thresholds.choose_accept`."""
    orders: int = 3
    """Random orders of the simulated stream on which thresholds are chosen."""
    seed: int = 20_240_503
    threads: int = 2

    def __post_init__(self) -> None:
        """Checks every value that could silently spoil a model."""
        shares = {
            "dropout": self.dropout,
            "bit_dropout": self.bit_dropout,
            "bit_flips": self.bit_flips,
            "copies_share": self.copies_share,
            "precision": self.precision,
            "cluster_precision": self.cluster_precision,
        }
        for name, value in shares.items():
            if not 0.0 <= value < 1.0:
                raise SettingsError(f"{name} must lie in [0, 1), not {value}")
        if not self.hidden or min(self.hidden) < 1:
            raise SettingsError(f"a network needs hidden layers of at least one unit, not {self.hidden}")
        if self.batch < 8 or self.threads < 1 or self.orders < 1 or self.corpus_growth < 1:
            raise SettingsError("batch must be at least 8; threads, orders and corpus_growth at least 1")

    def describe(self) -> dict[str, Any]:
        """The settings that a model depends on, as plain values for its card."""
        effort, mining = self.effort, self.mining
        return {
            "terms": self.terms.describe(),
            "code": {"dimension": self.code.dimension, "bits": self.code.bits, "seed": self.code.seed},
            "rounds": effort.rounds,
            "steps_per_round": effort.steps_per_round,
            "transferred_per_photo": effort.transferred_per_photo,
            "patience": effort.patience,
            "hidden": list(self.hidden),
            "dropout": self.dropout,
            "bit_dropout": self.bit_dropout,
            "bit_flips": self.bit_flips,
            "learning_rate": self.learning_rate,
            "batch": self.batch,
            "copies_share": self.copies_share,
            "mined_by_overlap": mining.by_overlap,
            "mined_by_distance": mining.by_distance,
            "mined_at_random": mining.at_random,
            "precision": self.precision,
            "cluster_precision": self.cluster_precision,
            "corpus_growth": self.corpus_growth,
            "orders": self.orders,
            "seed": self.seed,
        }
