"""Keeps the marks of what one signal's job has read, checks them, and says where a new job begins to read.

The sources of a new job never take their offsets from its snapshot: it might name offsets of a log that has lost
records since. They begin at marks that were checked, at or before the snapshot's offsets, so nothing is left out.

While a job runs, the broker may lose records too. A running consumer notices that by itself: the broker's leader epoch
rises, the consumer asks where the epoch before ended, and fails if it has read more. Flink then restores the sources
from its own checkpoint, which knows no epochs. So these things make `look` report the job for a new submission:

- a mark does not hold;
- Flink restored the job after a leader changed, from a checkpoint that no mark covers;
- nothing is known of where the job began;
- another job runs beside it: both commit to the same group, so commits no longer say what this one has read;
- the topic of the order is another one than at the submission.

The marks that a job begins at are written before it is submitted, under the id that it will have. So they are there
even if the runner dies in the submission.

Marks are not renewed for a while after a leader changed: until then the running consumer may stand at offsets that the
log has lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import BadInputError
from stream.job_plan import STATE_FORMAT
from stream.log_reads import Logs, TopicIdentity
from stream.mark_file import MarkBook, read_book, write_book
from stream.read_marks import Loss, MarkSet, ReadMark, TopicMarks, problems
from stream.read_plan import JoinWait, ReadPlan, accepted, plan_reading, refuse_losses

__all__ = ["ReadKeeper", "Reading", "RunningJob"]

log = logging.getLogger(__name__)

SETTLE_S = 30.0
"""So long after a leader changed, a consumer that could reach it has noticed whether records are gone."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a new job reads from: first offset of each partition, by topic; and what was noticed on the way."""

    starts: Mapping[str, Mapping[int, int]]
    remarks: tuple[str, ...] = ()
    losses: tuple[Loss, ...] = ()
    """Accepted."""


@dataclass(frozen=True, slots=True)
class RunningJob:
    """What Flink says of a job: its newest complete checkpoint (0: none), and when it was last restored from one."""

    job_id: str
    checkpoint: int
    restored_ms: int
    others: tuple[str, ...] = ()
    """Ids of further live jobs of the same name."""


class ReadKeeper:
    """The marks of one signal's job, in one file."""

    def __init__(
        self,
        file: Path,
        topics: tuple[str, ...],
        order: str,
        replay: str,
        wait: JoinWait,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Reads nothing yet.

        Args:
            file: Where the marks are kept.
            topics: The embedding topics.
            order: The topic that the joined images are written to.
            replay: The topic that replays are read from.
            wait: How long halves wait in the join.
            clock: Seconds since the epoch.
        """
        self._file = file
        self._topics = topics
        self._order = order
        self._replay = replay
        self._wait = wait
        self._clock = clock
        self._seen: dict[str, TopicIdentity] = {}
        self._changed_s = clock()

    def book(self) -> MarkBook:
        """All marks. A damaged file counts as none, and is put aside: reading then goes back by time."""
        try:
            return read_book(self._file)
        except BadInputError as error:
            aside = self._file.with_name(self._file.name + ".damaged")
            log.warning("%s is damaged (%s): it is now %s, and reading goes back by time", self._file, error, aside)
            self._file.replace(aside)
            return MarkBook()

    def plan(self, logs: Logs, snapshot: Path | None, *, accept_loss: bool, not_after_ms: int | None = None) -> Reading:
        """Where a job that resumes from a snapshot (or none) begins to read.

        Args:
            logs: The topics.
            snapshot: What decoding and joining resume from.
            accept_loss: Go on without records that were deleted before they were read.
            not_after_ms: Images that arrived from this time on (ms since the epoch) are joined again.

        Raises:
            MismatchError: Records were deleted before they were read, and the loss is not accepted.
            UnavailableError: Kafka does not answer.
        """
        book = self.book()
        if snapshot is not None and (begun := book.begun(snapshot.parent.name)) != book:
            write_book(self._file, begun)  # its job has made a checkpoint, so it did begin
            book = begun
        covered = book.fitting(snapshot)
        marks = covered or book.newest
        if marks is None:
            # Kept, because `begins` changes the commits.
            marks = self._from_commits(logs)
            write_book(self._file, book.with_set(marks))
        kept = covered is not None and covered.state_format == STATE_FORMAT
        now = {topic: logs.now(topic, _offsets(marks, topic)) for topic in self._topics}
        sets = (*book.sets[: book.sets.index(marks)], marks) if marks in book.sets else (marks,)
        plan = plan_reading(sets, now, self._wait, join_kept=kept, not_after_ms=not_after_ms)
        if not accept_loss:
            refuse_losses(plan.losses)
        starts: dict[str, dict[int, int]] = {}
        for topic, found in now.items():
            rewound = logs.offsets_at(topic, {part: at for (of, part), at in plan.times.items() if of == topic})
            ends = found.partitions
            starts[topic] = {
                part: min(max(_start(plan, topic, part, rewound), ends[part].first), ends[part].end) for part in ends
            }
        return Reading(starts, tuple(plan.remarks), tuple(plan.losses))

    def accept(self, logs: Logs, losses: tuple[Loss, ...]) -> None:
        """Gives up records that are gone, for good: they are counted, and reading goes on behind them."""
        book = self.book()
        lost = dict(book.lost)
        for loss in losses:
            lost[loss.topic] = lost.get(loss.topic, 0) + loss.records
        sets = tuple(accepted(marks, losses) for marks in book.sets or (self._from_commits(logs),))
        pending = None if book.pending is None else accepted(book.pending, losses)
        write_book(self._file, replace(book, sets=sets, pending=pending, lost=lost))

    def begins(self, logs: Logs, job_id: str, log_id: str, replay_id: str, reading: Reading) -> None:
        """Must be called before a job is submitted: keeps the marks that it will begin at.

        Args:
            logs: The topics. The group's commits are set to the start, so that those of the job are told from those of
                an earlier one.
            job_id: The id that Flink will give the job.
            log_id: Kafka's id of the topic that it will write the order to.
            replay_id: Kafka's id of the topic that it will read replays from.
            reading: Where it will begin.
        """
        topics = {topic: self._marks(logs, topic, offsets) for topic, offsets in reading.starts.items()}
        pending = MarkSet(job_id, 0, STATE_FORMAT, self._now_ms(), topics, log_id=log_id, replay_id=replay_id)
        write_book(self._file, replace(self.book(), pending=pending))
        for topic, offsets in reading.starts.items():
            logs.commit(topic, offsets)

    def begun(self, job_id: str, reading: Reading) -> None:
        """Notes that Flink has taken a job. Without this note `look` finds out."""
        book = self.book().begun(job_id)
        write_book(self._file, replace(book, rewinds=book.rewinds + bool(reading.remarks)))

    def positions(self, logs: Logs) -> dict[str, dict[int, int]]:
        """How far each partition was read, by topic."""
        marks = self.book().newest or self._from_commits(logs)
        return {topic: _offsets(marks, topic) for topic in self._topics}

    def look(self, logs: Logs, ask: Callable[[], RunningJob]) -> list[str]:
        """Checks the marks of a running job, and renews them at each checkpoint.

        Args:
            logs: The topics.
            ask: Asks Flink. It is called after the commits are read, so that they belong to this checkpoint or an
                earlier one.

        Returns:
            Why the job must be submitted again, one sentence each; nothing if it reads what it should.

        Raises:
            UnavailableError: Kafka or Flink does not answer.
        """
        committed = {topic: logs.committed(topic) for topic in self._topics}
        seen = {topic: logs.identity(topic) for topic in self._topics}
        made = {topic: logs.identity(topic).topic_id for topic in (self._order, self._replay)}
        job = ask()
        book = self.book().begun(job.job_id)
        changed, self._seen = seen != self._seen, seen
        if changed:
            self._changed_s = self._clock()
        current = book.newest
        if job.others:
            return [f"beside job {job.job_id} run {', '.join(job.others)}: only one may write the order"]
        if current is None or current.job_id != job.job_id:
            return [f"it is not known where job {job.job_id} began to read"]
        for topic, then in ((self._order, current.log_id), (self._replay, current.replay_id)):
            if then not in ("", made[topic]):
                return [f"{topic} was the topic {then} and is {made[topic]} now: it was deleted and created again"]
        led = _led_by(current, seen)
        if job.restored_ms != current.restored_ms:
            if not led:
                return [f"Flink restored job {job.job_id} by itself after a leader of its topics had changed"]
            current = self._restarted(current, job.restored_ms)
            book = book.with_newest(current)
            write_book(self._file, book)
        if not changed and job.checkpoint <= current.checkpoint:
            return []
        now = {topic: logs.now(topic, _offsets(current, topic)) for topic in self._topics}
        found = problems(current.topics, now)
        settled = led or self._clock() - self._changed_s > SETTLE_S
        if not found and settled and job.checkpoint > current.checkpoint:
            self._renew(logs, book, current, job, committed)
        return found

    def ended(self, job_id: str, savepoint: Path) -> None:
        """Notes the savepoint that ended a job: it covers all marks of the job."""
        book = self.book().begun(job_id)
        if book.newest is not None and book.newest.job_id == job_id:
            write_book(self._file, book.with_set(replace(book.newest, savepoint=savepoint.name)))

    def unread_shares(self, logs: Logs) -> dict[str, float]:
        """The age of the oldest unread record of each topic, as a share of the topic's retention."""
        marks = self.book().newest or self._from_commits(logs)
        shares = {}
        for topic in self._topics:
            retention_ms, times = logs.retention_ms(topic), logs.times_at(topic, _offsets(marks, topic))
            oldest_ms = min(times.values(), default=self._now_ms())
            shares[topic] = max(0.0, (self._now_ms() - oldest_ms) / retention_ms) if retention_ms > 0 else 0.0
        return shares

    def _renew(
        self, logs: Logs, book: MarkBook, current: MarkSet, job: RunningJob, committed: Mapping[str, Mapping[int, int]]
    ) -> None:
        topics = {}
        for topic in self._topics:
            old = current.topics.get(topic)
            offsets = _offsets(current, topic)
            # A commit can be lost with the broker's page cache; then the mark of before is still right.
            offsets |= {part: max(at, offsets.get(part, 0)) for part, at in committed[topic].items()}
            topics[topic] = self._marks(logs, topic, offsets, old, self._now_ms() - current.taken_ms)
        now_ms = self._now_ms()
        write_book(
            self._file, book.with_set(replace(current, checkpoint=job.checkpoint, taken_ms=now_ms, topics=topics))
        )

    def _marks(
        self, logs: Logs, topic: str, offsets: Mapping[int, int], old: TopicMarks | None = None, passed_ms: int = 0
    ) -> TopicMarks:
        now = logs.now(topic, offsets)

        def mark(part: int, offset: int) -> ReadMark:
            ends = now.partitions[part]
            before = old.partitions.get(part) if old is not None else None
            stands = before is not None and before.offset == offset == ends.end
            idle_ms = before.idle_ms + passed_ms if stands and before is not None else 0
            return ReadMark(offset, ends.record, ends.leader_epoch, idle_ms)

        return TopicMarks(
            now.topic_id, {part: mark(part, at) for part, at in offsets.items() if part in now.partitions}
        )

    def _from_commits(self, logs: Logs) -> MarkSet:
        """Marks of a job of an earlier release: all that is known is what it committed."""
        topics = {topic: self._marks(logs, topic, logs.committed(topic)) for topic in self._topics}
        return MarkSet("", 0, 0, self._now_ms(), topics)

    def _restarted(self, marks: MarkSet, restored_ms: int) -> MarkSet:
        """The same marks after the job was restored: no partition has been idle since."""
        topics = {
            topic: replace(then, partitions={part: replace(each, idle_ms=0) for part, each in then.partitions.items()})
            for topic, then in marks.topics.items()
        }
        return replace(marks, topics=topics, restored_ms=restored_ms, taken_ms=self._now_ms())

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _start(plan: ReadPlan, topic: str, part: int, rewound: Mapping[int, int]) -> int:
    at = topic, part
    return min(rewound[part], plan.settled.get(at, rewound[part])) if part in rewound else plan.offsets[at]


def _offsets(marks: MarkSet, topic: str) -> dict[int, int]:
    then = marks.topics.get(topic)
    return {} if then is None else {part: mark.offset for part, mark in then.partitions.items()}


def _led_by(marks: MarkSet | None, seen: Mapping[str, TopicIdentity]) -> bool:
    """Whether all marks were taken under the leaders of now."""
    return marks is not None and all(
        mark.leader_epoch == seen[topic].leader_epochs.get(part)
        for topic, then in marks.topics.items()
        if topic in seen
        for part, mark in then.partitions.items()
    )
