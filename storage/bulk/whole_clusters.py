"""A pin or a merge of clusters that are too large for one write. Pure."""

from __future__ import annotations

from core.errors import ConflictError
from core.overrides import Override, OverrideKind
from storage.interfaces import StoreView
from storage.overrides.relations import Tie
from storage.overrides.rules import Rules
from storage.rollback.wish_plan import WishPlan

__all__ = ["ClusterPlan"]


class ClusterPlan(WishPlan):
    """The moves of a pin or a merge: its rules say all that is wanted."""

    def __init__(self, view: StoreView, rules: Rules, override: Override, *, again: bool) -> None:
        """Looks whether the override can be obeyed.

        Args:
            view: The store.
            rules: Of the overrides that stand, this one included.
            override: A pin or a merge.
            again: It was said before; images that must not meet stay apart.

        Raises:
            ConflictError: Two images would meet that must not; the message names the override.
        """
        assert override.target is not None
        takes_names = override.kind is OverrideKind.MERGE  # of heads that were deleted
        there = (each for each in override.images if takes_names or view.image(each) is not None)
        super().__init__(view, rules, override, dict.fromkeys(there, override.target))
        met = self.roots.part()
        if met is not None and not again:
            one, other = met
            number = rules.number_of(Tie.FORBID, one, other)
            raise ConflictError(f"the override {number} forbids {one!r} with {other!r}: undo that one first")
