"""What one step of the sequence does with a batch, apart from Flink: the servers it calls and the rows it emits.

A step is made where its function opens, and holds the clients. Its items are serialised `InFlight` records. Its methods
raise errors of `core.errors`; `operators.micro_batch` decides what follows from them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from core.access import ANONYMOUS, Credentials
from core.dead_letters import BadRecord
from operators.batcher import InstanceIds
from operators.in_flight_pb2 import InFlight
from operators.item_times import Timing

__all__ = ["Client", "ServerAddress", "Step", "StepResult"]


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server answers, how long a call to it may take, how large a message may be, and who calls."""

    address: str
    deadline_s: float
    max_message_bytes: int
    credentials: Credentials = ANONYMOUS


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
class StepResult:
    """The first `count` items of a batch are settled; `outputs` are rows, or pairs of a tag and a row, in order."""

    count: int
    outputs: Sequence[Any] = ()
    wait_ms: int = 0
    """With a `count` of 0: nothing may go yet, and the step is to be asked again after so long."""


class Step(ABC):
    """One step of the sequence.

    Every method that calls a server may raise `core.errors.ServiceError`. A call is repeated after a failure or a
    restart, so its effects must be those of one.
    """

    timing: Timing = Timing()
    """Of the items of the next call."""

    def __init__(self, clients: Sequence[Client], blamed: Sequence[Client] | None = None) -> None:
        """Names the servers that it calls.

        Args:
            clients: Of all servers; closed with the step.
            blamed: Those whose death during a call counts against the batch (all, if not given).
        """
        self._clients = tuple(clients)
        self._blamed = self._clients if blamed is None else tuple(blamed)

    @abstractmethod
    def call(self, items: Sequence[bytes]) -> StepResult:
        """Handles the batch, in order, or the front of it: at least one item."""

    @abstractmethod
    def isolate(self, item: bytes, bad: BadRecord) -> StepResult:
        """Handles the one item that cannot be handled the usual way, so that the records behind it can follow."""

    def offset(self, item: bytes) -> int:
        """The item's offset in `joined`: servers name it when they refuse it."""
        return InFlight.FromString(item).offset

    def instance_ids(self) -> InstanceIds:
        """The server processes whose death would count against the batch."""
        return tuple(client.instance_id for client in self._blamed)

    def ping(self) -> None:
        """Makes a cheap call to every server. Their answers also tell their instance ids."""
        for client in self._clients:
            client.describe()

    def close(self) -> None:
        """Closes the clients."""
        for client in self._clients:
            client.close()
