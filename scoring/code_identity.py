"""What a model's codes are: two models whose codes differ cannot stand in for each other.

Codes of equal length made by another projection or from another embedding would give scores that mean nothing, and
nobody would notice. So a scorer holds models of one identity alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from core.errors import MismatchError
from scoring.card import ModelCard

__all__ = ["CodeIdentity"]


@dataclass(frozen=True, slots=True)
class CodeIdentity:
    """The codes that a model compares."""

    bits: int
    code_fingerprint: str
    """Of what makes the codes."""
    embedding_name: str
    embedding_version: str
    values: int = 0

    @classmethod
    def of(cls, card: ModelCard) -> CodeIdentity:
        """The identity of a model."""
        return cls(card.bits, card.code_fingerprint, card.embedding_name, card.embedding_version, card.values)

    def check(self, card: ModelCard) -> None:
        """Makes sure that a model compares these codes.

        Raises:
            MismatchError: It compares others; the message has both values of each difference.
        """
        found = CodeIdentity.of(card)
        different = [
            f"{item.name.replace('_', ' ')} {_short(getattr(found, item.name))} instead of "
            f"{_short(getattr(self, item.name))}"
            for item in fields(self)
            if getattr(found, item.name) != getattr(self, item.name)
        ]
        if different:
            raise MismatchError(f"the model {card.version} was made for other codes: {'; '.join(different)}")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
