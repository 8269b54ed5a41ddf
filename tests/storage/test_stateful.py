"""A store on disk beside one in memory and a plain model, through writes, faults, reopenings and long-lived views."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.errors import LogGapError, StaleError
from core.types import ImageId
from storage.interfaces import StoreView
from storage.memory import MemoryStore
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.testing.decisions import assert_holds
from storage.testing.model import LOG, Action, StoreModel, actions, name

NAMED = [name(number) for number in range(41)]
"""All ids that the actions name."""


def everything(view: StoreView) -> dict[str, Any]:
    """All that a view shows."""
    return {
        "state": view.state(),
        "published": view.published(),
        "images": list(view.images()),
        "clusters": list(view.clusters()),
        "edges": list(view.edges()),
        "embeddings": list(view.embeddings()),
        "history": list(view.history_from(0)),
        "history of": {image_id: list(view.history_numbers_of(image_id, 0)) for image_id in NAMED},
        "ended": {image_id: list(view.ended_clusters(image_id, 0)) for image_id in NAMED},
        "seconds": list(view.seconds_from(0)),
        "unscored": list(view.swept_unscored(-1)),
        "tombstones": list(view.tombstones()),
    }


class Stores(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="neardup-store-"))
        self.second = 1_000
        self.memory = MemoryStore(now_ms=self.now_ms)
        self.rocks = self.open()
        self.model = StoreModel()
        self.held: ExitStack | None = None
        self.old: tuple[StoreView, dict[str, Any]] | None = None

    def open(self) -> RocksStore:
        return RocksStore(self.folder / "store", "photos", RocksOptions(sync=False, write_buffer_mib=1), self.now_ms)

    def now_ms(self) -> int:
        return self.second * 1000

    @rule(seconds=st.integers(-5, 50))
    def time_passes(self, seconds: int) -> None:
        self.second += seconds

    @rule(entries=st.integers(0, 60), limit=st.integers(1, 40))
    def sweep(self, entries: int, limit: int) -> None:
        before = self.memory.state().history_first + entries
        swept = [store.sweep_history(before, limit) for store in (self.memory, self.rocks)]
        assert swept[0] == swept[1] <= limit

    @rule(steps=st.lists(actions, min_size=1, max_size=8))
    def apply(self, steps: list[Action]) -> None:
        at = self.model.offset
        decisions = [self.model.decide(action) for action in steps]
        positions = [store.apply(LOG, decisions, at, 0) for store in (self.memory, self.rocks)]
        assert positions[0] == positions[1]

    @rule(action=actions, gap=st.integers(1, 3), late=st.integers(1, 3))
    def refused(self, action: Action, gap: int, late: int) -> None:
        decision = self.model.copy().decide(action)
        for store in (self.memory, self.rocks):
            with pytest.raises(StaleError):
                store.apply(LOG, [decision], self.model.offset + late, 0)
            with pytest.raises(LogGapError):
                store.apply(
                    "another log" if self.model.offset >= 0 else LOG, [decision] * (gap + 1), decision.offset - 1, 0
                )

    @rule(number=st.integers(0, 10**6))
    def publish(self, number: int) -> None:
        low, high = self.memory.published(), self.memory.state().history_number
        for store in (self.memory, self.rocks):
            store.set_published(low + number % (high - low + 1))

    @precondition(lambda self: self.held is None)
    @rule()
    def hold_a_view(self) -> None:
        self.held = ExitStack()
        view = self.held.enter_context(self.rocks.snapshot())
        with self.memory.snapshot() as same:
            self.old = (view, everything(same))

    @precondition(lambda self: self.held is not None)
    @rule()
    def leave_the_view(self) -> None:
        assert self.old is not None
        assert self.held is not None
        view, expected = self.old
        assert everything(view) == expected
        self.held.close()
        self.held = self.old = None

    @precondition(lambda self: self.held is None)
    @rule()
    def reopen(self) -> None:
        self.rocks.close()
        self.rocks = self.open()

    @rule(who=st.lists(st.integers(0, 50), max_size=12), size=st.integers(1, 5))
    def read(self, who: list[int], size: int) -> None:
        ids = [name(number) for number in who]
        assert self.rocks.look_up(ids, ids) == self.memory.look_up(ids, ids)
        for image_id in ids:
            assert self.rocks.image(image_id) == self.memory.image(image_id)
            assert self.pages(self.rocks, image_id, size) == self.model.members.get(image_id, [])

    def pages(self, store: RocksStore, head: ImageId, size: int) -> list[ImageId]:
        seen, token = list[ImageId](), None
        while True:
            page = store.members(head, size, token)
            seen += page.items
            token = page.next_token
            if token is None:
                return seen

    @invariant()
    def same(self) -> None:
        if hasattr(self, "rocks"):
            assert self.rocks.state() == self.memory.state()

    def teardown(self) -> None:
        if not hasattr(self, "rocks"):
            return
        if self.held is not None:
            self.held.close()
        with self.rocks.snapshot() as one, self.memory.snapshot() as other:
            assert everything(one) == everything(other)
        assert_holds(self.rocks, self.model)
        self.rocks.close()
        shutil.rmtree(self.folder)


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
