"""The topic of aliases, without a broker."""

from __future__ import annotations

import json
from typing import Any

from core.errors import UnavailableError
from stream.settings import Settings

__all__ = ["FakeAliasTopic"]


class FakeAliasTopic:
    """Keeps the records of aliases, unless it is down."""

    def __init__(self) -> None:
        self.records: list[tuple[str, dict[str, Any] | None]] = []
        self.down = False

    def send(self, settings: Settings, name: str, value: bytes | None) -> None:
        """See `stream.alias_topic.send_record`."""
        if self.down:
            raise UnavailableError("Kafka is down")
        self.records.append((name, None if value is None else json.loads(value)))

    def signals(self) -> list[str | None]:
        """The signal that each record names; None: it ends the alias."""
        return [None if value is None else value["signal"] for _, value in self.records]
