"""The JSON of the history of a cluster, which the HTTP API sends. `docs/openapi.json` is made from it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from core.types import ImageId
from storage.api.schemas import HeadChangeOut
from storage.cluster_history import ClusterChanges
from storage.records import HistoryEntry

__all__ = ["ClusterChangeOut", "ClusterHistoryOut"]


class ClusterChangeOut(HeadChangeOut):
    """One change by which an image joined or left a cluster."""

    image_id: str = Field(description="It joined if `head` is that of the cluster, and left if `old_head` is.")

    @staticmethod
    def of(entry: HistoryEntry) -> ClusterChangeOut:
        """From the store's history."""
        return ClusterChangeOut(image_id=entry.image_id, **HeadChangeOut.of(entry).model_dump())


class ClusterHistoryOut(BaseModel):
    """A page of the changes by which images joined or left a cluster, the newest first."""

    model_config = ConfigDict(frozen=True)

    head: str
    changes: list[ClusterChangeOut] = Field(description="May be empty on a page that is not the last.")
    looked_from: int = Field(
        description="The `history_number` of the oldest change of heads that was looked at: all from here on are told."
    )
    next_page_token: str | None = Field(
        description="The token of the next page; null: nothing older is kept, or it came before `since`."
    )
    history_first: int = Field(description="The number of the first change of heads that is kept.")

    @staticmethod
    def of(head: ImageId, found: ClusterChanges, next_page_token: str | None, history_first: int) -> ClusterHistoryOut:
        """From what was found."""
        return ClusterHistoryOut(
            head=head,
            changes=[ClusterChangeOut.of(each) for each in found.entries],
            looked_from=found.looked_from,
            next_page_token=next_page_token,
            history_first=history_first,
        )
