"""The join as timelines: every event carries what it must emit; then random timelines against a naive oracle."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dead_letters import Reason, parse_dead_letter
from core.errors import SettingsError
from operators.pairing import BEGINNING_MS, END_MS, ArrivedHalf, JoinPolicy, PairingLogic, PairingResult, Side
from operators.pairing_codec import decode_state, encode_state
from tests.support.events import arrived

HOUR = 3_600_000
POLICY = JoinPolicy(timeout_ms=HOUR, max_waiting=3, max_paired=4)
SEARCH, SCORE = Side.SEARCH, Side.SCORE


@dataclass(frozen=True)
class Half:
    """A half arrives: side, version, event time; and what must come of it."""

    side: Side
    version: int
    at: int
    emits: str = ""
    """"pair", "duplicate", "out N" (version N has to leave) or nothing."""


@dataclass(frozen=True)
class Time:
    """The watermark reaches an instant; these halves must expire, as "side version"."""

    now: int
    expires: tuple[str, ...] = ()


TIMELINES: dict[str, list[Half | Time]] = {
    "either order": [
        Half(SEARCH, 1, 0),
        Half(SCORE, 1, 5, "pair"),
        Half(SCORE, 2, 9),
        Half(SEARCH, 2, 7, "pair"),
        Time(HOUR * 3),
    ],
    "only equal versions pair": [
        Half(SEARCH, 1, 0),
        Half(SCORE, 2, 1),
        Half(SCORE, 1, 2, "pair"),
        Half(SEARCH, 2, 3, "pair"),
    ],
    "redelivered while it waits": [
        Half(SEARCH, 1, 0),
        Half(SEARCH, 1, 10, "duplicate"),
        Half(SCORE, 1, 20, "pair"),
    ],
    "redelivered after it has paired": [
        Half(SEARCH, 1, 0),
        Half(SCORE, 1, 1, "pair"),
        Half(SEARCH, 1, 2, "duplicate"),
        Half(SCORE, 1, 3, "duplicate"),
        Time(HOUR),
        Half(SEARCH, 1, 4, "duplicate"),
        Time(HOUR * 9),
    ],
    "a redelivered half does not wait longer": [
        Half(SEARCH, 1, 0),
        Half(SEARCH, 1, HOUR - 1, "duplicate"),
        Time(HOUR, ("search 1",)),
    ],
    "each half expires in its own time": [
        Half(SEARCH, 1, 0),
        Half(SCORE, 2, 100),
        Time(HOUR - 1),
        Time(HOUR, ("search 1",)),
        Time(HOUR + 99),
        Time(HOUR + 100, ("score 2",)),
    ],
    "several expire at once, by version": [
        Half(SCORE, 7, 0),
        Half(SEARCH, 2, 0),
        Time(HOUR, ("search 2", "score 7")),
    ],
    "the partner of an expired half waits and expires": [
        Half(SEARCH, 1, 0),
        Time(HOUR, ("search 1",)),
        Half(SCORE, 1, HOUR),
        Time(2 * HOUR, ("score 1",)),
    ],
    "a late half has its full time from the watermark": [
        Time(10 * HOUR),
        Half(SEARCH, 1, 0),
        Time(11 * HOUR - 1),
        Half(SCORE, 1, 0, "pair"),
        Half(SCORE, 2, 0),
        Time(12 * HOUR - 1, ("score 2",)),
    ],
    "a partner far ahead in time still pairs while the half waits": [
        Half(SEARCH, 1, 0),
        Half(SCORE, 1, 5 * HOUR, "pair"),
        Time(5 * HOUR),
        Half(SEARCH, 1, 0, "duplicate"),
    ],
    "redelivered after it was forgotten: waits, expires": [
        Half(SEARCH, 1, 0),
        Half(SCORE, 1, 0, "pair"),
        Time(HOUR),
        Half(SEARCH, 1, HOUR),
        Time(2 * HOUR, ("search 1",)),
    ],
    "the lowest version leaves when too many wait": [
        Half(SEARCH, 5, 0),
        Half(SEARCH, 3, 1),
        Half(SCORE, 4, 2),
        Half(SEARCH, 6, 3, "out 3"),
        Half(SEARCH, 1, 4, "out 1"),
        Half(SEARCH, 4, 5, "pair"),
        Half(SCORE, 2, 6),
        Time(HOUR + 2, ("search 5",)),
        Time(HOUR + 6, ("score 2", "search 6")),
    ],
    "version 0 and the highest version": [
        Half(SEARCH, 0, 0),
        Half(SEARCH, 2**64 - 1, 0),
        Half(SCORE, 0, 0, "pair"),
        Half(SCORE, 2**64 - 1, 0, "pair"),
    ],
}


def _shown(step: PairingResult) -> str:
    assert sum((step.pair is not None, bool(step.unpaired), step.duplicate)) <= 1
    if step.pair is not None:
        assert (step.pair.search.side, step.pair.score.side) == (SEARCH, SCORE)
        assert step.pair.search.version == step.pair.score.version
        return "pair"
    if step.unpaired:
        [out] = step.unpaired
        assert out.bad.reason is Reason.TOO_MANY_VERSIONS
        return f"out {out.half.version}"
    return "duplicate" if step.duplicate else ""


def _resumed(logic: PairingLogic) -> PairingLogic:
    state = logic.state()
    return POLICY.build(None if state is None else decode_state(encode_state(state)))


@pytest.mark.parametrize("resumed", [False, True], ids=["live", "restored before every event"])
@pytest.mark.parametrize("timeline", TIMELINES.values(), ids=TIMELINES.keys())
def test_timeline(timeline: list[Half | Time], resumed: bool) -> None:
    logic, now = POLICY.build(), BEGINNING_MS
    for event in timeline:
        logic = _resumed(logic) if resumed else logic
        if isinstance(event, Time):
            now = event.now
            expired = logic.on_time(now)
            assert tuple(f"{out.half.side} {out.half.version}" for out in expired) == event.expires, event
        else:
            step = logic.on_half(arrived(event.side, event.version, event.at), now)
            assert _shown(step) == event.emits, event


def test_the_first_of_two_different_halves_wins() -> None:
    logic = POLICY.build()
    logic.on_half(arrived(SEARCH, 1, payload=b"first"))
    assert logic.on_half(arrived(SEARCH, 1, payload=b"second")).duplicate

    pair = logic.on_half(arrived(SCORE, 1)).pair

    assert pair is not None
    assert pair.search.payload == b"first"


def test_pair_arrives_with_its_later_half() -> None:
    for first, second in ((3, 8), (8, 3)):
        logic = POLICY.build()
        logic.on_half(arrived(SEARCH, 1, at_ms=first))
        pair = logic.on_half(arrived(SCORE, 1, at_ms=second)).pair
        assert pair is not None
        assert pair.arrived_at_ms == 8


@pytest.mark.parametrize(("side", "reason"), [(SEARCH, Reason.MISSING_SCORE_HALF), (SCORE, Reason.MISSING_SEARCH_HALF)])
def test_expired_half_names_the_missing_side_and_is_whole(side: Side, reason: Reason) -> None:
    logic = POLICY.build()
    payload = bytes(100_000)
    logic.on_half(arrived(side, 4, at_ms=17, payload=payload, offset=99))

    [expired] = logic.on_time(HOUR + 17)
    dead_letter = parse_dead_letter(expired.dead_letter())

    assert dead_letter.reason is reason
    assert dead_letter.payload == payload
    assert (dead_letter.source.topic, dead_letter.source.offset, dead_letter.source.timestamp_ms) == (
        f"embeddings.{side}",
        99,
        17,
    )
    assert f"the {side.other} embedding did not come within {HOUR} ms" in dead_letter.detail


def test_wakes_when_there_is_something_to_do() -> None:
    logic = POLICY.build()
    assert logic.next_wake_ms() is None
    logic.on_half(arrived(SEARCH, 1, at_ms=50))
    logic.on_half(arrived(SEARCH, 2, at_ms=20))
    assert logic.next_wake_ms() == HOUR + 20
    logic.on_half(arrived(SCORE, 2, at_ms=90))
    assert logic.next_wake_ms() == HOUR + 50
    logic.on_time(HOUR + 50)
    assert logic.next_wake_ms() == HOUR + 90
    logic.on_time(HOUR + 90)
    assert logic.next_wake_ms() is None
    assert logic.state() is None


def test_no_deadline_lies_beyond_the_end_of_time() -> None:
    logic = POLICY.build()
    logic.on_half(arrived(SEARCH, 1), now_ms=END_MS)
    assert logic.next_wake_ms() == END_MS
    assert len(logic.on_time(END_MS)) == 1


def test_paired_versions_are_remembered_up_to_a_bound() -> None:
    logic = POLICY.build()
    for version in range(6):
        logic.on_half(arrived(SEARCH, version, at_ms=version))
        logic.on_half(arrived(SCORE, version, at_ms=version))
    state = logic.state()
    assert state is not None
    assert [version for version, _ in state.paired] == [2, 3, 4, 5]


@pytest.mark.parametrize("values", [{"timeout_ms": 0}, {"max_waiting": 0}, {"max_paired": -1}])
def test_policy_refuses(values: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=next(iter(values))):
        JoinPolicy(**{"timeout_ms": 1, **values})


@dataclass
class Oracle:
    """The join in the most naive way: lists that are searched from the front."""

    waiting: list[tuple[int, Side, int]] = field(default_factory=list)
    paired: list[tuple[int, int]] = field(default_factory=list)

    def half(self, half: ArrivedHalf, now: int) -> str:
        if any(version == half.version for version, _ in self.paired):
            return "duplicate"
        for entry in self.waiting:
            if entry[0] == half.version:
                if entry[1] is half.side:
                    return "duplicate"
                self.waiting.remove(entry)
                arrived_at = max(entry[2], half.source.timestamp_ms, now)
                self.paired.append((half.version, arrived_at + HOUR))
                return "pair"
        self.waiting.append((half.version, half.side, half.source.timestamp_ms))
        return ""


HALVES = st.builds(
    arrived,
    side=st.sampled_from(Side),
    version=st.integers(1, 3),
    at_ms=st.integers(0, 2 * HOUR),
    payload=st.sampled_from([b"one", b"other"]),
)
EVENTS = st.lists(HALVES | st.integers(0, HOUR) | st.just("restart"), max_size=40)


@given(EVENTS)
def test_every_half_has_exactly_one_end(events: list[ArrivedHalf | int | str]) -> None:
    """Against the oracle, with restarts: paired once, waiting, expired or ignored; never lost, never twice."""
    logic, oracle, now = POLICY.build(), Oracle(), 0
    deadlines: dict[int, int] = {}
    taken: list[tuple[Side, int]] = []
    ended: list[tuple[Side, int]] = []
    for event in events:
        if event == "restart":
            logic = _resumed(logic)
        elif isinstance(event, int):
            now += event
            due = {version for version, deadline in deadlines.items() if deadline <= now}
            expired = logic.on_time(now)
            assert [(out.half.version, out.half.side) for out in expired] == sorted(
                (version, side) for version, side, _ in oracle.waiting if version in due
            )
            ended.extend((out.half.side, out.half.version) for out in expired)
            oracle.waiting = [entry for entry in oracle.waiting if entry[0] not in due]
            oracle.paired = [(version, until) for version, until in oracle.paired if until > now]
            deadlines = {version: deadline for version, deadline in deadlines.items() if version not in due}
        elif isinstance(event, ArrivedHalf):
            expected = oracle.half(event, now)
            step = logic.on_half(event, now)
            assert _shown(step) == expected
            if expected != "duplicate":
                taken.append((event.side, event.version))
            if step.pair is not None:
                ended.extend((half.side, half.version) for half in (step.pair.search, step.pair.score))
                del deadlines[event.version]
            elif not step.duplicate:
                deadlines[event.version] = max(event.source.timestamp_ms, now) + HOUR
    still = [(side, version) for version, side, _ in oracle.waiting]
    assert logic.waiting() == len(still)
    assert sorted(taken) == sorted(ended + still)


@given(st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 3)), max_size=30).flatmap(st.permutations))
def test_any_order_and_repetition_gives_each_pair_once(halves: list[tuple[Side, int]]) -> None:
    logic = POLICY.build()
    pairs = []
    for side, version in halves:
        step = logic.on_half(arrived(side, version))
        pairs.extend([] if step.pair is None else [step.pair.search.version])

    complete = {version for version in (1, 2, 3) if {(SEARCH, version), (SCORE, version)} <= set(halves)}
    assert sorted(pairs) == sorted(complete)
