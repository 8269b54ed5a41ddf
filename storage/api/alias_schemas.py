"""The JSON of aliases in the HTTP API."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from core.aliases import Alias, SignalPlace
from storage.api.schemas import iso

__all__ = ["AliasOut", "AliasesOut"]


class AliasOut(BaseModel):
    """Which signal an alias names."""

    model_config = ConfigDict(frozen=True)

    name: str
    signal: str
    since: str = Field(description="When it was given this signal: ISO 8601, UTC.")
    author: str
    reason: str
    previous: str | None = Field(description="The signal that it named before; null: it is new.")
    api: str | None = Field(description="The address of the signal's API; null: this server does not know the signal.")
    topics: dict[str, str] = Field(description="The Kafka topics of the signal that readers follow: `assignments`.")

    @staticmethod
    def of(name: str, alias: Alias, place: SignalPlace | None) -> AliasOut:
        """From what the file says, and where the signal is found."""
        return AliasOut(
            name=name,
            signal=alias.signal,
            since=iso(alias.since_ms),
            author=alias.author,
            reason=alias.reason,
            previous=alias.previous,
            api=None if place is None else place.api,
            topics={} if place is None else dict(place.topics),
        )


class AliasesOut(BaseModel):
    """Every alias."""

    model_config = ConfigDict(frozen=True)

    signal: str = Field(description="The signal of this API.")
    aliases: list[AliasOut]
    fault: str | None = Field(
        description="Why the file of aliases cannot be read at present; then the aliases are those of before. "
        "null: it can."
    )
