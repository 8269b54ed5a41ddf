"""Compares a service with a second one that applies the same order of `joined`, without faults.

After faults a service must hold what this one holds (law 9): heads and members, places, tombstones, the last verdicts,
the requests that were applied, and as many changes, each of the same record. So each record was decided once. What
people said in between is said to the second service too, and comes into its order at the same positions. If the service
began with a first load, the second one begins with it too.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from core.access import Right
from core.dead_letters import BadRecord
from core.first_loads import LoadRequest
from core.notifications import decode_joined, image_id_of, placed_image
from core.overrides import ListedOverride, OverrideKind
from core.protos.joined_pb2 import JoinedReplay
from core.types import ImageId, Lookup
from search.serving.client import SearchClient
from storage.overrides.relations import Tie, relations
from stream.access import credentials
from stream.bootstrap.loading import servers as both_servers
from stream.bootstrap.loading import until_live
from tests.support.sequence import Sequenced, servers
from tests.support.stack import Stack, eventually
from tests.support.unscored import last_seen_by, unscored_records

__all__ = ["Began", "Calm", "Held", "calm_service", "overrides_of"]

LOG_ID = "calm"
"""The log of the calm service. Its first record is the first of all logs that there were."""

AT_ONCE = 300
"""Images of one call; people may ask the index for so many."""

_PATIENCE_S = 60.0
"""Dead letters, changes and hidden images follow a write a little later."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a service holds."""

    images: int
    deleted: int
    unscored: int
    """Records that were decided without scores."""
    replays: int
    """Replays in the order, those that a restart repeated included."""
    changes: int
    overrides: int
    rollbacks: int


@dataclass(frozen=True, slots=True)
class Began:
    """What both services began with; by default nothing."""

    request: LoadRequest | None = None
    """The first load. The second service has a log of its own."""
    rows: int = 0
    heads: Mapping[str, str] = field(default_factory=dict)
    """The head of each image of it."""


@dataclass
class Calm:
    """The second service, and what it has applied."""

    stack: Stack
    sequence: Sequenced
    began: Began = Began()
    logs: list[list[bytes]] = field(default_factory=list)
    """The records of earlier topics `joined` of the service under test, which are gone."""
    seen: dict[int, int] = field(default_factory=dict)
    """The last position that finds each unscored image, by its place, as the index under test first hid it."""

    def note_unscored(self, tested: Stack) -> Mapping[int, int]:
        """Remembers what the index under test would forget when it is replaced. Call it when all is at rest.

        Returns:
            For each position that was decided without scores: the place that it hid.
        """
        logs = self._logs(tested)
        base = self.began.rows
        hiding = eventually(lambda: unscored_records(tested, logs, base), _PATIENCE_S, lambda: "Kafka does not answer")
        new = sorted({place for place in hiding.values() if place not in self.seen})
        # One that no search has found is hidden at its own place, also in an index that is put back.
        self.seen |= dict(zip(new, new, strict=True)) | last_seen_by(tested, new, f"calm-{time.time_ns()}")
        return hiding

    def check(self, tested: Stack, sent: Collection[str] = ()) -> Held:
        """Applies what the service under test has applied since the last check, and compares all that both hold.

        Args:
            tested: At rest.
            sent: Images that must have a head or a tombstone.

        Raises:
            AssertionError: Something differs, heads and members disagree, the published changes are out of order or
                incomplete, or index and storage do not agree on a place.
        """
        order = [record for log in self._logs(tested) for record in log]
        decoded = list(map(decode_joined, order))
        ids = set(map(ImageId, self.began.heads))
        ids |= {image_id_of(each) for each in decoded if not isinstance(each, BadRecord)}
        joined = {ImageId(image.image_id) for each in decoded if (image := placed_image(each)) is not None}
        assert joined >= set(sent), f"{len(set(sent) - joined)} images were never joined"
        held = _look_up(tested, ids)
        missing = joined - held.memberships.keys() - held.tombstones.keys()
        assert not missing, f"{len(missing)} images have no head, such as {sorted(missing)[:5]}"
        assert tested.problems() == []
        assert _together(tested, held) == []
        assert held.position.offset == self.began.rows + len(order) - 1, "storage has not applied the whole order"
        published = _await_published(tested, held, self.began.heads)
        hiding = self.note_unscored(tested)
        before = self.sequence.taken
        unscored = {
            position: max(position, self.seen.get(place, position))
            for position, place in hiding.items()
            if position >= self.began.rows + before
        }
        self._take_overrides(tested)
        self.sequence.take(order[before:], unscored)
        expected = _look_up(self.stack, ids)
        _same("membership", held.memberships, expected.memberships)
        _same("cluster", held.clusters, expected.clusters)
        _same("tombstone", held.tombstones, expected.tombstones)
        _same("request", held.requests, expected.requests)
        _same("verdict", held.verdicts, expected.verdicts)
        _same("delta", _rows_of_deltas(tested), _rows_of_deltas(self.stack))
        self._check_changes(published, expected)
        eventually(
            lambda: None if _wrong_places(tested, held) else True,
            _PATIENCE_S,
            lambda: "index and storage disagree:\n" + "\n".join(_wrong_places(tested, held)[:5]),
        )
        return Held(
            images=len(held.memberships),
            deleted=len(held.tombstones),
            unscored=len(hiding),
            replays=sum(isinstance(each, JoinedReplay) for each in decoded),
            changes=len(published),
            overrides=len(said := overrides_of(tested)),
            rollbacks=sum(each.override.kind is OverrideKind.ROLLBACK for each in said),
        )

    def _take_overrides(self, tested: Stack) -> None:
        """Gives the second service what people have said: its store applies each where it was applied first."""
        said, known = (
            each.settings.signal_dir(each.signal_name, "store") / "overrides.log" for each in (tested, self.stack)
        )
        if not said.exists() or (known.exists() and said.read_bytes() == known.read_bytes()):
            return
        storage = f"{self.stack.signal_name}-storage"
        self.stack.deployment.stop(storage)
        known.write_bytes(said.read_bytes())
        self.stack.deployment.start(storage)
        self.stack.deployment.wait_ready([storage])

    def _logs(self, tested: Stack) -> list[list[bytes]]:
        return [*self.logs, tested.records(tested.signal.topic("joined"))]

    def _check_changes(self, published: Sequence[Mapping[str, Any]], expected: Lookup) -> None:
        """As many changes, and of the images that changed more than once, each change by the same record."""
        with self.stack.storage() as storage:
            changes = storage.describe().history_number
        loaded = len(self.began.heads)
        ours_in_all = loaded + len(published)
        assert ours_in_all == changes, f"{ours_in_all} changes of heads, {changes} in the calm run"
        times = Counter(each["image_id"] for each in published)
        often = {image_id for image_id, number in times.items() if number > 1 and image_id in expected.memberships}
        ours: dict[str, list[tuple[Any, ...]]] = {}
        for each in published:
            if each["image_id"] in often:
                change = each["offset"], each["place"], each["version"], each["head"], each["cause"], each["matched"]
                ours.setdefault(each["image_id"], []).append(change)
        with self.stack.api() as api:
            theirs = {
                image_id: [
                    (each.offset, each.place, each.version, each.head or "", each.cause, each.matched)
                    for each in api.history(image_id)
                    if each.history_number > loaded
                ]
                for image_id in often
            }
        _same("history", ours, theirs)


@contextmanager
def calm_service(
    folder: Path, signals: Mapping[str, Mapping[str, Any]] | None = None, began: Began = Began()
) -> Iterator[Calm]:
    """A second service, for a signal with these settings, or for the sample's photos.

    Args:
        folder: Where it keeps all.
        signals: The settings of the signal, without addresses.
        began: What it begins with, as the service under test.
    """
    with servers(folder, signals) as stack:
        if began.request is not None:
            with both_servers(stack.settings, None, Right.WRITE) as both:
                until_live(replace(began.request, log_id=LOG_ID), both.storage, both.search, lambda found: None)
        with closing(Sequenced(LOG_ID, stack, batch=64, base=began.rows, epoch=began.rows)) as sequence:
            yield Calm(stack, sequence, began)


def overrides_of(stack: Stack) -> list[ListedOverride]:
    """All overrides of a service."""
    found: list[ListedOverride] = []
    with stack.storage() as storage:
        while page := storage.overrides(len(found), 1_000):
            found += page
    return found


def _together(stack: Stack, held: Lookup) -> list[tuple[int, str, str]]:
    """Forbids that stand, of images that share a cluster."""
    heads = {image_id: each.head for image_id, each in held.memberships.items()}
    return [
        (each.override.number, one, other)
        for each in overrides_of(stack)
        if each.undone_by is None
        for tie, one, other in relations(each.override)
        if tie is Tie.FORBID and one in heads and heads[one] == heads.get(other)
    ]


def _look_up(stack: Stack, ids: Collection[ImageId]) -> Lookup:
    """All that storage knows of images, which does not change meanwhile. Positions of logs are left out."""
    with stack.storage() as storage:
        parts = [storage.look_up(some, some) for some in _some(ids)] or [storage.look_up(())]
    found = parts[0]
    for part in parts[1:]:
        found = replace(
            found,
            memberships={**found.memberships, **part.memberships},
            clusters={**found.clusters, **part.clusters},
            tombstones={**found.tombstones, **part.tombstones},
            verdicts={**found.verdicts, **part.verdicts},
        )
    return found


def _some(ids: Collection[ImageId]) -> Iterator[list[ImageId]]:
    remaining = iter(sorted(ids))
    while some := list(islice(remaining, AT_ONCE)):
        yield some


def _same(what: str, ours: Mapping[Any, object], theirs: Mapping[Any, object]) -> None:
    differing = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    shown = "\n".join(f"  {key}: {ours.get(key)}\n    calm: {theirs.get(key)}" for key in sorted(differing)[:5])
    assert not differing, f"{len(differing)} differ in {what}:\n{shown}"


def _rows_of_deltas(stack: Stack) -> dict[str, object]:
    """What became of the rows of each delta, by the id of its manifest."""
    with stack.storage() as storage:
        found = storage.deltas()
    return {each.load.request.manifest_id: (each.load.rows_done, dict(each.counts), each.examples) for each in found}


def _await_published(tested: Stack, held: Lookup, began: Mapping[str, str]) -> list[dict[str, Any]]:
    """All published changes since the service began with these heads, once they lead to those that storage holds."""
    with tested.storage() as storage:
        last = int(storage.describe().history_number)
    heads = {image_id: each.head for image_id, each in held.memberships.items()}

    def complete() -> list[dict[str, Any]] | None:
        found = _published(tested)
        now = {**began, **{each["image_id"]: each["head"] for each in found}}
        same = {image_id: head for image_id, head in now.items() if head} == heads  # a deleted image has none
        return found if same and len(began) + len(found) == last else None

    return eventually(complete, _PATIENCE_S, lambda: "the published changes do not lead to the store's heads")


def _published(tested: Stack) -> list[dict[str, Any]]:
    """The published changes by number. They may come twice, but not out of order.

    Numbers begin again with each epoch of the store, and what an earlier epoch said no longer counts. A first load has
    the first numbers, in one record, which is left out.
    """
    epoch = loaded = 0
    changes: list[dict[str, Any]] = []
    for change in tested.assignments():
        if change["epoch"] > epoch:
            epoch, loaded, changes = change["epoch"], 0, []
        if change["epoch"] == epoch and change["load"] is not None:
            loaded = change["history_number"]
            continue
        number = change["history_number"] - loaded
        assert number <= len(changes) + 1, f"change {number} follows {len(changes)}"
        if change["epoch"] == epoch and number == len(changes) + 1:
            changes.append(change)
    return changes


def _wrong_places(tested: Stack, held: Lookup) -> list[str]:
    """Images of which index and storage say different things."""
    part, proof = tested.signal.search, credentials(tested.settings, Right.READ)
    wanted = {*held.memberships, *held.tombstones}
    with closing(SearchClient(part.address, 30.0, part.max_message_bytes, credentials=proof)) as search:
        found = {each.image_id: each for some in _some(wanted) for each in search.get(some).images}
    wrong = []
    for image_id in sorted(wanted):
        index, member, tombstone = found.get(image_id), held.memberships.get(image_id), held.tombstones.get(image_id)
        if index is None:
            agrees = False
        elif member is not None:
            agrees = (
                (index.image_version, index.deleted) == (member.version, False)
                and index.hidden == held.verdicts[image_id].unscored
                and (index.hidden or index.place == member.place)
            )
        else:
            assert tombstone is not None
            ours = index.image_version, index.place, index.deleted
            agrees = ours == (tombstone.version, tombstone.position, True)
        if not agrees:
            wrong.append(f"{image_id}: index {index}, storage {member or tombstone}")
    return wrong
