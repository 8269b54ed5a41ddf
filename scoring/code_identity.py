"""The identity of the codes that a model compares.

Codes of equal length may come from another projection or embedding. Their scores would mean nothing, and nothing else
would show it. So all models of one scorer must compare codes of one identity.
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
    """Identifies how the codes are made."""
    embedding_name: str
    embedding_version: str
    values: int = 0

    @classmethod
    def of(cls, card: ModelCard) -> CodeIdentity:
        """The identity of a model's codes."""
        return cls(card.bits, card.code_fingerprint, card.embedding_name, card.embedding_version, card.values)

    def check(self, card: ModelCard) -> None:
        """Checks that a model compares these codes.

        Raises:
            MismatchError: It compares other codes; the message has both values of each difference.
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
