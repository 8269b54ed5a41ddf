"""The model card: a JSON file beside the model that says what it compares, what its scores mean, how it was made.

A card is written once and never changed. It has a checksum (`core.checked_json`). A model with a damaged card is
refused: its thresholds and codes would be a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.checked_json import read_checked, write_checked
from core.errors import BadInputError
from core.types import Thresholds
from scoring.features import PairInputs

__all__ = ["CARD_FILE", "CARD_FORMAT", "ModelCard", "read_card", "write_card"]

CARD_FILE = "metadata.json"
"""The card's name in the folder of a version."""

CARD_FORMAT = 3
"""Increased when a reader of the old format would misunderstand the new one."""

_UNCHECKED_FORMAT = 2
"""The same fields, without a checksum. It is still read."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a model is, what its scores mean, and what it was made from."""

    version: str
    bits: int
    """Hamming bits of the score codes that it compares; a multiple of 8."""
    code_fingerprint: str
    """Identifies how these codes are made (`search.hashing.score_codes.ScoreCodes`)."""
    embedding_name: str
    embedding_version: str
    thresholds: Thresholds
    """Exact float32 values, as scores are float32."""
    values: int = 0
    """Signed bytes of a code after its bits."""
    xor: bool = True
    """Whether the network compares the bits."""
    hidden: tuple[int, ...] = ()
    parameters: int = 0
    training_sha256: str = ""
    """SHA-256 (hex) of the labelled photographs."""
    training_settings: Mapping[str, Any] = field(default_factory=dict)
    """Everything that the result of training depends on, seeds included."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    judged: Mapping[str, Any] = field(default_factory=dict)
    """The split whose pairs were judged, and the results per kind of edit (`families`) and per data set (`datasets`).
    Empty in cards of earlier releases."""
    files_sha256: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 (hex) of each file of the model, by its path in the version's folder."""
    software: Mapping[str, str] = field(default_factory=dict)
    exported_at: str = ""
    """When it was written: UTC, ISO 8601, to the second. Empty in cards of earlier releases."""
    gate: int | None = None
    """The largest hamming distance, over all `bits`, of a candidate that is scored: beyond it the model accepts none
    (`training.gate`). None: all candidates are scored, as with cards of earlier releases."""

    def __post_init__(self) -> None:
        """Checks the values against each other."""
        _ = self.inputs
        limits = self.thresholds
        for name, value in (("accept", limits.accept), ("head_accept", limits.head_accept), ("adopt", limits.adopt)):
            if not 0.0 < value <= 1.0:
                raise BadInputError(f"the threshold {name} must lie in (0, 1], not {value}")
            if float(np.float32(value)) != value:
                raise BadInputError(f"the threshold {name} ({value!r}) is not a float32 value, as scores are")
        if self.gate is not None and not 0 <= self.gate <= self.bits:
            raise BadInputError(f"the gate must lie in 0 to the {self.bits} bits of a code, not {self.gate}")
        if limits.adopt < limits.head_accept:
            raise BadInputError(
                f"adopt ({limits.adopt}) must not be below head_accept ({limits.head_accept}): every member of a "
                "cluster must score at least head_accept against its head, adopted ones too"
            )

    @property
    def inputs(self) -> PairInputs:
        """The layout of the codes, and which parts of them the network compares."""
        return PairInputs(self.bits, self.values, self.xor)

    @property
    def code_bytes(self) -> int:
        """Bytes of one code."""
        return self.inputs.code_bytes


def write_card(card: ModelCard, folder: Path) -> None:
    """Writes a card into the folder of its version."""
    write_checked(folder / CARD_FILE, CARD_FORMAT, asdict(card))


def read_card(folder: Path) -> ModelCard:
    """Reads and checks the card of a version.

    Raises:
        BadInputError: It is missing, damaged, of another format, or its version is not the name of its folder.
    """
    path = folder / CARD_FILE
    try:
        content = read_checked(path)
    except FileNotFoundError as error:
        raise BadInputError(f"the model {folder.name} has no {CARD_FILE}: {path}") from error
    except (OSError, ValueError) as error:
        raise BadInputError(f"the model card {path} cannot be read: {error}") from error
    if content.format != (CARD_FORMAT if content.checked else _UNCHECKED_FORMAT):
        raise BadInputError(
            f"the model card {path} has format {content.format}, this release reads {_UNCHECKED_FORMAT} and "
            f"{CARD_FORMAT}"
        )
    card = _card({name: value for name, value in content.body.items() if name != "format"}, path)
    if card.version != folder.name:
        raise BadInputError(f"the model card {path} has the version {card.version!r}, its folder {folder.name!r}")
    return card


def _card(values: dict[str, Any], path: Path) -> ModelCard:
    try:
        limits = {name: float(value) for name, value in values.pop("thresholds").items()}
        hidden = tuple(int(units) for units in values.pop("hidden"))
        return ModelCard(thresholds=Thresholds(**limits), hidden=hidden, **_typed(values))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInputError(f"the model card {path} is damaged: {type(error).__name__} {error}") from error
    except BadInputError as error:
        raise BadInputError(f"the model card {path} is damaged: {error}") from error


_KINDS: dict[str, type] = {
    "version": str,
    "bits": int,
    "code_fingerprint": str,
    "embedding_name": str,
    "embedding_version": str,
    "values": int,
    "xor": bool,
    "parameters": int,
    "training_sha256": str,
    "training_settings": dict,
    "metrics": dict,
    "files_sha256": dict,
    "software": dict,
    "exported_at": str,
    "judged": dict,
}

_LATER: dict[str, Any] = {"exported_at": "", "judged": {}, "gate": None}
"""Fields that older cards of this format lack, with their defaults."""


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """The plain fields of a card. Each must have its type, and must be there unless it has a default."""
    values = _LATER | values
    for name, kind in _KINDS.items():
        if type(values[name]) is not kind:
            raise TypeError(f"{name} is {values[name]!r}, not {kind.__name__}")
    if values["gate"] is not None and type(values["gate"]) is not int:
        raise TypeError(f"gate is {values['gate']!r}, neither int nor null")
    return values
