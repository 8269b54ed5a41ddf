"""A store whose overrides are a list: for tests of the doors, which only pass on what a store answers.

It moves nothing by itself: a test says what the next override moves, and which ones contradict it.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import BadInputError, ConflictError
from core.overrides import (
    ListedOverride,
    Override,
    OverrideKind,
    OverrideMove,
    OverrideOutcome,
    OverrideRequest,
)
from core.types import ImageId
from storage.memory import MemoryStore

__all__ = ["SaidOverrides"]


class SaidOverrides(MemoryStore):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[ListedOverride] = []
        self.moves: tuple[OverrideMove, ...] = ()
        """What each override moves."""

    def override(self, request: OverrideRequest, at_ms: int, *, dry_run: bool = False) -> OverrideOutcome:
        """Keeps it, unless it stands, contradicts another, or has no known target."""
        for listed in self.said:
            if listed.undone_by is None and _same(listed.override, request):
                return OverrideOutcome(listed.override, (), created=False)
        self._check(request)
        number = len(self.said) + 1
        override = Override(
            number=number,
            kind=request.kind,
            images=request.images,
            target=request.target,
            undoes=request.undoes,
            author=request.author,
            reason=request.reason,
            at_ms=at_ms,
            applied_after=self.position().offset,
        )
        if not dry_run:
            if request.kind is OverrideKind.UNDO:
                undone = self.said[request.undoes - 1]
                self.said[request.undoes - 1] = ListedOverride(undone.override, number, undone.waits)
            self.said.append(ListedOverride(override, None, waits=False))
        return OverrideOutcome(override, self.moves, created=not dry_run)

    def overrides(self, after: int, limit: int, image_id: ImageId | None = None) -> Sequence[ListedOverride]:
        """Those that were said."""
        later = self.said[after:]
        named = [each for each in later if image_id is None or image_id in _names(each.override)]
        return named[:limit]

    def _check(self, request: OverrideRequest) -> None:
        if request.kind is OverrideKind.UNDO:
            if not 1 <= request.undoes <= len(self.said):
                raise BadInputError(f"there is no override {request.undoes}")
            return
        if request.target is None or self.image(request.target) is None:
            raise BadInputError(f"the target {request.target!r} is unknown")
        contrary = {OverrideKind.PIN: OverrideKind.FORBID, OverrideKind.FORBID: OverrideKind.PIN}.get(request.kind)
        for listed in self.said:
            said = listed.override
            if listed.undone_by is None and said.kind is contrary and said.target == request.target:
                raise ConflictError(f"override {said.number} says the contrary: undo it first")


def _same(override: Override, request: OverrideRequest) -> bool:
    said = override.kind, override.images, override.target, override.undoes
    return said == (request.kind, request.images, request.target, request.undoes)


def _names(override: Override) -> set[ImageId | None]:
    return {*override.images, override.target}
