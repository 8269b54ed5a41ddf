"""A first load and a chain of deltas, from a folder that the job watches, while the parts that they need are killed.

The snapshot appears in the folder, and new images flow as soon as its load has begun: a service that has decided images
takes none. Parts are killed each time that the load has come to another share of its rows, drawn by chance. Once it is
live, people pin and forbid what later rows contradict. Then each delta appears while the one before it enters, and
parts are killed each time that the chain has come to another row.

A kill is `kill -9` of a part that runs: the storage server, the search server, the task manager, where the watcher of
the folder and all operators live, or the job manager.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from benchmarks.chaos.manifests import Delta, OldImages, Row, write_manifest
from benchmarks.chaos.storm import compared, settled, strike
from benchmarks.chaos.world import World
from core.access import Right
from core.dead_letters import Reason
from core.errors import ServiceError
from core.first_loads import LoadRequest, LoadState
from core.manifest_rows import RowResult
from core.overrides import OverrideKind, OverrideRequest
from core.types import ImageId
from manifests.folder import open_folder
from manifests.image_files import ImageRow
from manifests.manifest import SUFFIX, Manifest
from operators.first_load import FirstLoad
from storage.loading.delta_report import DeltaReport
from stream.bootstrap.loading import servers
from stream.bootstrap.signal import load_signal
from stream.settings import Settings
from tests.support.calm import Began
from tests.support.old_images import manifest_ends
from tests.support.stack import SAMPLE, Stack, eventually, sample_rows

__all__ = ["PACED", "VICTIMS", "Kill", "begins_with", "load_under_kills", "old_images", "planned_kills"]

VICTIMS = ("photos-storage", "photos-search", "taskmanager", "jobmanager")
"""Whom a load needs."""

_SNAPSHOT = "first"
_SNAPSHOT_ROWS = 400
_ROWS_PER_S = 16.0
_IN_LOAD = 0.3
"""The share of the kills that strike the first load: it begins anew with a server that is killed."""

_PATIENCE_S = 900.0

PACED: dict[str, Any] = {"index": {"load_rows_per_s": _ROWS_PER_S}, "storage": {"load_rows_per_s": _ROWS_PER_S}}
"""Settings of a signal whose loads take long enough to be struck."""


class Kill(NamedTuple):
    """A kill, once so many rows are done, as a share of all."""

    at: float
    part: str


def planned_kills(kills: int, chance: random.Random) -> tuple[list[Kill], list[Kill]]:
    """When each part of `VICTIMS` is killed `kills` times: during the first load, and during the deltas."""
    in_load = int(_IN_LOAD * kills)
    # The last rows are left out, so that the load is not over before the kill.
    return _planned(in_load, chance, 0.85), _planned(kills - in_load, chance, 0.95)


def _planned(kills: int, chance: random.Random, end: float) -> list[Kill]:
    parts = [*VICTIMS] * kills
    chance.shuffle(parts)
    return [Kill(at, part) for at, part in zip(sorted(chance.uniform(0.0, end) for _ in parts), parts, strict=True)]


def old_images(chance: random.Random) -> OldImages:
    """What the other system has: images of the sample."""
    groups = pq.read_table(SAMPLE, columns=["group_id"])["group_id"].to_pylist()
    return OldImages(sample_rows(), groups, _SNAPSHOT_ROWS, chance)


def begins_with(old: OldImages, settings: Settings, root: Path) -> Began:
    """Writes the snapshot into a folder, for a service that begins with it as it is."""
    manifest = write_manifest(root, _SNAPSHOT, old.snapshot, load_signal(settings))
    request = LoadRequest(open_folder(str(root)).uri, f"{_SNAPSHOT}{SUFFIX}", manifest.id, "")
    return Began(request, manifest.rows, old.heads)


def load_under_kills(world: World, old: OldImages, kills: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Puts the manifests into the folder that the job watches, and kills each part so often until all are live.

    Returns:
        Figures.

    Raises:
        AssertionError: Something was over before a kill, did not end, or a row did not become what it must.
    """
    run = _Run(world, old, tell)
    in_load, in_deltas = planned_kills(kills, world.chance)
    load_s = run.load(in_load)
    with settled(world):
        tell(f"after the first load: {compared(world)}")
        deltas = old.deltas(_streamed(world))
        _say(world, deltas)
    world.flow.add(old.copies)
    deltas_s = run.enter(deltas, in_deltas)
    world.flow.stop()
    with settled(world):
        figures = run.checked(deltas)
    return {
        "rows_of_snapshot": len(old.snapshot),
        "load_s": round(load_s, 1),
        "deltas_s": round(deltas_s, 1),
        **figures,
        "kills_in_load": len(in_load),
        "by_kind": dict(sorted(run.kills.items())),
    }


class _Run:
    """One run, and what was put into the folder."""

    def __init__(self, world: World, old: OldImages, tell: Callable[[str], None]) -> None:
        self._world, self._stack, self._old, self._tell = world, world.stack, old, tell
        _, signal = world.stack.settings.signal()
        self._root = Path(world.stack.settings.manifests(signal))
        self._manifests: dict[str, Manifest] = {}
        self.kills: Counter[str] = Counter()

    def load(self, kills: Sequence[Kill]) -> float:
        """The first load, from its manifest to both servers; returns how many seconds it took."""
        started = time.monotonic()
        manifest = self._put(_SNAPSHOT, self._old.snapshot)
        began = self._world.calm.began.request
        assert began is not None
        assert began.manifest_id == manifest.id, "the second service began with something else"
        self._await(partial(self._is_loaded, 0.0), "the begin of the first load")
        self._world.flow.start()
        for kill in kills:
            self._await(partial(self._is_loaded, kill.at), f"{kill.at:.0%} of the first load")
            self._kill(kill, "of the first load")
        self._await(lambda: _first_load(self._stack).state is LoadState.LIVE, "the first load")
        self._await(self._is_watched_live, "the watcher")
        return time.monotonic() - started

    def enter(self, deltas: Sequence[Delta], kills: Sequence[Kill]) -> float:
        """All deltas, each of which appears while the one before it enters; returns how many seconds it took."""
        started, rows = time.monotonic(), [len(delta.rows) for delta in deltas]
        total, chance = sum(rows), self._world.chance
        writes = [
            _Event(max(0.0, sum(rows[:number]) - chance.uniform(1, max(rows) / 2)), partial(self._add, number, delta))
            for number, delta in enumerate(deltas)
        ]
        events = [_Event(kill.at * total, partial(self._kill, kill, "of the deltas")) for kill in kills]
        for event in sorted([*writes, *events], key=lambda event: event.at_row):
            self._await(partial(self._has_entered, event.at_row, total), f"row {event.at_row:.0f} of {total}")
            event.act()
        self._await(lambda: _all_live(self._stack, len(deltas)), "the deltas")
        self._await(self._is_watched_live, "the watcher")
        return time.monotonic() - started

    def checked(self, deltas: Sequence[Delta]) -> dict[str, Any]:
        """Looks whether all rows have become what they must."""
        # While the job catches up, more versions of one image wait for their other half than it keeps.
        wrong = [each for each in self._stack.dead_letters() if each.reason != Reason.TOO_MANY_VERSIONS]
        assert not wrong, f"{len(wrong)} dead letters, such as {wrong[0]}"
        with self._stack.storage() as storage:
            reports = {each.load.request.manifest_id: each for each in storage.deltas()}
        results: Counter[RowResult] = Counter()
        moved = 0
        for number, delta in enumerate(deltas):
            report = reports[self._manifests[_name(number)].id]
            wanted = Counter(row.result for row in delta.rows)
            assert dict(report.counts) == dict(wanted), f"delta {number}: {report.counts} instead of {wanted}"
            results += wanted
            moved += _checked_heads(self._stack, delta.rows)
        assert moved, "no row has named a head that had moved"
        explained: Counter[str] = Counter()
        for name in self._manifests:
            said = self._world.neardup("bootstrap", "verify", str(self._root), name, "--all", "--json")
            explained += Counter({kind: each["count"] for kind, each in json.loads(said)["explained"].items()})
        self._tell(f"all rows are accounted for, and {len(self._manifests)} manifests verified")
        return {
            "deltas": len(deltas),
            "rows_of_deltas": sum(results.values()),
            "results": {str(result): times for result, times in sorted(results.items())},
            "rows_of_moved_heads": moved,
            "verified_differences": dict(explained),
        }

    def _add(self, number: int, delta: Delta) -> None:
        """Puts a delta into the folder. What its rows name has been adopted by then, if it must."""
        if any(row.head in self._old.lone for row in delta.rows):
            self._await(self._adopted, "adoptions")
        name = _name(number)
        self._put(name, delta.rows, self._manifests[_name(number - 1) if number else _SNAPSHOT])
        self._tell(f"{name}: {len(delta.rows)} rows")

    def _put(self, name: str, rows: Sequence[Row], previous: Manifest | None = None) -> Manifest:
        manifest = write_manifest(self._root, name, rows, load_signal(self._stack.settings), previous)
        self._manifests[name] = manifest
        return manifest

    def _is_loaded(self, share: float) -> bool:
        found = _first_load(self._stack)
        assert found.state is not LoadState.LIVE, "the load is over before a kill"
        return len(found.reports) == 2 and found.rows_total > 0 and found.rows_done >= share * found.rows_total

    def _has_entered(self, rows: float, total: int) -> bool:
        entered = sum(each.load.rows_done for each in _reports(self._stack))
        assert entered < total, "the deltas are over before a kill"
        return entered >= rows

    def _is_watched_live(self) -> bool:
        """The watcher counts what has ended since its task began: the last manifest at least."""
        ends = manifest_ends(self._stack)
        assert ends.keys() <= {"live"}, f"files of the folder ended as {ends}"
        return bool(ends)

    def _adopted(self) -> bool:
        heads = self._stack.heads(self._old.lone)
        return all(heads.get(each, each) != each for each in self._old.lone)

    def _kill(self, kill: Kill, when: str) -> None:
        self._tell(f"kill of {kill.part} at {kill.at:.0%} {when}")
        name = f"kill:{kill.part}"
        strike(self._world, lambda world: self._await(lambda: world.killed(kill.part), f"{kill.part} running"), name)
        self.kills[name] += 1

    def _await(self, ask: Callable[[], bool], what: str) -> None:
        eventually(lambda: ask() or None, _PATIENCE_S, lambda: f"it waits for {what}: {_shown(self._stack)}")


@dataclass(frozen=True, slots=True)
class _Event:
    """Something that happens once so many rows of deltas have entered."""

    at_row: float
    act: Callable[[], None]


def _name(number: int) -> str:
    return f"delta-{number:02}"


def _say(world: World, deltas: Iterable[Delta]) -> None:
    """Pins and forbids images that come later."""
    with servers(world.stack.settings, None, Right.WRITE) as both:
        for delta in deltas:
            for kind, said in ((OverrideKind.PIN, delta.pins), (OverrideKind.FORBID, delta.forbids)):
                for image_id, target in said.items():
                    both.storage.override(OverrideRequest(kind, (ImageId(image_id),), ImageId(target), author="chaos"))


def _streamed(world: World) -> list[ImageRow]:
    """Images that flowed and have a head by now, of one version each."""
    return list({row.image_id: row for _, row in world.flow.sent if row.image_id != "hot"}.values())


def _first_load(stack: Stack) -> FirstLoad:
    with servers(stack.settings, None, Right.READ) as both:
        return FirstLoad(both.storage.load_status(), both.search.load_status())


def _reports(stack: Stack) -> list[DeltaReport]:
    with stack.storage() as storage:
        return storage.deltas()


def _all_live(stack: Stack, deltas: int) -> bool:
    found = _reports(stack)
    return len(found) == deltas and all(each.load.state is LoadState.LIVE for each in found)


def _shown(stack: Stack) -> str:
    try:
        loads = [*_first_load(stack).reports, *(each.load for each in _reports(stack))]
    except ServiceError as error:
        return str(error)
    return "; ".join(
        f"{each.request.manifest} {each.state} {each.rows_done}/{each.rows_total} {each.detail}" for each in loads
    )


def _checked_heads(stack: Stack, rows: Sequence[Row]) -> int:
    """Whether images are where their rows say, wherever that is by now; returns of how many the head has moved."""
    joined = [(ImageId(row.image.image_id), ImageId(row.head)) for row in rows if row.head and _must_be_there(row)]
    with stack.storage() as storage:
        found = storage.look_up({each for pair in joined for each in pair}).memberships
    apart = [image for image, head in joined if found[image].head != found[head].head]
    assert not apart, f"{len(apart)} images are not where the heads are that their rows name, such as {apart[:5]}"
    return sum(found[head].head != head for _, head in joined)


def _must_be_there(row: Row) -> bool:
    return row.result in (RowResult.JOINED, RowResult.FOUNDED)
