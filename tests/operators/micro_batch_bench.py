"""A micro-batching function on fake Flink, with a step whose server does what the test says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pyflink.datastream import RuntimeContext

from core.dead_letters import BadRecord
from core.errors import FaultError, RefusedError, UnavailableError
from operators.batcher import BatchPolicy
from operators.micro_batch import MicroBatchFunction
from operators.outputs import DEAD_LETTERS
from operators.step import Step, StepResult
from tests.support.clock import FakeClock
from tests.support.fake_flink import Harness

__all__ = ["POLICY", "Bench", "EchoFunction", "EchoStep", "Server", "item", "items"]

POLICY = BatchPolicy(
    max_items=4, max_delay_ms=5, throttle_ms=20, backoff_first_ms=50, backoff_max_ms=200, max_faults=3, max_bytes=100
)


@dataclass
class Server:
    """A server under the test's control, and its client."""

    calls: list[list[bytes]] = field(default_factory=list)
    isolated: list[tuple[bytes, str]] = field(default_factory=list)
    pings: int = 0
    down: bool = False
    poison: set[bytes] = field(default_factory=set)
    kills: set[bytes] = field(default_factory=set)
    refuses: set[bytes] = field(default_factory=set)
    names_refused: bool = True
    settles: int = 1_000
    hold_for_ms: int = 0
    """How long it asks to wait where it settles nothing."""
    instances: int = 1
    known_instance: str | None = None
    error: Exception | None = None
    isolate_error: Exception | None = None
    closed: int = 0

    @property
    def instance_id(self) -> str | None:
        return self.known_instance

    def _answers(self) -> None:
        if self.down:
            raise UnavailableError("connection refused")
        self.known_instance = f"instance-{self.instances}"

    def describe(self) -> None:
        self.pings += 1
        self._answers()

    def close(self) -> None:
        self.closed += 1


class EchoStep(Step):
    """Gives back what it gets."""

    def __init__(self, server: Server) -> None:
        super().__init__([server])
        self.server = server

    def call(self, items: Sequence[bytes]) -> StepResult:
        server = self.server
        server.calls.append(list(items))
        server._answers()
        if server.error is not None:
            raise server.error
        if server.kills & set(items):
            server.instances += 1
            raise UnavailableError("connection reset")
        if server.poison & set(items):
            raise FaultError("broken")
        for item in items:
            if item in server.refuses:
                raise RefusedError("no", self.offset(item) if server.names_refused else None)
        count = min(len(items), server.settles)
        return StepResult(count, items[:count], server.hold_for_ms)

    def isolate(self, item: bytes, bad: BadRecord) -> StepResult:
        self.server._answers()
        if self.server.isolate_error is not None:
            raise self.server.isolate_error
        self.server.isolated.append((item, bad.reason))
        return StepResult(1, [item.upper(), (DEAD_LETTERS, (item, bad.detail))])

    def offset(self, item: bytes) -> int:
        return 1_000 + int(item[1:])


class EchoFunction(MicroBatchFunction):
    """The function of that step."""

    def __init__(self, policy: BatchPolicy, server: Server, clock: FakeClock) -> None:
        super().__init__(policy, clock.sleep_s)
        self.server = server

    def open_step(self, context: RuntimeContext) -> Step:
        return EchoStep(self.server)

    def items(self, value: Any) -> Sequence[bytes]:
        return value.split(b" ")


class Bench:
    """A harness with its server and clock."""

    def __init__(self, policy: BatchPolicy = POLICY, harness: type[Harness] = Harness) -> None:
        self.policy = policy
        self.clock = FakeClock()
        self.server = Server()
        self.harness = harness(EchoFunction(policy, self.server, self.clock), self.clock)

    def send(self, *numbers: int) -> None:
        for number in numbers:
            self.harness.send(item(number))

    def restart(self) -> None:
        out = self.harness.main
        self.harness = self.harness.restart(EchoFunction(self.policy, self.server, self.clock))
        self.harness.main = out

    @property
    def out(self) -> list[Any]:
        return self.harness.main


def item(number: int) -> bytes:
    return b"i%d" % number


def items(*numbers: int) -> list[bytes]:
    return [item(number) for number in numbers]
