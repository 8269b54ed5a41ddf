"""The JSON of heads and members as they were, which the HTTP API sends. `docs/openapi.json` is made from it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["PastHeadOut", "PastMembersOut"]


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True)


class PastHeadOut(_Out):
    """The head of an image as it was."""

    image_id: str
    time: str = Field(description="The time that was asked for: ISO 8601, UTC.")
    history_number: int = Field(description="Of the last change of heads that was written by then; 0: none.")
    head: str | None = Field(description="Its head; null: it was unknown then, still waited, or was deleted.")


class PastMembersOut(_Out):
    """A page of the members of a cluster as they were."""

    head: str
    time: str = Field(description="The time that was asked for: ISO 8601, UTC.")
    history_number: int = Field(description="Of the last change of heads that was written by then; 0: none.")
    count: int = Field(description="Members of the whole cluster; 0: no image had this head then.")
    members: list[str] = Field(description="In the order in which they had joined.")
