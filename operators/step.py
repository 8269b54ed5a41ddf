"""What one step of the sequence does with a batch, apart from Flink: the servers it calls and what comes of it.

A step is an object of its own, made where its function opens: it holds the clients. Its methods raise errors of
`core.errors`; what becomes of them is the micro-batching function's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from core.dead_letters import BadRecord
from operators.batcher import InstanceIds

__all__ = ["Client", "Done", "ServerAddress", "Step"]

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server answers, how long a call to it may take, and how large a message may be."""

    address: str
    deadline_s: float
    max_message_bytes: int


class Client(Protocol):
    """What every client of a server has."""

    @property
    def instance_id(self) -> str | None:
        """Of the server process that answered last."""
        ...

    def describe(self) -> Any:
        """A cheap call."""
        ...

    def close(self) -> None:
        """Closes the channel."""
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """The first `count` items of a batch are settled; `outputs` are rows, or pairs of a tag and a row, in order."""

    count: int
    outputs: Sequence[Any] = ()


class Step(ABC, Generic[Item]):
    """One step of the sequence.

    Every method that calls a server may raise `core.errors.ServiceError`. A call is repeated after a failure or a
    restart, so its effects must be those of one.
    """

    def __init__(self, clients: Sequence[Client], blamed: Sequence[Client] | None = None) -> None:
        """Names the servers that it calls.

        Args:
            clients: Of all servers; closed with the step.
            blamed: Those whose death during a call counts against the batch (all, if not given).
        """
        self._clients = tuple(clients)
        self._blamed = self._clients if blamed is None else tuple(blamed)

    @abstractmethod
    def call(self, items: Sequence[Item]) -> Done:
        """Handles the batch, in order, or the front of it: at least one item."""

    @abstractmethod
    def isolate(self, item: Item, bad: BadRecord) -> Done:
        """Handles the one item that cannot be handled the usual way, so that the sequence goes on behind it."""

    @abstractmethod
    def offset(self, item: Item) -> int:
        """The item's offset in `joined`: how servers name it when they refuse it."""

    @abstractmethod
    def size(self, item: Item) -> int:
        """Roughly how many bytes the item adds to a message."""

    def instance_ids(self) -> InstanceIds:
        """The processes that would be to blame for a call."""
        return tuple(client.instance_id for client in self._blamed)

    def sign_of_life(self) -> None:
        """Asks every server for an answer, which also tells its instance id."""
        for client in self._clients:
            client.describe()

    def close(self) -> None:
        """Closes the clients."""
        for client in self._clients:
            client.close()
