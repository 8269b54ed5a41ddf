"""The order of the faults, and the pauses between them. Between two rounds everything must come back by itself."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.chaos.faults import CALM_FAULTS, FAULTS, Fault
from benchmarks.chaos.world import World
from tests.support.stack import eventually

__all__ = ["Round", "rage", "rounds"]

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


def rage(world: World, plan: Iterable[Round], tell: Callable[[str], None]) -> dict[str, int]:
    """Injects every fault; returns how many of each kind."""
    struck: dict[str, int] = {}
    for number, each in enumerate(plan, 1):
        for name in each.faults:
            time.sleep(world.chance.uniform(0.1, 3.0))
            tell(name)
            FAULTS[name][1](world)
            struck[name] = struck.get(name, 0) + 1
        with settled(world) as seconds:
            tell(f"round {number}: {len(each.faults)} faults, all back and caught up after {seconds:.0f} s")
            if each.calm_fault is not None:
                tell(each.calm_fault)
                CALM_FAULTS[each.calm_fault][1](world)
                struck[each.calm_fault] = struck.get(each.calm_fault, 0) + 1
    with settled(world):
        return struck


@contextmanager
def settled(world: World) -> Iterator[float]:
    """Inside, every part is ready, every image sent so far is placed, and none is sent; gives the seconds it took."""
    started = time.monotonic()
    world.up()
    world.stack.deployment.wait_ready(timeout_s=_SETTLE_S)
    with world.flow.held():
        ids = world.flow.ids
        missing = set(ids)

        def placed() -> bool | None:
            nonlocal missing
            if missing:
                some = sorted(missing)[:200]
                missing -= set(world.stack.heads(some))
            return None if missing else True

        eventually(placed, _SETTLE_S, lambda: f"{len(missing)} images have no head, such as {sorted(missing)[:5]}")
        assert world.stack.problems() == []
        yield time.monotonic() - started
