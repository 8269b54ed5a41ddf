"""Which dead letters a command is about, and which of them are settled."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from core.dead_letters import DeadLetter, Reason
from core.settlements import Kind, Settled, Settlement, parse_settlement
from stream.topic_reader import TopicRecord

__all__ = ["DeadLetterChoice", "Settlements", "settled_in"]


@dataclass(frozen=True, slots=True)
class DeadLetterChoice:
    """Dead letters that have all of these properties."""

    reasons: Collection[Reason] = ()
    """Empty: any."""
    since_ms: int = 0
    """Kafka took them at this time or later, in milliseconds since the epoch."""
    until_ms: int | None = None
    """Kafka took them before this time; None: whenever."""
    image_ids: Collection[bytes] | None = None
    """Their keys; None: any."""
    offsets: Collection[int] | None = None
    """Where they lie in `dead-letter`; None: anywhere."""

    def takes(self, record: TopicRecord, dead: DeadLetter) -> bool:
        """Whether a dead letter is chosen."""
        return (
            (not self.reasons or dead.reason in self.reasons)
            and self.since_ms <= record.timestamp_ms
            and (self.until_ms is None or record.timestamp_ms < self.until_ms)
            and (self.image_ids is None or record.key in self.image_ids)
            and (self.offsets is None or record.offset in self.offsets)
        )


class Settlements:
    """The offsets of settled dead letters, by kind."""

    def __init__(self) -> None:
        """None at all."""
        self._kinds = {kind: Settled() for kind in Kind}

    def add(self, settlement: Settlement) -> None:
        """Takes one settlement."""
        self._kinds[settlement.kind].add(settlement.ranges)

    def kind_of(self, offset: int) -> Kind | None:
        """How a dead letter is settled; None: it is open. One that was replayed too counts as replayed."""
        return next((kind for kind, settled in self._kinds.items() if offset in settled), None)

    def __contains__(self, offset: object) -> bool:
        """Whether a dead letter is settled."""
        return isinstance(offset, int) and self.kind_of(offset) is not None


def settled_in(records: Iterable[TopicRecord]) -> Settlements:
    """What the settlements among some records name. A settlement lies behind the dead letters that it names."""
    settled = Settlements()
    for record in records:
        settlement = parse_settlement(record.value)
        if settlement is not None:
            settled.add(settlement)
    return settled
