"""A verdict as a request to decide again remembers it, to be compared with the new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from core.errors import BadInputError
from core.types import Cause, ImageId, Versions

__all__ = ["KnownVerdict"]


class DecidedImage(Protocol):
    """An image with its last verdict, as stores keep it."""

    @property
    def head(self) -> ImageId: ...
    @property
    def cause(self) -> Cause: ...
    @property
    def score(self) -> float | None: ...
    @property
    def matched(self) -> ImageId | None: ...
    @property
    def versions(self) -> Versions: ...


@dataclass(frozen=True, slots=True)
class KnownVerdict:
    """A verdict, as far as two of them are compared."""

    head: ImageId
    cause: Cause
    score: float | None
    matched: ImageId | None
    versions: Versions

    @classmethod
    def of(cls, image: DecidedImage) -> KnownVerdict:
        """The last verdict on an image."""
        return cls(image.head, image.cause, image.score, image.matched, image.versions)

    def as_json(self) -> dict[str, Any]:
        """Its fields as JSON has them."""
        return {
            "head": self.head,
            "cause": self.cause.value,
            "score": self.score,
            "matched": self.matched,
            "model": self.versions.model,
            "index": self.versions.index,
        }

    @classmethod
    def from_json(cls, fields: object) -> KnownVerdict:
        """What `as_json` gave.

        Raises:
            BadInputError: It is something else.
        """
        try:
            if not isinstance(fields, Mapping):
                raise TypeError("it is no object")
            score, matched = fields["score"], fields["matched"]
            return cls(
                ImageId(_text(fields["head"])),
                Cause(fields["cause"]),
                None if score is None else float(score),
                None if matched is None else ImageId(_text(matched)),
                Versions(_text(fields["model"]), _text(fields["index"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadInputError(f"no verdict: {type(error).__name__}: {error}") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    value.encode()  # a lone surrogate has no UTF-8 form
    return value
