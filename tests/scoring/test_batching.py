"""The batching policy as timelines, and under random traffic: nothing lost, nothing twice, order within a request."""

from __future__ import annotations

from collections import defaultdict
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import SettingsError, UnavailableError
from scoring.batching import BatchQueue, Request, ScoreBatch, ScoreBatchPolicy

POLICY = ScoreBatchPolicy(max_pairs=8, max_delay_s=1.0, max_queued_pairs=40, quantum=2)


def request(pairs: int, client: str = "a", model: str = "m", at: float = 0.0, deadline: float = inf) -> Request:
    return Request(client, model, pairs, at, deadline)


def queue(*requests: Request, policy: ScoreBatchPolicy = POLICY) -> BatchQueue:
    made = BatchQueue(policy)
    for one in requests:
        made.offer(one)
    return made


def content(batch: ScoreBatch | None, names: dict[Request, str]) -> list[tuple[str, int, int]]:
    assert batch is not None
    return [(names[part.request], part.start, part.stop) for part in batch.slices]


def test_waits_for_company_until_the_oldest_has_waited_long_enough() -> None:
    # 0.0  a: 3 pairs        due at 1.0
    # 0.4  b: 2 pairs
    # 1.0  both go
    one, other = request(3), request(2, "b", at=0.4)
    line = queue(one)
    assert line.ready_at() == 1.0
    assert line.take(0.99) is None
    line.offer(other)
    assert content(line.take(1.0), {one: "one", other: "other"}) == [("one", 0, 3), ("other", 0, 2)]
    assert (line.queued_pairs, line.ready_at(), line.take(9.0)) == (0, None, None)


def test_a_full_batch_does_not_wait() -> None:
    one = request(9)
    line = queue(one)
    assert line.ready_at() == -inf
    assert content(line.take(0.0), {one: "one"}) == [("one", 0, 8)]
    assert line.take(0.5) is None
    assert content(line.take(1.0), {one: "one"}) == [("one", 8, 9)]


def test_a_small_request_is_not_held_up_by_large_ones() -> None:
    large, small = request(30), request(2, "b", at=0.1)
    line = queue(large, small)
    assert content(line.take(0.1), {large: "large", small: "small"}) == [("large", 0, 6), ("small", 0, 2)]


def test_clients_share_evenly_however_many_requests_each_has() -> None:
    many = [request(10) for _ in range(3)]
    lone = request(10, "b")
    taken = defaultdict(int)
    batch = queue(*many, lone).take(0.0)
    assert batch is not None
    for part in batch.slices:
        taken[part.request.client] += part.stop - part.start
    assert taken == {"a": 4, "b": 4}


def test_requests_of_one_client_take_turns() -> None:
    large, small = request(30), request(2, at=0.1)
    batch = queue(large, small).take(0.1)
    assert content(batch, {large: "large", small: "small"}) == [("large", 0, 6), ("small", 0, 2)]


def test_a_batch_is_of_one_model_and_the_version_that_is_due_goes_first() -> None:
    # 0.0  v1: 2 pairs       due at 1.0
    # 0.5  v2: 9 pairs       a full batch, due at once; its last pair at 1.5
    # 0.7  v1: 2 pairs
    old, new, also_old = request(2, model="v1"), request(9, "b", "v2", at=0.5), request(2, "b", "v1", at=0.7)
    line = queue(old, new, also_old)
    names = {old: "old", new: "new", also_old: "also old"}
    assert line.ready_at() == -inf
    assert content(line.take(0.7), names) == [("new", 0, 8)]
    assert (line.ready_at(), line.take(0.9)) == (1.0, None)
    assert content(line.take(1.0), names) == [("old", 0, 2), ("also old", 0, 2)]
    assert (line.ready_at(), line.take(1.4)) == (1.5, None)
    assert content(line.take(1.5), names) == [("new", 8, 9)]


@pytest.mark.parametrize("clients", ["aaa", "abc"])
def test_versions_take_turns_however_much_waits_for_one(clients: str) -> None:
    # 0.0  v1: 10,000 pairs
    # 0.1  v2: 3 pairs       due at 1.1
    # 0.2  v3: 1 pair        due at 1.2
    policy = ScoreBatchPolicy(max_pairs=8, max_delay_s=1.0, max_queued_pairs=20_000, quantum=2)
    large, small, last = (
        request(pairs, client, model, at)
        for pairs, client, model, at in zip((10_000, 3, 1), clients, ("v1", "v2", "v3"), (0.0, 0.1, 0.2), strict=True)
    )
    line = queue(large, small, last, policy=policy)
    moments = (0.2, 0.3, 1.1, 1.1, 1.2, 1.2)
    batches = [line.take(now) for now in moments]
    assert [batch and batch.model for batch in batches] == ["v1", "v1", "v2", "v1", "v3", "v1"]
    assert line.queued_pairs == 10_000 - 4 * 8


def test_a_small_request_is_done_within_two_batches_among_eight_clients() -> None:
    policy = ScoreBatchPolicy(max_pairs=1024, max_delay_s=0.0, max_queued_pairs=10_000_000, quantum=128)
    large = [request(260_000, str(client), model) for client in range(7) for model in ("v1", "v2")]
    line = queue(*large, policy=policy)
    for _ in range(5):
        assert line.take(0.0) is not None
    small = request(100, "small", "v2")
    line.offer(small)
    mine = [batch for batch in (line.take(0.0) for _ in range(4)) if batch is not None and batch.model == "v2"]
    assert len(mine) == 2
    assert small.left == 0


def test_a_full_queue_turns_away_and_says_when_to_come_back() -> None:
    line = queue(request(39))
    line.offer(request(1))
    with pytest.raises(UnavailableError, match=r"40 pairs wait, 1 more would exceed 40") as caught:
        line.offer(request(1))
    assert caught.value.retry_after_s == 10.0
    assert line.queued_pairs == 40


def test_an_empty_queue_takes_any_request() -> None:
    assert queue(request(400)).queued_pairs == 400


def test_expired_and_abandoned_requests_leave_unscored() -> None:
    late, gone, kept = request(2, deadline=0.5), request(3, "b"), request(4, "c")
    line = queue(late, gone, kept)
    assert line.drop_expired(0.4) == []
    gone.abandoned = True
    assert set(line.drop_expired(0.5)) == {late, gone}
    assert line.queued_pairs == 4
    assert content(line.take(1.0), {kept: "kept"}) == [("kept", 0, 4)]


def test_a_request_that_expires_half_done_gives_back_its_place() -> None:
    long = request(20, deadline=3.0)
    line = queue(long)
    assert line.take(0.0) is not None
    assert line.drop_expired(3.0) == [long]
    assert (line.queued_pairs, line.ready_at()) == (0, None)


def test_clear_empties() -> None:
    line = queue(request(2), request(3, "b"))
    assert len(line.clear()) == 2
    assert (line.queued_pairs, line.ready_at()) == (0, None)


@given(
    st.lists(
        st.tuples(st.integers(1, 30), st.sampled_from("abc"), st.sampled_from(["v1", "v2"]), st.floats(0, 0.4)),
        min_size=1,
        max_size=25,
    ),
    st.integers(1, 12),
    st.integers(1, 4),
)
def test_random_traffic_is_served_once_and_in_order(
    traffic: list[tuple[int, str, str, float]], max_pairs: int, quantum: int
) -> None:
    policy = ScoreBatchPolicy(max_pairs, 0.3, 10_000, min(quantum, max_pairs))
    line, now, served = BatchQueue(policy), 0.0, defaultdict(int)
    requests = []
    for pairs, client, model, pause in traffic:
        now += pause
        requests.append(request(pairs, client, model, at=now))
        line.offer(requests[-1])
        serve(line, now, policy, served)
    while (due := line.ready_at()) is not None:
        now = max(now, due)
        serve(line, now, policy, served)
    assert served == {one: one.pairs for one in requests}
    assert line.queued_pairs == 0


def serve(line: BatchQueue, now: float, policy: ScoreBatchPolicy, served: dict[Request, int]) -> None:
    """Takes what is due; each slice must go on where the last of its request ended."""
    while (batch := line.take(now)) is not None:
        assert 1 <= batch.pairs <= policy.max_pairs
        assert {part.request.model for part in batch.slices} == {batch.model}
        for part in batch.slices:
            assert part.start == served[part.request] < part.stop
            served[part.request] = part.stop


@pytest.mark.parametrize(
    ("values", "message"),
    [((0, 1.0, 5, 1), "max_pairs"), ((8, 1.0, 5, 1), "max_queued_pairs"), ((8, 1.0, 9, 9), "quantum")],
)
def test_limits_must_fit_each_other(values: tuple[int, float, int, int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ScoreBatchPolicy(*values)


def test_a_negative_delay_is_refused() -> None:
    with pytest.raises(SettingsError, match="max_delay_s"):
        ScoreBatchPolicy(max_delay_s=-0.1)
