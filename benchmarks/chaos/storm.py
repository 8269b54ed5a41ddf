"""The order of the faults, and the pauses between them. Between two rounds everything must come back by itself."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.chaos.faults import CALM_FAULTS, FAULTS, Fault
from benchmarks.chaos.world import PARTS, World
from core.replay_requests import LANES, ReplayRequest, parse_request
from core.types import ImageId, RequestSource
from stream.broker import Broker
from stream.topic_reader import TopicReader
from tests.support.calm import Held
from tests.support.flow import Flow
from tests.support.stack import Stack, eventually

__all__ = ["Pending", "Round", "compared", "rage", "rounds", "settled"]

DISK_LOST = frozenset({"broker-power", "power"})
"""Faults after which the broker may have lost what it had not written to disk."""

TRACED_ON = frozenset(
    {
        *(f"kill:{part}" for part in ("photos-search", "photos-scorer", "photos-storage", "taskmanager", "broker")),
        *(f"pause:{part}" for part in PARTS),
        *("isolation", "junk", "broken-requests", "replay-search", "replay-outage", "settlement", "clients"),
    }
)
"""Faults after which the job goes on from its last checkpoint, or did not stop at all."""

_SETTLE_S = 420.0


@dataclass(frozen=True, slots=True)
class Round:
    """Faults one after the other, and one for when they are over."""

    faults: tuple[str, ...]
    calm_fault: str | None


def rounds(count: int, per_round: int, chance: random.Random, only: Sequence[str] | None = None) -> Iterator[Round]:
    """`count` faults in random order, each kind about as often as its weight says.

    Args:
        count: How many faults in all.
        per_round: How many faults before everything must come back.
        chance: Of the order.
        only: The kinds of faults; all by default.
    """
    names = _mixture({**FAULTS, **CALM_FAULTS}, count, only)
    wild = [name for name in names if name in FAULTS]
    calm = [name for name in names if name in CALM_FAULTS]
    chance.shuffle(wild)
    chance.shuffle(calm)
    parts = [tuple(wild[start : start + per_round]) for start in range(0, len(wild), per_round)]
    parts += [()] * (len(calm) - len(parts))
    for number, part in enumerate(parts):
        # Those that need calm are spread evenly over the rounds.
        before, after = (len(calm) * each // len(parts) for each in (number, number + 1))
        yield Round(part, calm[before] if after > before else None)


def _mixture(kinds: Mapping[str, tuple[int, Fault]], count: int, only: Sequence[str] | None) -> list[str]:
    weights = {name: weight for name, (weight, _) in kinds.items() if only is None or name in only}
    total = sum(weights.values())
    shares = {name: weight * count / total for name, weight in weights.items()}
    names = [name for name, share in shares.items() for _ in range(int(share))]
    rest = sorted(shares, key=lambda name: int(shares[name]) - shares[name])
    return names + rest[: count - len(names)]


def rage(world: World, plan: Iterable[Round], tell: Callable[[str], None]) -> tuple[dict[str, int], Held]:
    """Injects every fault and compares everything after each round; returns how many of each kind, and what is held."""
    struck: dict[str, int] = {}
    for number, each in enumerate(plan, 1):
        for name in each.faults:
            time.sleep(world.chance.uniform(0.1, 3.0))
            tell(name)
            strike(world, FAULTS[name][1], name)
            struck[name] = struck.get(name, 0) + 1
        with settled(world) as seconds:
            tell(f"round {number}: {len(each.faults)} faults, all back and caught up after {seconds:.0f} s")
            tell(f"round {number}: {compared(world)}")
            if each.calm_fault is not None:
                tell(each.calm_fault)
                strike(world, CALM_FAULTS[each.calm_fault][1], each.calm_fault)
                struck[each.calm_fault] = struck.get(each.calm_fault, 0) + 1
    with settled(world):
        held = compared(world)
        tell(f"at the end: {held}")
    return struck, held


def strike(world: World, fault: Fault, name: str) -> None:
    """Injects one fault. What traces it may cost is noted before and after: it takes a while."""
    _note_lost_traces(world, name)
    fault(world)
    _note_lost_traces(world, name)


def _note_lost_traces(world: World, name: str) -> None:
    if name not in TRACED_ON:
        world.traced.job_lost()
    if name in DISK_LOST:
        world.traced.topic_lost()


def compared(world: World) -> Held:
    """Compares with the calm service; returns what both hold."""
    world.traced.check(world.stack)
    return world.calm.check(world.stack, world.flow.ids)


@contextmanager
def settled(world: World) -> Iterator[float]:
    """Inside, every part is ready, all that was sent and asked for is applied, and nobody sends or asks for anything.

    Gives the seconds that it took.
    """
    started = time.monotonic()
    world.up()
    world.stack.deployment.wait_ready(timeout_s=_SETTLE_S)
    with world.held():
        pending = Pending(world.stack, world.flow)
        eventually(pending.none_left, _SETTLE_S, lambda: f"not applied: {pending.shown}")
        yield time.monotonic() - started


class Pending:
    """What is not applied yet of what was acknowledged."""

    def __init__(self, stack: Stack, flow: Flow) -> None:
        self._stack = stack
        self._sent = {ImageId(row.image_id): 0 for _, row in flow.sent}
        for _, row in flow.sent:
            image_id = ImageId(row.image_id)
            self._sent[image_id] = max(self._sent[image_id], row.version)
        self.shown = "nothing was asked yet"

    def none_left(self) -> bool | None:
        """True once all is applied."""
        some = sorted(self._sent)[:500]
        with self._stack.storage() as storage:
            found = storage.look_up(some)
            for image_id in some:
                member, tombstone = found.memberships.get(image_id), found.tombstones.get(image_id)
                known = [-1 if each is None else each.version for each in (member, tombstone)]
                if max(known) >= self._sent[image_id]:
                    del self._sent[image_id]
            if self._sent:
                self.shown = f"{len(self._sent)} images, such as {sorted(self._sent)[:5]}"
                return None
            requests = storage.look_up(()).requests
            left = sorted(unapplied(self._stack, requests))
            position = storage.look_up(()).position
        if left:
            self.shown = f"{len(left)} requests, such as those at {left[:5]} (partition, offset)"
            return None
        with Broker(self._stack.settings.kafka_access("chaos")) as broker:
            end = broker.ends(self._stack.signal.topic("joined"))[0].end
        self.shown = f"joined ends at {position.base + end}, storage has applied {position.offset}"
        return True if position.offset == position.base + end - 1 else None


def unapplied(stack: Stack, applied: Mapping[RequestSource, int]) -> Iterator[tuple[int, int]]:
    """Partition and offset of each request in the topic `replay` that storage has not applied."""
    access, topic = stack.settings.kafka_access("chaos"), stack.signal.topic("replay")
    with Broker(access) as broker:
        topic_id = broker.topic_id(topic)
    for lane in LANES:
        done = applied.get(RequestSource(topic_id, lane), -1)
        with TopicReader(access, topic, partition=lane) as reader:
            first, end = reader.ends()
            for record in reader.between(max(first, done + 1), end):
                if isinstance(parse_request(record.value), ReplayRequest):
                    yield int(lane), record.offset
