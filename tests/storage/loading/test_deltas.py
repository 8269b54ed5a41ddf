"""The rows of a delta go into the order: which may go, its checks, never too many ahead, again after a failure."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import BadInputError, MismatchError, UnavailableError
from core.first_loads import LoadRequest, LoadState
from core.notifications import decode_joined
from core.protos.joined_pb2 import JoinedMember
from core.types import ImageId
from manifests.manifest import Manifest
from storage.loading.delta_check import CheckTask, check
from storage.loading.delta_rows import MemberRecord
from storage.loading.deltas import LIMIT, STILL_S, Seen, choose, run_delta, write_rows
from storage.loading.pace import Pace
from storage.records import DeltaProgress
from tests.support.loadable import STARTED_MS, LoadableRow, load_settings, random_rows, write_manifest

FIRST = "1" * 32
NAME = "new.json"


class StopError(Exception):
    """Somebody has ended the delta."""


class World:
    """A `DeltaWatch`: an order, a store that applies it while one waits, and a clock that only pauses move."""

    def __init__(self, applied: int = -1, apply: int = 10**9) -> None:
        self.applied = applied
        self.apply = apply
        """How many records one pause lets the store apply."""
        self.order: list[MemberRecord] = []
        self.done = 0
        """How many of them are applied."""
        self.failures: Iterator[int | None] = iter(())
        """Of each send: how many records arrive before it fails; None: it succeeds."""
        self.now_s = 0.0
        self.log_id = "log"
        self.delay_ms = 0
        self.said: list[str] = []
        self.most_ahead = 0
        self.progress: DeltaProgress | None = None
        self.on_pause: Callable[[], None] = lambda: None

    @property
    def rows(self) -> list[int]:
        """Of the order."""
        return [each.row for each in self.order]

    def doing(self, what: str) -> None:
        """See `DeltaWatch.doing`."""
        self.said.append(what)

    def waits(self, why: str) -> None:
        """See `DeltaWatch.waits`."""
        self.said.append(f"waits: {why}")

    def counted(self, rows: int) -> DeltaProgress:
        """See `DeltaWatch.counted`."""
        assert self.progress is not None
        live = rows == self.applied + 1
        self.progress = replace(
            self.progress, rows=rows, applied=self.applied, state=LoadState.LIVE if live else LoadState.LOADING
        )
        return self.progress

    def look(self) -> Seen:
        """See `DeltaWatch.look`."""
        return Seen(self.applied, self.log_id, self.delay_ms)

    def send(self, records: Sequence[MemberRecord]) -> None:
        """See `DeltaWatch.send`."""
        assert records
        arrive = next(self.failures, None)
        self.order += records[:arrive]
        self.most_ahead = max(self.most_ahead, len({row for row in self.rows[self.done :] if row > self.applied}))
        if arrive is not None:
            raise UnavailableError("Kafka is away")

    def pause(self, seconds: float) -> None:
        """See `DeltaWatch.pause`."""
        self.now_s += seconds
        for each in self.order[self.done : self.done + self.apply]:
            self.applied = max(self.applied, each.row)
        self.done = min(len(self.order), self.done + self.apply)
        self.on_pause()

    def clock(self) -> float:
        """See `DeltaWatch.clock`."""
        return self.now_s

    def now_ms(self) -> int:
        """See `DeltaWatch.now_ms`."""
        return round(1000 * self.now_s)


def records(first: int, end: int) -> Iterator[MemberRecord]:
    return (MemberRecord(row, b"key", b"value") for row in range(first, end))


def test_all_rows_go_in_their_order_and_never_too_many_are_ahead() -> None:
    for apply in (7, 64, 1000):
        world = World(apply=apply)
        write_rows(records(0, 3_000), world, Pace(0))
        assert world.rows == list(range(3_000))
        assert world.applied == 2_999
        assert world.most_ahead <= LIMIT
    assert world.most_ahead == LIMIT


def test_it_gives_way_to_live_images() -> None:
    world = World()
    ahead: list[int] = []
    world.on_pause = lambda: ahead.append(len(world.order))
    world.delay_ms = 200
    write_rows(records(0, 300), world, Pace(0))
    grown = [after - before for before, after in itertools.pairwise(ahead)]
    late = World()
    late.delay_ms = 200
    told: list[int] = []

    def later() -> None:
        told.append(len(late.order))
        late.delay_ms = 200 if len(told) < 10 else 2_000

    late.on_pause = later
    write_rows(records(0, 300), late, Pace(0))
    steps = [after - before for before, after in itertools.pairwise(told)]
    assert max(grown) > 20
    assert set(steps[-50:]) <= {0, 1}  # one at a time, but it ends


def test_a_failed_write_is_repeated_before_any_later_row() -> None:
    dice = random.Random(3)
    for seed in range(20):
        world = World(apply=5)
        world.failures = iter([dice.choice([None, None, 0, 1, 7]) for _ in range(60)])
        write_rows(records(0, 120), world, Pace(0))
        seen = -1
        for row in world.rows:  # whatever is missing comes before what follows it
            assert row <= seen + 1, (seed, world.rows)
            seen = max(seen, row)
        assert world.applied == 119
        assert world.most_ahead <= LIMIT
    assert "waits: Kafka is away" in world.said


def test_rows_that_another_order_may_lack_are_written_again() -> None:
    world = World(apply=0)

    def renewed() -> None:
        if world.log_id == "log" and len(world.order) == 2:
            world.log_id, world.order, world.done, world.apply = "other", [], 0, 10**9  # lost with the old topic

    world.on_pause = renewed
    write_rows(records(0, 5), world, Pace(0))
    assert world.rows == [0, 1, 2, 3, 4]


def test_a_job_that_decides_nothing_is_told() -> None:
    world = World(apply=0)

    def wakes() -> None:
        if world.now_s > 2 * STILL_S:
            world.apply = 10**9

    world.on_pause = wakes
    write_rows(records(0, 3), world, Pace(0))
    assert "waits: 2 rows are in the order, and nobody decides them: does the job run?" in world.said
    assert world.said[-1] == ""


def test_a_job_that_decides_again_is_waited_for_no_longer_at_the_last_rows_too() -> None:
    world = World(apply=0)
    waits: list[bool] = []

    def wakes() -> None:
        waits.append(world.said[-1] != "")
        world.apply = 1 if world.now_s > 2 * STILL_S else 0

    world.on_pause = wakes
    write_rows(records(0, 2), world, Pace(0))
    assert world.rows == [0, 1]
    assert True in waits  # while both rows are in the order, and after the first of them is decided it ends
    assert waits[-1] is False


def test_a_pace_bounds_the_rows_of_a_second() -> None:
    world = World()
    write_rows(records(0, 100), world, Pace(20.0))
    assert world.now_s >= 4.9


def delta_of(manifest: Manifest, root: Path, **fields: object) -> DeltaProgress:
    request = LoadRequest(str(root), NAME, manifest.id, "")
    return replace(DeltaProgress(request, LoadState.LOADING, started_ms=STARTED_MS), **fields)  # type: ignore[arg-type]


@pytest.fixture
def rows() -> list[LoadableRow]:
    return random_rows(4, 100)


def run(world: World, delta: DeltaProgress, spool: Path) -> None:
    world.progress = delta
    run_delta(delta, spool, load_settings(), world, check)


def test_a_delta_is_checked_then_its_rows_are_members(tmp_path: Path, rows: list[LoadableRow]) -> None:
    manifest = write_manifest(tmp_path, rows, name=NAME, previous=FIRST)
    world = World()
    run(world, delta_of(manifest, tmp_path), tmp_path / "spool")
    assert any(each.startswith("checks: rows") for each in world.said)
    members = [decode_joined(each.value) for each in world.order]
    told = [row for row, each in enumerate(rows) if each.head is not None]
    assert len(told) < len(rows)  # rows without a head are passed: a later one has the image again
    assert world.rows == told
    for row, member in zip(told, members, strict=True):
        assert isinstance(member, JoinedMember)
        said = rows[row]
        assert (member.image.image_id, member.image.image_version) == (said.image_id, said.version)
        assert (member.head, member.matched, member.row) == (said.head, said.matched or "", row)
        assert (member.manifest_id, member.model_version) == (manifest.id, "m1")
        assert member.HasField("score") is (said.score is not None)
        assert member.score == pytest.approx(said.score or 0.0)
        assert member.image.search_vector == said.vectors[0].tobytes()
        assert member.image.score_vector == said.vectors[1].tobytes()
        assert (member.image.created_at_ms, member.image.arrived_at_ms) == (said.created_at_ms, STARTED_MS)
    assert not (tmp_path / "spool").exists()


def test_a_restart_goes_on_after_what_is_applied_and_checks_nothing_again(
    tmp_path: Path, rows: list[LoadableRow]
) -> None:
    manifest = write_manifest(tmp_path, rows, name=NAME, previous=FIRST)
    whole = World()
    run(whole, delta_of(manifest, tmp_path), tmp_path / "spool")
    world = World(applied=56)
    run(world, delta_of(manifest, tmp_path, rows=manifest.rows, applied=56), tmp_path / "spool")
    assert not any(each.startswith("checks") for each in world.said)
    assert world.order == [each for each in whole.order if each.row > 56]  # the same bytes


def test_one_whose_rows_are_all_applied_writes_none(tmp_path: Path, rows: list[LoadableRow]) -> None:
    manifest = write_manifest(tmp_path, rows, name=NAME, previous=FIRST)
    world = World(applied=manifest.rows - 1)
    run(world, delta_of(manifest, tmp_path, applied=manifest.rows - 1), tmp_path / "spool")
    assert world.order == []


def test_nothing_enters_of_a_wrong_manifest(tmp_path: Path, rows: list[LoadableRow]) -> None:
    world = World()
    rows[70] = replace(rows[70], version=2, image_id=rows[60].image_id, head=rows[60].image_id)
    wrong = replace(rows[80], image_id=ImageId("x" * 300))
    manifest = write_manifest(tmp_path, [*rows[:80], wrong], name=NAME, previous=FIRST)
    with pytest.raises(BadInputError, match=r"new-000080\.parquet: row 0: column image_id is refused"):
        run(world, delta_of(manifest, tmp_path), tmp_path / "spool")
    missing = tmp_path / "data" / "new-000040.parquet"
    kept = missing.read_bytes()
    missing.write_bytes(kept[:-1] + b"x")
    with pytest.raises(BadInputError, match=r"new-000040\.parquet has \d+ bytes and the SHA-256 \w+, the manifest"):
        run(world, delta_of(manifest, tmp_path), tmp_path / "spool")
    other = delta_of(replace(manifest, previous="2" * 32), tmp_path)
    with pytest.raises(MismatchError, match="was asked for: it was replaced"):
        run(world, other, tmp_path / "spool")
    snapshot = write_manifest(tmp_path, rows[:9], name=NAME)
    with pytest.raises(BadInputError, match="is a snapshot, no delta"):
        run(world, delta_of(snapshot, tmp_path), tmp_path / "spool")
    shutil.rmtree(tmp_path / "manifests")
    with pytest.raises(UnavailableError, match="is it mounted"):
        run(world, other, tmp_path / "spool")
    assert world.order == []


def test_a_file_that_changes_between_check_and_reading_is_refused_by_name(
    tmp_path: Path, rows: list[LoadableRow]
) -> None:
    manifest = write_manifest(tmp_path, rows, name=NAME, previous=FIRST)
    changed = tmp_path / "data" / "new-000040.parquet"

    def then_changed(task: CheckTask, tell: Callable[[str], None]) -> None:
        check(task, tell)
        changed.write_bytes(changed.read_bytes()[:-1] + b"x")

    world = World()
    world.progress = delta_of(manifest, tmp_path)
    with pytest.raises(MismatchError, match=r"new-000040\.parquet .* it was changed after the manifest was written"):
        run_delta(world.progress, tmp_path / "spool", load_settings(), world, then_changed)
    assert max(world.rows, default=-1) < 40


def test_a_row_that_is_no_record_is_refused_by_name(tmp_path: Path, rows: list[LoadableRow]) -> None:
    rows[3] = replace(rows[3], head=ImageId("x" * 300))
    world = World()
    world.progress = delta_of(write_manifest(tmp_path, rows, name=NAME, previous=FIRST), tmp_path)
    with pytest.raises(BadInputError, match=r"new-000000\.parquet: row 3: the id of the head has 300 bytes"):
        run_delta(world.progress, tmp_path / "spool", load_settings(), world, lambda task, tell: None)
    assert max(world.rows, default=-1) < 3


def test_it_is_ended_between_two_looks(tmp_path: Path, rows: list[LoadableRow]) -> None:
    manifest = write_manifest(tmp_path, rows, name=NAME, previous=FIRST)
    world = World()

    def stop() -> None:
        if world.applied > 20:
            raise StopError

    world.on_pause = stop
    with pytest.raises(StopError):
        run(world, delta_of(manifest, tmp_path), tmp_path / "spool")
    assert 20 < world.applied < 99
    assert not (tmp_path / "spool").exists()


def test_a_manifest_without_rows_is_done_at_once(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [], name=NAME, previous=FIRST)
    world = World()
    run(world, delta_of(manifest, tmp_path), tmp_path / "spool")
    assert world.order == []
    assert world.progress is not None
    assert world.progress.state is LoadState.LIVE


def known(number: int, state: LoadState = LoadState.LOADING, folder: str = "/old") -> DeltaProgress:
    return DeltaProgress(LoadRequest(folder, NAME, f"{number:032x}", ""), state)


def follows(progress: DeltaProgress) -> str | None:
    """Each follows the one before it, the first one the first load."""
    number = int(progress.request.manifest_id, 16)
    return FIRST if number == 1 else f"{number - 1:032x}"


def test_the_first_that_follows_what_is_live_goes() -> None:
    choice = choose([known(2), known(1), known(3)], FIRST, follows)
    assert choice.delta == known(1)
    assert choice.waits == {
        f"{2:032x}": f"waits for the manifest {1:032x}",
        f"{3:032x}": f"waits until the manifest {1:032x} is done",
    }
    live = known(1, LoadState.LIVE)
    assert choose([known(2), live, known(3)], FIRST, follows).delta == known(2)
    for ended in (LoadState.FAILED, LoadState.ABORTED):
        choice = choose([known(2), known(1, ended)], FIRST, follows)
        assert choice.delta is None
        assert choice.waits == {f"{2:032x}": f"waits for the manifest {1:032x}"}
    assert choose([known(1)], "", follows).delta is None
    assert choose([], FIRST, follows).delta is None


def test_one_whose_folder_is_away_or_not_known_lets_others_go() -> None:
    def away(progress: DeltaProgress) -> str | None:
        if progress.request.folder == "/away":
            raise UnavailableError("no such host")
        return FIRST

    choice = choose([known(7, folder=""), known(5, folder="/away"), known(6)], FIRST, away)
    assert choice.delta == known(6)
    assert choice.waits[f"{5:032x}"] == "no such host"
    assert "load it again" in choice.waits[f"{7:032x}"]


def test_a_folder_that_does_not_answer_is_asked_once() -> None:
    asked: list[str] = []

    def away(progress: DeltaProgress) -> str | None:
        asked.append(progress.request.manifest_id)
        if progress.request.folder == "s3://away":
            raise UnavailableError("no such host")
        return FIRST

    others = [known(number, folder="s3://away") for number in range(3, 9)]
    choice = choose([*others, known(2)], FIRST, away)
    assert choice.delta == known(2)
    assert asked == [f"{3:032x}", f"{2:032x}"]
    assert choice.waits == {each.request.manifest_id: "no such host" for each in others}


@pytest.mark.parametrize("error", [BadInputError("damaged"), MismatchError("replaced")])
def test_one_that_cannot_be_read_is_chosen_so_that_it_fails(error: Exception) -> None:
    def broken(progress: DeltaProgress) -> str | None:
        raise error

    assert choose([known(1)], FIRST, broken).delta == known(1)
