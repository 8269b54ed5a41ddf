"""Marks of what was read, against logs that are cut, grow again, expire and are made anew.

The oracle: a job that begins at `starts`, with a join that knows all halves up to its snapshot, must meet every record
that the log has and that the snapshot's job had not read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.dead_letters import Provenance
from core.errors import MismatchError
from operators.pairing import ArrivedHalf, JoinPolicy, Side
from stream.mark_file import MarkBook
from stream.read_keeper import SETTLE_S, Reading, ReadKeeper, RunningJob
from stream.read_marks import Loss, PartitionNow, ReadMark, TopicMarks, TopicNow, problems
from stream.read_plan import JoinWait
from tests.support.fake_logs import FakeLog, FakeLogs, FakeTopic

MINUTE_MS = 60_000
HOUR = 60
TOPICS = ("search", "score")
ORDER = "joined"
REPLAY = "replay"


class World:
    """Two topics of one partition, a job, and its keeper."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 1_000_000.0
        self.last_ms = dict.fromkeys(TOPICS, 10**9)
        self.logs = FakeLogs({name: FakeTopic(f"{name}-1", {0: FakeLog()}) for name in (*TOPICS, ORDER, REPLAY)})
        self.file = folder / "read-marks"
        self.keeper = self.new_keeper()
        self.job = RunningJob("job-1", 0, 0)

    def new_keeper(self) -> ReadKeeper:
        """A runner that was started anew."""
        return ReadKeeper(self.file, TOPICS, ORDER, REPLAY, JoinWait(HOUR * MINUTE_MS, MINUTE_MS), lambda: self.now_s)

    def log(self, topic: str = "search") -> FakeLog:
        return self.logs.topics[topic].partitions[0]

    def append(self, count: int, tag: str = "old") -> None:
        """Kafka's clock never runs back, also after a power cut that empties the log."""
        for topic in TOPICS:
            if count:
                self.log(topic).append(count, self.last_ms[topic] + MINUTE_MS, tag)
                self.last_ms[topic] = self.log(topic).records[-1][1]

    def submit(
        self, job_id: str = "job-1", snapshot: Path | None = None, *, accept_loss: bool = False, noted: bool = True
    ) -> Reading:
        """Without `noted`, the runner dies once Flink has the job."""
        reading = self.keeper.plan(self.logs, snapshot, accept_loss=accept_loss)
        if reading.losses:
            self.keeper.accept(self.logs, reading.losses)
        ids = [self.logs.identity(topic).topic_id for topic in (ORDER, REPLAY)]
        self.keeper.begins(self.logs, job_id, *ids, reading)
        self.job = RunningJob(job_id, 0, 0)
        if noted:
            self.keeper.begun(job_id, reading)
            assert self.look() == []
        return reading

    def checkpoint(self, offset: int | None = None) -> list[str]:
        """The job reads up to an offset (the end without one), and completes a checkpoint."""
        for topic in TOPICS:
            self.logs.commits[topic] = {0: self.log(topic).end if offset is None else offset}
        self.job = replace(self.job, checkpoint=self.job.checkpoint + 1)
        return self.look()

    def look(self) -> list[str]:
        return self.keeper.look(self.logs, lambda: self.job)

    def snapshot(self, number: int | None = None) -> Path:
        return Path(self.job.job_id) / f"chk-{number or self.job.checkpoint}"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.submit("job-0")
    for count in (900, *[20] * 5):
        made.append(count)
        assert made.checkpoint() == []
    made.submit("job-1", made.snapshot())
    assert made.checkpoint() == []
    return made


def starts(reading: Reading) -> dict[str, int]:
    return {topic: offsets[0] for topic, offsets in reading.starts.items()}


def test_a_first_job_reads_from_the_first_offset(tmp_path: Path) -> None:
    fresh = World(tmp_path)
    fresh.append(10)
    fresh.log().first = 4
    assert starts(fresh.submit()) == {"search": 4, "score": 0}


def test_an_intact_log_is_read_on_from_the_marks_of_the_snapshot(world: World) -> None:
    world.append(50)
    world.checkpoint()
    reading = world.keeper.plan(world.logs, world.snapshot(), accept_loss=False)
    assert (starts(reading), reading.remarks) == ({"search": 1_050, "score": 1_050}, ())
    # An older snapshot knows less, so more is read again.
    assert starts(world.keeper.plan(world.logs, world.snapshot(1), accept_loss=False))["search"] == 1_000


def test_without_a_snapshot_all_that_may_have_waited_is_read_again(world: World) -> None:
    assert starts(world.keeper.plan(world.logs, None, accept_loss=False)) == {"search": 939, "score": 939}
    # The same for a snapshot that no mark is known of, such as one of an earlier release.
    foreign = world.keeper.plan(world.logs, Path("other/chk-7"), accept_loss=False)
    assert starts(foreign)["search"] == 939


#   minutes    0         40   50        100       139
#   search     ------------------------|---------|
#   score      ---------|-----x------------------|     read up to 40 first, as its broker was away; then x came late


def test_a_half_that_came_late_is_read_again_as_long_as_it_may_wait(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.append(100)
    world.submit()
    world.logs.commits = {"search": {0: 100}, "score": {0: 40}}
    world.job = replace(world.job, checkpoint=1)
    assert world.look() == []
    event_time_ms = world.log("search").records[99][1]
    world.append(40)
    assert world.checkpoint() == []

    late = ArrivedHalf(Side.SCORE, 1, Provenance("score", 0, 50, world.log("score").records[50][1]), b"")
    logic = JoinPolicy(HOUR * MINUTE_MS).build()
    logic.on_half(late, event_time_ms)
    assert logic.on_time(world.log("search").records[139][1]) == ()  # it waits
    assert starts(world.keeper.plan(world.logs, None, accept_loss=False))["score"] <= 50


def test_after_a_renewal_of_the_log_what_arrived_before_the_last_images_is_read_again(world: World) -> None:
    last_ms = world.log().records[-1][1]

    def renewed(not_after_ms: int) -> dict[str, int]:
        return starts(world.keeper.plan(world.logs, None, accept_loss=False, not_after_ms=not_after_ms))

    assert renewed(last_ms - 300 * MINUTE_MS) == {"search": 639, "score": 639}
    assert renewed(last_ms + MINUTE_MS) == {"search": 939, "score": 939}
    assert renewed(0) == {"search": 0, "score": 0}


def test_new_records_at_freed_offsets_are_all_read(world: World) -> None:
    """1,000 records were read; 400 of them were lost, and 800 others took their offsets."""
    world.log().power_cut(600)
    world.log().append(800, world.log("score").records[-1][1] + MINUTE_MS, "new")
    [problem] = world.look()
    assert "search partition 0 held checksum" in problem
    reading = world.submit("job-2", world.snapshot())
    assert starts(reading)["score"] == 1_000
    assert starts(reading)["search"] <= 600
    assert world.keeper.book().rewinds == 1


def test_a_log_that_ends_before_what_was_read_is_told_with_both_offsets(world: World) -> None:
    world.log("score").power_cut(700)
    assert world.look() == [
        "score partition 0 was read up to offset 1000, but the log ends at 700: it has lost records"
    ]


def test_a_cut_behind_the_mark_is_found_when_flink_restores_by_itself(world: World) -> None:
    """The checkpoint has read more than the mark: the mark still holds, but offsets 1,005 and on were given anew."""
    world.append(10)
    world.job = replace(world.job, checkpoint=2)  # its commit did not reach the broker
    world.log().power_cut(1_005)
    world.append(100, "new")
    assert world.look() == []
    world.job = replace(world.job, restored_ms=77)
    [problem] = world.look()
    assert "restored" in problem
    assert starts(world.submit("job-2", world.snapshot()))["search"] == 1_000


def test_marks_are_not_renewed_until_a_new_leader_is_known_to_be_harmless(world: World) -> None:
    world.append(10)
    world.log().epoch += 1
    assert world.checkpoint() == []
    newest = world.keeper.book().newest
    assert newest is not None
    assert newest.checkpoint == 1
    world.now_s += SETTLE_S + 1
    assert world.checkpoint() == []
    newest = world.keeper.book().newest
    assert newest is not None
    assert newest.checkpoint == 3


def test_a_restore_without_a_new_leader_is_nothing(world: World) -> None:
    world.job = replace(world.job, restored_ms=77)
    assert world.look() == []
    world.now_s += 1
    world.log().epoch += 1
    assert world.look() == []


def test_a_topic_that_was_made_anew_is_read_from_its_first_offset(world: World) -> None:
    world.logs.topics["search"] = FakeTopic("search-2", {0: FakeLog()})
    world.log().append(1_400, 10**12, "other")
    assert world.look() == ["search was the topic search-1 and is search-2 now: it was deleted and created again"]
    reading = world.submit("job-2", world.snapshot())
    assert starts(reading) == {"search": 0, "score": 1_000}
    assert "search-2" in reading.remarks[0]


def test_records_that_expired_unread_are_refused_until_the_loss_is_accepted(world: World) -> None:
    world.append(6_000)
    world.log().first = 5_000
    with pytest.raises(MismatchError, match=r"search partition 0 was read up to offset 1000, .* 5000 \(4,000 records"):
        world.keeper.plan(world.logs, world.snapshot(), accept_loss=False)
    reading = world.submit("job-2", world.snapshot(), accept_loss=True)
    assert starts(reading) == {"search": 5_000, "score": 1_000}
    assert world.keeper.book().lost == {"search": 4_000}
    # It is accepted once, also if the submission fails and the older snapshot is used again.
    assert starts(world.keeper.plan(world.logs, Path("job-1/chk-1"), accept_loss=False))["search"] == 5_000


def test_commits_of_an_earlier_release_are_read_on_by_time(tmp_path: Path) -> None:
    old = World(tmp_path)
    old.append(500)
    old.logs.commits = {topic: {0: 500} for topic in TOPICS}
    for _ in range(3):  # a submission that fails changes the commits, and must not go back further each time
        reading = old.keeper.plan(old.logs, Path("x/chk-9"), accept_loss=False)
        old.keeper.begins(old.logs, "failed", "joined-1", "replay-1", reading)
        assert starts(reading) == {"search": 439, "score": 439}


def test_a_savepoint_that_ended_the_job_is_covered_by_its_newest_marks(world: World) -> None:
    world.append(20)
    world.keeper.ended("job-1", Path("savepoints/savepoint-1"))
    reading = world.keeper.plan(world.logs, Path("savepoints/savepoint-1"), accept_loss=False)
    assert starts(reading) == {"search": 1_000, "score": 1_000}
    assert starts(world.keeper.plan(world.logs, Path("savepoints/savepoint-2"), accept_loss=False))["search"] == 939


def test_stale_commits_are_never_taken_for_those_of_a_new_job(world: World) -> None:
    """After a rewind the group's commits are ahead of the job until its first own commit."""
    world.log().power_cut(600)
    world.submit("job-2", world.snapshot())
    world.job = replace(world.job, checkpoint=1)
    assert world.look() == []
    newest = world.keeper.book().newest
    assert newest is not None
    assert newest.topics["search"].partitions[0].offset <= 600


def test_a_damaged_file_is_put_aside_and_reading_goes_back_by_time(world: World) -> None:
    raw = bytearray(world.file.read_bytes())
    raw[-20] ^= 1
    world.file.write_bytes(raw)
    assert world.keeper.book() == MarkBook()
    assert world.file.with_name("read-marks.damaged").exists()
    assert starts(world.keeper.plan(world.logs, world.snapshot(), accept_loss=False))["search"] == 939


def test_the_age_of_what_is_unread_is_a_share_of_the_retention(world: World) -> None:
    world.append(10)
    world.logs.retention = {"search": 1_000 * MINUTE_MS}
    world.now_s = world.log().records[1_000][1] / 1000 + 800 * 60
    shares = world.keeper.unread_shares(world.logs)
    assert shares == {"search": pytest.approx(0.8), "score": 0.0}


def test_a_job_whose_begin_is_not_known_is_submitted_again(world: World) -> None:
    """One of an earlier release, or one that another runner submitted: its commits may be of a log that was cut."""
    world.job = RunningJob("stranger", 0, 0)
    assert world.checkpoint() == ["it is not known where job stranger began to read"]
    newest = world.keeper.book().newest
    assert newest is not None
    assert newest.job_id == "job-1"
    # What it committed is not believed; its state is not trusted to hold what was read before the marks.
    assert starts(world.submit("job-2", Path("stranger/chk-1"))) == {"search": 939, "score": 939}


def test_marks_that_were_damaged_while_the_job_runs_make_it_begin_anew(world: World) -> None:
    world.file.write_bytes(b"{}")
    assert world.checkpoint() == ["it is not known where job job-1 began to read"]


def test_a_runner_that_dies_in_the_submission_leaves_the_marks_of_the_job(world: World) -> None:
    world.append(50)
    world.submit("job-2", world.snapshot(), noted=False)
    world.keeper = world.new_keeper()
    assert world.look() == []
    assert world.checkpoint() == []
    newest = world.keeper.book().newest
    assert newest is not None
    assert (newest.job_id, newest.topics["search"].partitions[0].offset) == ("job-2", 1_050)


def test_a_loss_that_is_accepted_holds_for_a_job_that_no_runner_has_seen(world: World) -> None:
    world.submit("job-2", world.snapshot(), noted=False)
    world.append(50)
    world.keeper.accept(world.logs, (Loss("search", 0, 1_000, 1_010),))
    assert starts(world.submit("job-3", Path("job-2/chk-9"))) == {"search": 1_010, "score": 1_000}


def test_a_job_that_no_runner_has_ever_seen_is_continued_from_its_begin(world: World) -> None:
    world.append(50)
    world.submit("job-2", world.snapshot(), noted=False)
    world.append(10)
    assert starts(world.submit("job-3", Path("job-2/chk-9"))) == {"search": 1_000, "score": 1_000}
    assert [marks.job_id for marks in world.keeper.book().sets][-2:] == ["job-2", "job-3"]


def test_a_submission_that_flink_never_got_changes_nothing(world: World) -> None:
    before = world.keeper.book().sets
    for number in range(3):
        reading = world.submit(f"lost-{number}", noted=False)
        assert starts(reading) == {"search": 939, "score": 939}
    assert world.keeper.book().sets == before


def test_two_jobs_at_once_are_both_told_and_their_commits_are_not_believed(world: World) -> None:
    world.append(50)
    world.job = replace(world.job, others=("surplus",))
    assert world.checkpoint() == ["beside job job-1 run surplus: only one may write the order"]
    assert starts(world.submit("job-2", world.snapshot(1))) == {"search": 1_000, "score": 1_000}


@pytest.mark.parametrize("topic", [ORDER, REPLAY])
def test_an_order_or_a_topic_of_replays_that_was_made_anew_while_the_job_runs_is_told(world: World, topic: str) -> None:
    """The job would take new requests for those that an offset of the old topic says are applied."""
    world.logs.topics[topic] = FakeTopic(f"{topic}-2", {0: FakeLog()})
    assert world.look() == [f"{topic} was the topic {topic}-1 and is {topic}-2 now: it was deleted and created again"]
    world.append(5)
    assert world.checkpoint() != []
    # A job that was submitted for the new topic goes on.
    world.submit("job-2", world.snapshot(1))
    assert world.checkpoint() == []
    assert world.checkpoint() == []


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_record_that_the_log_has_is_left_out(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Checkpoints, commits that do not arrive, power cuts and new runners in any order, then a new submission."""
    world = World(tmp_path_factory.mktemp("world"))
    world.append(data.draw(st.integers(0, 30)))
    world.submit()
    read: list[tuple[bytes, int]] = []  # of `search`, by the newest checkpoint
    for _ in range(data.draw(st.integers(1, 8))):
        step = data.draw(st.sampled_from(["append", "checkpoint", "unmarked", "cut", "runner"]))
        if step == "append":
            world.append(data.draw(st.integers(1, 30)), f"t{len(read)}")
        elif step == "checkpoint":
            world.now_s += data.draw(st.sampled_from([1.0, 60.0]))
            if world.checkpoint():
                break
            read = list(world.log().records)
        elif step == "unmarked":  # the machine stops before the commit
            world.job = replace(world.job, checkpoint=world.job.checkpoint + 1)
            read = list(world.log().records)
        elif step == "runner":
            world.keeper = world.new_keeper()
        else:
            world.log().power_cut(data.draw(st.integers(0, world.log().end)))
            world.append(data.draw(st.integers(0, 40)), f"cut{data.draw(st.integers(0, 3))}")
            # Every source was killed too: the next thing is a submission.
            break
    snapshot = world.snapshot() if world.job.checkpoint else None
    start = world.submit("job-2", snapshot).starts["search"][0]
    known = set(read) if snapshot is not None else set()
    assert set(world.log().records[:start]) <= known


def test_a_broker_that_does_not_know_a_new_partition_yet_says_nothing_about_the_log() -> None:
    then = TopicMarks("id", {0: ReadMark(3), 1: ReadMark(2)})
    older_answer = {0: PartitionNow(0, 3)}
    assert problems({"search": then}, {"search": TopicNow("id", older_answer)}) == []
    assert len(problems({"search": then}, {"search": TopicNow("other", older_answer)})) == 2
