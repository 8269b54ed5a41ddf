"""Which dead letters go back to their topic; that each that is counted is acknowledged, and none is lost by a crash."""

from __future__ import annotations

import random
from functools import partial

import pytest

from core.dead_letters import BadRecord, Provenance, Reason, dead_letter
from core.errors import BadInputError, UnavailableError
from core.settlements import Settled
from stream.cli.choices import since_ms
from stream.dead_letters import halves
from stream.dead_letters.choice import DeadLetterChoice, settled_in
from stream.dead_letters.halves import Fate, ReplayReport, plan, replay
from stream.topic_reader import TopicRecord

SEARCH, SCORE, DEAD = "embeddings.search", "embeddings.score", "dead-letter"


def record(
    offset: int,
    reason: Reason = Reason.MISSING_SCORE_HALF,
    topic: str = SEARCH,
    payload: bytes = b"half",
    limit: int | None = None,
) -> TopicRecord:
    value = dead_letter(BadRecord(reason, "why"), Provenance(topic, 1, offset, 5), payload, limit)
    return TopicRecord(offset, 1000 + offset, f"image-{offset}".encode(), value, {"traceparent": b"00-%d" % offset})


class Log:
    """Kafka: `dead-letter` as a list, the halves that were sent, and crashes."""

    def __init__(self, records: list[TopicRecord], crash: random.Random | None = None) -> None:
        self.records = records
        self.sent: list[tuple[str, bytes, bytes, list[tuple[str, bytes]] | None]] = []
        self._crash = crash

    def send_raw(self, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]] | None = None) -> None:
        self._perhaps()
        if topic == DEAD:
            self.records.append(TopicRecord(len(self.records), 9_999, key, value))
        else:
            self.sent.append((topic, key, value, headers))

    def flush(self) -> None:
        self._perhaps()

    def _perhaps(self) -> None:
        if self._crash is not None and self._crash.random() < 0.1:
            raise UnavailableError("the broker is down")


def run(log: Log, choice: DeadLetterChoice | None = None, dry_run: bool = False, again: bool = False) -> ReplayReport:
    report, records = ReplayReport(), list(log.records)
    planned = partial(
        plan,
        choice=choice or DeadLetterChoice(),
        settled=() if again else settled_in(records),
        half_topics=(SEARCH, SCORE),
    )
    replay(iter(records), planned, None if dry_run else log, DEAD, report)
    return report


def test_an_expired_half_goes_back_as_it_was_and_only_once() -> None:
    log = Log([record(0), record(1, Reason.MISSING_SEARCH_HALF, SCORE, b"other")])
    assert run(log, dry_run=True).counts[Fate.SENT] == 2
    assert log.sent == []
    assert run(log).counts == {Fate.SENT: 2}
    assert log.sent == [
        (SEARCH, b"image-0", b"half", [("traceparent", b"00-0")]),
        (SCORE, b"image-1", b"other", [("traceparent", b"00-1")]),
    ]
    assert run(log).counts == {Fate.SETTLED: 2, Fate.NO_DEAD_LETTER: 1}
    assert len(log.sent) == 2
    assert run(log, again=True).counts[Fate.SENT] == 2


@pytest.mark.parametrize(
    ("one", "fate"),
    [
        (record(3), Fate.SENT),
        (record(3, Reason.TOO_MANY_VERSIONS), Fate.SENT),
        (record(3, Reason.REFUSED, "joined"), Fate.WAITING),
        (record(3, Reason.FAULTED, "joined"), Fate.WAITING),
        (record(3, Reason.UNPARSABLE), Fate.NOT_NAMED),
        (record(3, Reason.UNUSUAL_NORM), Fate.NOT_NAMED),
        (record(3, Reason.UNPARSABLE, "joined"), Fate.NO_HALF),
        (record(3, Reason.LOST, SEARCH, b""), Fate.NO_HALF),
        (record(3, payload=b"x" * 99, limit=9), Fate.TRUNCATED),
        (TopicRecord(3, 1003, b"", b"junk"), Fate.NO_DEAD_LETTER),
    ],
)
def test_what_is_done_without_a_choice(one: TopicRecord, fate: Fate) -> None:
    assert plan(one, DeadLetterChoice(), Settled(), (SEARCH, SCORE))[0] is fate


@pytest.mark.parametrize(
    ("choice", "fate"),
    [
        (DeadLetterChoice([Reason.UNUSUAL_NORM]), Fate.SENT),
        (DeadLetterChoice([Reason.MISSING_SCORE_HALF]), Fate.LEFT_OUT),
        (DeadLetterChoice([Reason.UNUSUAL_NORM], since_ms=1003), Fate.SENT),
        (DeadLetterChoice([Reason.UNUSUAL_NORM], since_ms=1004), Fate.LEFT_OUT),
        (DeadLetterChoice([Reason.UNUSUAL_NORM], image_ids={b"image-3"}), Fate.SENT),
        (DeadLetterChoice([Reason.UNUSUAL_NORM], image_ids={b"image-30"}), Fate.LEFT_OUT),
    ],
)
def test_what_is_chosen(choice: DeadLetterChoice, fate: Fate) -> None:
    assert plan(record(3, Reason.UNUSUAL_NORM), choice, Settled(), (SEARCH, SCORE))[0] is fate


def test_truncated_ones_are_named_and_never_sent() -> None:
    log = Log([record(offset, payload=b"x" * 99, limit=9) for offset in range(30)])
    report = run(log)
    assert (report.counts[Fate.TRUNCATED], len(report.truncated)) == (30, halves.NAMED)
    assert report.truncated[0] == f"missing_score_half {SEARCH}/1/0"
    assert log.sent == []


@pytest.mark.parametrize("seed", range(30))
def test_crashes_lose_no_half_and_count_only_what_is_acknowledged(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "CHUNK", 4)
    letters = [record(n, payload=b"%d" % n) for n in range(40)]
    log = Log(list(letters), random.Random(seed))
    crashes = 0
    while True:
        report, records = ReplayReport(), list(log.records)
        planned = partial(plan, choice=DeadLetterChoice(), settled=settled_in(records), half_topics=(SEARCH, SCORE))
        before = len(log.sent)
        try:
            replay(iter(records), planned, log, DEAD, report)
        except UnavailableError:
            crashes += 1
        assert len(log.sent) - before >= report.counts[Fate.SENT]
        if report.counts[Fate.SETTLED] == len(letters):
            break
    assert {value for _, _, value, _ in log.sent} == {b"%d" % n for n in range(40)}
    assert len(log.sent) <= len(letters) + 4 * crashes


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90m", 1_000_000 - 5_400), ("2h", 1_000_000 - 7_200), ("1d", 1_000_000 - 86_400), ("30s", 999_970)],
)
def test_since_some_time_ago(text: str, expected: int) -> None:
    assert since_ms(text, 1_000_000.0) == 1000 * expected


def test_since_a_time() -> None:
    assert since_ms("1970-01-02T00:00:01", 0.0) == since_ms("1970-01-02T02:00:01+02:00", 0.0) == 86_401_000


@pytest.mark.parametrize("text", ["", "2", "h", "-3h", "yesterday", "99999999999d"])
def test_since_something_else_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="--since takes"):
        since_ms(text, 1_000_000.0)
