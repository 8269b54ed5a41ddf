"""Every write that there is, in any order and with kills between any two steps, on RocksDB beside the reference store.

The stream decides a random world of images, new versions, deletes and replays. People say overrides of all kinds, roll
back and undo. Moves and forgets are in bulk from a size on that differs, and settle at any pace. The store is killed
before any of its writes, opened again, or loses its database and is built again from the order. After each step both
stores tell the same of heads, members, clusters, rules and overrides, and at rest of the history of each image too.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.errors import BadInputError, ConflictError
from core.types import ImageId
from storage.bulk.operations import OperationState
from storage.memory import MemoryStore
from storage.rocks.database import KeyRange, Write
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from tests.clustering.test_assignment_properties import BUSY_WORLDS, FORGETTING_WORLDS, IDS, WORLDS
from tests.clustering.test_bulk_moves_on_stores import any_request, decide_in_bulk, elsewhere, moved, seen, settle_all
from tests.clustering.test_overrides_on_stores import decide
from tests.support.cluster_world import World

SEEDS = st.integers(0, 10**6)


class KilledError(Exception):
    """The process ends here."""


class Killed(RocksStore):
    """A store that is killed before one of its writes, to the database or to the log of overrides."""

    left: int | None = None

    def _write(self, writes: Iterable[Write], ranges: Iterable[KeyRange] = ()) -> None:
        self._step()
        super()._write(writes, ranges)

    def _keep(self, override: object) -> None:
        self._step()
        super()._keep(override)  # type: ignore[arg-type]
        self._step()

    def _step(self) -> None:
        if self.left is not None:
            if self.left == 0:
                raise KilledError
            self.left -= 1


class EveryWrite(RuleBasedStateMachine):
    """Both stores, and the world that they decide."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.plain = MemoryStore()
        self.until = 0

    @initialize(world=BUSY_WORLDS | WORLDS | FORGETTING_WORLDS, most=st.sampled_from([0, 0, 2, 10_000]))
    def begin(self, world: World, most: int) -> None:
        """A new store."""
        self.world, self.most = world, most
        self.rocks = self._opened()

    @rule(more=st.integers(1, 12), seed=SEEDS, kill=st.none() | st.integers(0, 5))
    def stream(self, more: int, seed: int, kill: int | None) -> None:
        """The stream goes on."""
        self.until = min(len(self.world.log), self.until + more)
        decide(self.world, self.plain, self.until, lambda: 1)
        dice = random.Random(seed)
        self._alive(kill, lambda: decide_in_bulk(self.world, self.rocks, self.until, dice))
        decide_in_bulk(self.world, self.rocks, self.until, dice)

    @rule(seed=SEEDS, kill=st.none() | st.integers(0, 12))
    def say(self, seed: int, kill: int | None) -> None:
        """Somebody says an override, of any kind; after a kill it was said or it was not."""
        settle_all(self.rocks)
        request = there = any_request(random.Random(seed), self.plain)
        if request.rollback is not None:
            there = replace(request, rollback=elsewhere(request.rollback, self.plain, self.rocks))
        with suppress(BadInputError, ConflictError):
            self._alive(kill, lambda: self.rocks.override(there, 7))
        if self.rocks.state().overrides > self.plain.state().overrides:
            self.plain.override(request, 7)
        elif kill is None:
            with suppress(BadInputError, ConflictError):
                assert not self.plain.override(request, 7).created

    @rule(limit=st.integers(1, 4), kill=st.none() | st.just(0))
    def settle(self, limit: int, kill: int | None) -> None:
        """A bulk move goes on."""
        self._alive(kill, lambda: self.rocks.settle(limit))

    @rule()
    def reopen(self) -> None:
        """An orderly end."""
        self.rocks.close()
        self.rocks = self._opened()

    @precondition(lambda self: self.until > 0)
    @rule(seed=SEEDS)
    def lose_the_database(self, seed: int) -> None:
        """The store is built again from the order, and from the log of overrides."""
        self.rocks.close()
        folder = Path(self.folder.name)
        (folder / "store.json").unlink()
        shutil.rmtree(folder / "db")
        self.rocks = self._opened()
        decide_in_bulk(self.world, self.rocks, self.until, random.Random(seed))
        settle_all(self.rocks)

    @invariant()
    def both_tell_the_same(self) -> None:
        """Heads, members, clusters, rules and overrides; at rest the history of each image."""
        if not hasattr(self, "rocks"):
            return
        assert seen(self.rocks) == seen(self.plain)
        ids = [ImageId(each) for each in IDS]
        assert self.rocks.look_up(ids).rules == self.plain.look_up(ids).rules
        said, told = self.rocks.overrides(0, 1_000), self.plain.overrides(0, 1_000)
        assert [(each.override.kind, each.undone_by) for each in said] == [
            (each.override.kind, each.undone_by) for each in told
        ]
        if all(each.state is OperationState.DONE for each in self.rocks.operations(0, 1_000)):
            assert moved(self.rocks) == moved(self.plain)

    def teardown(self) -> None:
        """Removes the store."""
        if hasattr(self, "rocks"):
            self.rocks.close()
        self.folder.cleanup()

    def _opened(self) -> Killed:
        return Killed(Path(self.folder.name), options=RocksOptions(sync=False), moves_at_once=self.most)

    def _alive(self, kill: int | None, act: Callable[[], object]) -> None:
        """Acts, and opens the store again if it was killed."""
        self.rocks.left = kill
        try:
            act()
        except KilledError:
            self.rocks.left = None
            self.rocks.close()
            self.rocks = self._opened()
        finally:
            self.rocks.left = None


TestEveryWrite = EveryWrite.TestCase
TestEveryWrite.settings = settings(
    max_examples=60,
    stateful_step_count=15,
    deadline=None,
    # Worlds are not made smaller: it takes minutes, and their seeds say as much.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
