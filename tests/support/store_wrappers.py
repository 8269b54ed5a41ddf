"""A store that passes every call on to another one, and one that counts calls on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager

from core.overrides import ListedOverride, OverrideOutcome, OverrideRequest
from core.types import Decision, ImageId, LogPosition, Lookup
from storage.bulk.operations import Operation
from storage.interfaces import ClusterStore, StoreView
from storage.records import DeltaProgress, EraseStep, Mend, PublishedMark, StoreEpoch, StoreState, Touched


class DelegatingStore(ClusterStore):
    """Passes every call on."""

    def __init__(self, inner: ClusterStore) -> None:
        self.inner = inner

    def snapshot(self) -> AbstractContextManager[StoreView]:
        """See `ClusterStore.snapshot`."""
        return self.inner.snapshot()

    def look_up(self, ids: Iterable[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """See `ClusterStore.look_up`."""
        return self.inner.look_up(ids, verdicts_of)

    def apply(
        self, log_id: str, decisions: Sequence[Decision], offset: int, revision: int, kinds: Collection[str] = ()
    ) -> LogPosition:
        """See `ClusterStore.apply`."""
        return self.inner.apply(log_id, decisions, offset, revision, kinds)

    def require_kinds(self, kinds: Collection[str]) -> None:
        """See `ClusterStore.require_kinds`."""
        self.inner.require_kinds(kinds)

    def put_delta(self, progress: DeltaProgress) -> None:
        """See `ClusterStore.put_delta`."""
        self.inner.put_delta(progress)

    def renew(self, log_id: str, base: int) -> LogPosition:
        """See `ClusterStore.renew`."""
        return self.inner.renew(log_id, base)

    def set_published(self, number: int, mark: PublishedMark | None = None) -> None:
        """See `ClusterStore.set_published`."""
        self.inner.set_published(number, mark)

    def begin_epoch(self, epoch: StoreEpoch) -> None:
        """See `ClusterStore.begin_epoch`."""
        self.inner.begin_epoch(epoch)

    def sweep_history(self, before: int, limit: int) -> int:
        """See `ClusterStore.sweep_history`."""
        return self.inner.sweep_history(before, limit)

    def remove_dead_letters(self, offsets: Collection[int]) -> None:
        """See `ClusterStore.remove_dead_letters`."""
        self.inner.remove_dead_letters(offsets)

    def mend(self, mends: Collection[Mend]) -> None:
        """See `ClusterStore.mend`."""
        self.inner.mend(mends)

    def erase(self, step: EraseStep) -> None:
        """See `ClusterStore.erase`."""
        self.inner.erase(step)

    def scrub(self, touched: Touched | None) -> None:
        """See `ClusterStore.scrub`."""
        self.inner.scrub(touched)

    def override(self, request: OverrideRequest, at_ms: int, *, dry_run: bool = False) -> OverrideOutcome:
        """See `ClusterStore.override`."""
        return self.inner.override(request, at_ms, dry_run=dry_run)

    def overrides(self, after: int, limit: int, image_id: ImageId | None = None) -> Sequence[ListedOverride]:
        """See `ClusterStore.overrides`."""
        return self.inner.overrides(after, limit, image_id)

    def set_requeued(self, number: int) -> None:
        """See `ClusterStore.set_requeued`."""
        self.inner.set_requeued(number)

    def operations(self, after: int, limit: int) -> Sequence[Operation]:
        """See `ClusterStore.operations`."""
        return self.inner.operations(after, limit)

    def settle(self, limit: int) -> bool:
        """See `ClusterStore.settle`."""
        return self.inner.settle(limit)

    def pause(self, number: int, *, rests: bool) -> None:
        """See `ClusterStore.pause`."""
        self.inner.pause(number, rests=rests)

    def cancel(self, number: int) -> None:
        """See `ClusterStore.cancel`."""
        self.inner.cancel(number)

    def on_apply(self, listener: Callable[[StoreState], None]) -> None:
        """See `ClusterStore.on_apply`."""
        self.inner.on_apply(listener)

    def on_rename(self, listener: Callable[[int], None]) -> None:
        """See `ClusterStore.on_rename`."""
        self.inner.on_rename(listener)

    def close(self) -> None:
        """See `ClusterStore.close`."""
        self.inner.close()


class CountingStore(DelegatingStore):
    """Counts look-ups, writes and decisions, by name of the method."""

    def __init__(self, inner: ClusterStore) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()
        self.decisions = 0

    def look_up(self, ids: Iterable[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """Counted, then passed on."""
        self.calls["look_up"] += 1
        return super().look_up(ids, verdicts_of)

    def apply(
        self, log_id: str, decisions: Sequence[Decision], offset: int, revision: int, kinds: Collection[str] = ()
    ) -> LogPosition:
        """Counted, then passed on."""
        self.calls["apply"] += 1
        position = super().apply(log_id, decisions, offset, revision, kinds)
        self.decisions += len(decisions)
        return position
