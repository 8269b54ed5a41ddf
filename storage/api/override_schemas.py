"""The JSON of overrides that the HTTP API takes and sends. `docs/openapi.json` is made from it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from core.notifications import MAX_WORDS_BYTES
from core.overrides import (
    MAX_FORBIDDEN,
    MAX_IMAGES,
    ListedOverride,
    Override,
    OverrideKind,
    OverrideOutcome,
    OverrideRequest,
)
from core.types import ImageId
from storage.api.rollback_schemas import RollbackIn, RollbackOut
from storage.api.schemas import iso
from storage.limits import MAX_LISTED_MOVES
from storage.override_pages import OverridePage

__all__ = ["LARGEST_NUMBER", "ListedOverrideOut", "OverrideIn", "OverrideOut", "OverrideOutcomeOut", "OverridesOut"]

LARGEST_NUMBER = 2**63 - 1
"""Of an override, as far as a request may name one."""


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True)


class OverrideIn(BaseModel):
    """What somebody wants to say."""

    model_config = ConfigDict(extra="forbid")

    kind: OverrideKind = Field(
        description="`pin`: the images belong to the cluster of the target, wherever it goes. `forbid`: they never "
        "share a cluster with it. `split`: they leave the cluster of the target, its head, and form one of their own. "
        "`merge`: the clusters of the images go into that of the target. `rollback`: images go back to the heads that "
        "they had at an earlier moment. `undo`: an earlier override ends."
    )
    images: list[str] = Field(
        default=[],
        max_length=MAX_IMAGES,
        description=f"Of all but a rollback and an undo, which have none. A forbid has at most {MAX_FORBIDDEN:,}.",
    )
    target: str | None = Field(default=None, description="Of all but a rollback and an undo: an image that is known.")
    undoes: int | None = Field(default=None, ge=1, le=LARGEST_NUMBER, description="The number that an undo ends.")
    author: str = Field(default="", max_length=MAX_WORDS_BYTES, description="Who says it.")
    reason: str = Field(default="", max_length=MAX_WORDS_BYTES, description="Why.")
    dry_run: bool = Field(default=False, description="Write nothing, and tell what would move.")
    rollback: RollbackIn | None = Field(default=None, description="Of a rollback: what it goes back to.")

    def request(self) -> OverrideRequest:
        """What the store is asked.

        Raises:
            BadInputError: A time of a rollback has another form.
        """
        return OverrideRequest(
            kind=self.kind,
            images=tuple(map(ImageId, self.images)),
            target=None if self.target is None else ImageId(self.target),
            undoes=self.undoes or 0,
            author=self.author,
            reason=self.reason,
            rollback=None if self.rollback is None else self.rollback.request(),
        )


class OverrideOut(_Out):
    """What somebody has said."""

    number: int = Field(description="From 1, without a gap. Of a dry run, the number that it would have.")
    kind: str = Field(description="pin, forbid, split, merge, rollback or undo.")
    images: list[str] = Field(
        description="Of a split, the one that names the new cluster comes first. Of a merge, the heads of the clusters "
        "that went."
    )
    target: str | None = Field(description="Null for a rollback and an undo.")
    undoes: int | None = Field(description="The number of the override that an undo ended.")
    author: str
    reason: str
    at: str = Field(description="When it was said: ISO 8601, UTC.")
    applied_after: int = Field(
        description="The position of the last record of the order that was applied before it; -1: none."
    )
    rollback: RollbackOut | None = Field(description="Of a rollback, and of the undo of one.")

    @staticmethod
    def of(override: Override) -> OverrideOut:
        """From the store's record."""
        return OverrideOut(**_values(override))


class ListedOverrideOut(OverrideOut):
    """What somebody has said, and how it stands."""

    undone_by: int | None = Field(description="The number of the undo that ended it; null: it stands.")
    waits: bool = Field(description="The store is built again from the order, and has not reached `applied_after` yet.")

    @staticmethod
    def of_listed(listed: ListedOverride) -> ListedOverrideOut:
        """From the store's record."""
        return ListedOverrideOut(**_values(listed.override), undone_by=listed.undone_by, waits=listed.waits)


class OverrideMoveOut(_Out):
    """One image that an override moves."""

    image_id: str
    old_head: str
    new_head: str


class OverrideOutcomeOut(_Out):
    """An override, and what it moved, or would move."""

    override: OverrideOut
    moves: list[OverrideMoveOut] = Field(description=f"The first {MAX_LISTED_MOVES:,}.")
    moved: int = Field(description="How many images it moves in all.")
    created: bool = Field(description="False: it was said before, or the call was a dry run. Nothing was written.")

    @staticmethod
    def of(outcome: OverrideOutcome) -> OverrideOutcomeOut:
        """From the store's answer."""
        return OverrideOutcomeOut(
            override=OverrideOut.of(outcome.override),
            moves=[
                OverrideMoveOut(image_id=each.image_id, old_head=each.old_head, new_head=each.new_head)
                for each in outcome.moves[:MAX_LISTED_MOVES]
            ],
            moved=len(outcome.moves) + outcome.unlisted,
            created=outcome.created,
        )


class OverridesOut(_Out):
    """A page of overrides, by number."""

    overrides: list[ListedOverrideOut]
    next_after: int | None = Field(description="The `after` of the next page; null on the last.")

    @staticmethod
    def of(page: OverridePage) -> OverridesOut:
        """From the store's page."""
        return OverridesOut(
            overrides=[ListedOverrideOut.of_listed(each) for each in page.items],
            next_after=page.items[-1].override.number if page.more else None,
        )


def _values(override: Override) -> dict[str, Any]:
    return {
        "number": override.number,
        "kind": override.kind.value,
        "images": list(override.images),
        "target": override.target,
        "undoes": override.undoes or None,
        "author": override.author,
        "reason": override.reason,
        "at": iso(override.at_ms),
        "applied_after": override.applied_after,
        "rollback": None if override.rollback is None else RollbackOut.of_rollback(override.rollback),
    }
