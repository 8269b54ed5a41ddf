"""The micro-batching base: what is batched, waited for, isolated and repeated, whatever its server does."""

from __future__ import annotations

import pickle
import random

import pytest

from core.errors import (
    FaultError,
    LogGapError,
    MismatchError,
    ServiceError,
    StaleError,
    UnavailableError,
)
from operators.batcher import BatchPolicy
from operators.rows import records
from operators.sealed_state import unseal
from tests.operators.micro_batch_bench import POLICY, Bench, EchoFunction, Server, item, items
from tests.support.clock import FakeClock
from tests.support.fake_flink import MailboxHarness

# --- batches


def test_a_full_batch_goes_at_once_and_leaves_nothing_behind() -> None:
    bench = Bench()
    bench.send(0, 1, 2)
    assert bench.server.calls == []
    bench.send(3)
    assert bench.server.calls == [items(0, 1, 2, 3)]
    assert bench.out == items(0, 1, 2, 3)
    assert not any(bench.harness.backend.maps.values())
    bench.harness.advance(POLICY.max_delay_ms)  # the timer of the first element finds nothing
    assert len(bench.server.calls) == 1
    assert bench.harness.timers("processing") == []


def test_a_small_batch_goes_after_its_delay() -> None:
    bench = Bench()
    bench.send(0)
    bench.harness.advance(3)
    bench.send(1)
    assert len(bench.harness.timers("processing")) == 1
    bench.harness.advance(1)
    assert bench.server.calls == []
    bench.harness.advance(1)
    assert bench.server.calls == [items(0, 1)]
    assert bench.out == items(0, 1)
    assert bench.harness.timers("processing") == []


def test_a_step_that_holds_its_batch_is_asked_again_after_its_time_alone() -> None:
    bench = Bench()
    bench.server.settles, bench.server.hold_for_ms = 0, 300
    bench.send(0, 1, 2, 3)
    assert len(bench.server.calls) == 1
    bench.send(4, 5, 6, 7, 8)  # a full batch is no reason to ask before
    bench.harness.advance(299 - 5 * POLICY.throttle_ms)
    assert len(bench.server.calls) == 1
    assert bench.server.pings == 0
    bench.server.settles = 3
    bench.harness.advance(1)
    assert bench.out == items(*range(9))
    assert bench.harness.timers("processing") == []


@pytest.mark.parametrize("seed", range(5))
def test_wake_ups_do_not_multiply_while_records_wait_all_the_time(seed: int) -> None:
    dice = random.Random(seed)
    bench = Bench(harness=MailboxHarness)
    harness = bench.harness
    assert isinstance(harness, MailboxHarness)
    bench.server.settles, bench.server.hold_for_ms = 0, 10
    for number in range(500):
        bench.clock.advance(dice.randrange(1, 15))
        mails = harness.wake()
        if dice.random() < 0.3:  # an element that was read before the mails
            bench.server.settles = dice.randrange(2)
            bench.send(number)
        harness.deliver(mails)
        assert len(harness.scheduled) <= 2
    assert len(bench.server.calls) > 100


def test_what_a_step_holds_survives_a_restart() -> None:
    bench = Bench()
    bench.server.settles, bench.server.hold_for_ms = 0, 30
    bench.send(0, 1, 2, 3)
    bench.restart()
    bench.server.settles = 1_000
    bench.harness.advance(30)
    assert bench.out == items(0, 1, 2, 3)


def test_a_batch_ends_at_its_bytes_and_the_rest_follows() -> None:
    bench = Bench(BatchPolicy(max_items=4, max_delay_ms=5, max_bytes=5))
    bench.send(0, 1, 2, 3)  # 2 bytes each
    bench.harness.advance(5)
    assert bench.server.calls == [items(0, 1), items(2, 3)]
    assert bench.out == items(0, 1, 2, 3)


def test_an_item_larger_than_a_batch_goes_alone() -> None:
    bench = Bench(BatchPolicy(max_items=4, max_delay_ms=5, max_bytes=1))
    bench.send(0, 1)
    bench.harness.advance(10)
    assert bench.server.calls == [items(0), items(1)]


def test_only_what_is_settled_is_removed() -> None:
    bench = Bench()
    bench.server.settles = 3
    bench.send(0, 1, 2, 3)
    assert bench.out == items(0, 1, 2)
    bench.harness.advance(1)
    assert bench.server.calls == [items(0, 1, 2, 3), items(3)]
    assert bench.out == items(0, 1, 2, 3)


def test_a_step_that_settles_nothing_is_at_fault() -> None:
    bench = Bench()
    bench.server.settles = 0
    bench.send(0, 1, 2, 3)
    assert bench.out == []
    assert bench.harness.context.metric("failures_total{kind=fault}") == 1
    assert bench.harness.timers("processing") != []


# --- a server that is away


def test_a_server_that_is_down_is_waited_for_and_nothing_is_lost() -> None:
    bench = Bench()
    bench.send(0, 1, 2, 3)
    bench.server.down = True
    bench.send(*range(4, 30))
    for _ in range(20):
        bench.harness.advance(500)
    assert bench.out == items(0, 1, 2, 3)
    bench.server.down = False
    bench.harness.advance(1_000)
    assert bench.out == items(*range(30))
    assert bench.server.isolated == []


def test_each_further_element_is_held_once_and_stored() -> None:
    bench = Bench()
    bench.server.down = True
    bench.send(0, 1, 2, 3)
    before = bench.clock()
    bench.send(4)
    assert bench.clock() - before == POLICY.throttle_ms
    bench.server.down = False
    bench.harness.advance(1_000)
    before = bench.clock()
    bench.send(5)
    assert bench.clock() == before


def test_the_batch_is_not_sent_before_the_server_answers_a_ping() -> None:
    bench = Bench()
    bench.server.down = True
    bench.send(0, 1, 2, 3)
    bench.harness.advance(1_000)
    assert len(bench.server.calls) == 1
    # after 50, 100, 200, 200, ... ms
    assert bench.server.pings == 6


def test_pending_items_wait_in_state_not_in_memory() -> None:
    bench = Bench()
    bench.server.down = True
    bench.send(*range(100))
    (stored,) = bench.harness.backend.maps.values()
    assert len(stored) == 100
    assert len(bench.harness.function._pending._recent) <= 2 * POLICY.max_items


def test_an_element_of_many_items_is_one_entry_of_state_and_fills_batches() -> None:
    bench = Bench()
    bench.server.down = True
    bench.harness.send(b"i0 i1 i2 i3 i4 i5")
    bench.harness.send(b"i6")
    (stored,) = bench.harness.backend.maps.values()
    assert [len(records(unseal(chunk, "a chunk"))) for chunk in stored.values()] == [6, 1]
    bench.server.down = False
    bench.harness.advance(250)
    assert bench.server.calls[-2:] == [items(0, 1, 2, 3), items(4, 5, 6)]
    assert bench.out == items(*range(7))
    assert stored == {}


def test_what_the_element_that_brought_it_settles_never_reaches_the_state() -> None:
    bench = Bench()
    for first in range(0, 40, 4):
        bench.harness.send(b" ".join(items(*range(first, first + 4))))
    backend = bench.harness.backend
    assert bench.out == items(*range(40))
    assert not any(backend.maps.values())
    assert backend.values == {}
    bench.server.down = True
    bench.harness.send(b"i40 i41 i42 i43 i44")
    bench.restart()
    bench.server.down = False
    bench.harness.advance(250)
    assert bench.out == items(*range(45))


def test_a_restart_in_the_middle_of_an_element_goes_on_behind_what_was_settled() -> None:
    bench = Bench()
    bench.server.settles = 3
    bench.harness.send(b"i0 i1 i2 i3 i4 i5 i6 i7")
    assert bench.out == items(0, 1, 2)
    bench.restart()
    bench.harness.send(b"i8")
    bench.harness.advance(100)
    assert bench.out == items(*range(9))


def test_each_item_of_an_element_holds_the_next_ones_back() -> None:
    bench = Bench()
    bench.server.down = True
    bench.send(0, 1, 2, 3)
    before_ms = bench.harness.clock.now_ms
    bench.harness.send(b"i4 i5 i6")
    assert bench.harness.clock.now_ms - before_ms == 3 * POLICY.throttle_ms


def test_a_backlog_leaves_in_order_one_batch_per_element_or_timer() -> None:
    bench = Bench()
    bench.server.down = True
    bench.send(*range(40))
    bench.server.down = False
    bench.harness.advance(250)
    sizes = [len(call) for call in bench.server.calls[1:]]
    assert max(sizes) == POLICY.max_items
    assert bench.out == items(*range(40))


def test_other_errors_of_a_service_are_waited_out_too() -> None:
    bench = Bench()
    bench.server.error = StaleError("moved on", 5, 1)
    bench.send(0, 1, 2, 3)
    bench.harness.advance(2_000)
    bench.server.error = ServiceError("what is this")
    bench.harness.advance(2_000)
    bench.server.error = None
    bench.harness.advance(2_000)
    assert bench.out == items(0, 1, 2, 3)
    assert bench.server.isolated == []


def test_the_time_a_server_asks_for_is_given() -> None:
    bench = Bench()
    bench.server.error = UnavailableError("queue full", retry_after_s=0.15)
    bench.send(0, 1, 2, 3)
    bench.harness.advance(149)
    assert len(bench.server.calls) == 1
    bench.harness.advance(1)
    assert len(bench.server.calls) == 2


# --- bad items


@pytest.mark.parametrize("bad", range(4))
def test_a_poison_item_is_found_by_halving_and_the_order_kept(bad: int) -> None:
    bench = Bench()
    bench.server.poison = {item(bad)}
    bench.send(0, 1, 2, 3)
    bench.harness.advance(5_000)
    assert bench.server.isolated == [(item(bad), "faulted")]
    assert bench.out == [item(i).upper() if i == bad else item(i) for i in range(4)]
    assert bench.harness.side["dead-letters"] == [(item(bad), "broken (3 times)")]
    assert bench.harness.context.metric("isolated_total{reason=faulted}") == 1


def test_an_item_that_kills_the_server_is_found_too() -> None:
    bench = Bench()
    bench.send(9, 9, 9, 9)
    bench.server.kills = {item(2)}
    bench.send(0, 1, 2, 3)
    bench.harness.advance(10_000)
    assert bench.server.isolated == [(item(2), "faulted")]
    assert bench.out[4:] == [item(0), item(1), item(2).upper(), item(3)]


def test_a_server_that_is_killed_now_and_then_harms_no_item() -> None:
    bench = Bench()
    for number in range(60):
        bench.send(number)
        if number % 7 == 0:
            bench.server.down = True
            bench.harness.advance(30)
            bench.server.instances += 1
            bench.server.down = False
        bench.harness.advance(300)
    assert bench.out == items(*range(60))
    assert bench.server.isolated == []


def test_a_refused_item_is_isolated_at_once() -> None:
    bench = Bench()
    bench.server.refuses = {item(2)}
    bench.send(0, 1, 2, 3)
    bench.harness.advance(5)
    assert bench.server.calls == [items(0, 1, 2, 3), items(0, 1), items(3)]
    assert bench.server.isolated == [(item(2), "refused")]
    assert bench.out == [item(0), item(1), item(2).upper(), item(3)]


def test_an_unnamed_refusal_is_found_by_halving_without_faults() -> None:
    bench = Bench()
    bench.server.refuses, bench.server.names_refused = {item(2)}, False
    bench.send(0, 1, 2, 3)
    bench.harness.advance(5)
    assert bench.server.isolated == [(item(2), "refused")]
    assert bench.server.calls == [items(0, 1, 2, 3), items(0, 1), items(2, 3), items(2), items(3)]


def test_an_item_that_cannot_be_isolated_yet_is_waited_for() -> None:
    bench = Bench()
    bench.server.refuses = {item(0)}
    bench.server.isolate_error = FaultError("broken as well")
    bench.send(0, 1, 2, 3)
    bench.harness.advance(10_000)
    assert bench.out == []
    bench.server.isolate_error = None
    bench.harness.advance(1_000)
    assert bench.out == [item(0).upper(), *items(1, 2, 3)]


# --- errors that nothing waits for


def test_a_gap_in_the_log_fails_the_job_by_name() -> None:
    bench = Bench()
    bench.server.error = LogGapError("expected 7", 7)
    with pytest.raises(LogGapError, match="LogGapError: expected 7") as raised:
        bench.send(0, 1, 2, 3)
    assert raised.value.expected == 7


def test_parts_of_different_settings_fail_the_job() -> None:
    bench = Bench()
    bench.server.error = MismatchError("1024 bits and 2048 bits")
    with pytest.raises(MismatchError):
        bench.send(0, 1, 2, 3)


# --- restarts


def test_a_restart_in_the_middle_goes_on_from_state_and_timer() -> None:
    bench = Bench()
    bench.server.down = True
    bench.send(*range(10))
    bench.restart()
    bench.server.down = False
    bench.harness.advance(1_000)
    assert bench.out == items(*range(10))


def test_a_restart_with_an_element_before_the_timer() -> None:
    bench = Bench()
    bench.send(0, 1)
    bench.restart()
    bench.send(2)
    assert bench.server.calls == [items(0, 1, 2)]
    bench.harness.advance(10)
    assert bench.out == items(0, 1, 2)
    assert bench.harness.timers("processing") == []


def test_a_restart_from_a_checkpoint_repeats_what_came_after_it() -> None:
    bench = Bench()
    bench.send(0, 1)
    checkpoint = bench.harness.backend.copy()
    bench.send(2, 3)
    assert bench.out == items(0, 1, 2, 3)
    bench.harness = bench.harness.restart(EchoFunction(POLICY, bench.server, bench.clock), checkpoint)
    bench.send(2, 3)
    assert bench.out == items(0, 1, 2)
    bench.harness.advance(5)
    assert bench.out == items(0, 1, 2, 3)


def test_halving_goes_on_after_a_restart() -> None:
    bench = Bench()
    bench.server.poison = {item(3)}
    bench.send(0, 1, 2, 3)
    for _ in range(60):
        bench.harness.advance(40)
        bench.restart()
    assert bench.out == [*items(0, 1, 2), item(3).upper()]
    assert bench.server.isolated == [(item(3), "faulted")]


def test_nothing_is_read_from_state_before_a_key_is_set() -> None:
    bench = Bench()
    bench.send(0)
    bench.restart()  # would raise in the fake: open() must not touch keyed state


# --- the rest


def test_close_closes_the_clients_and_survives_a_failed_open() -> None:
    bench = Bench()
    bench.harness.function.close()
    assert bench.server.closed == 1
    EchoFunction(POLICY, bench.server, bench.clock).close()


def test_metrics_tell_what_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.metrics.TELL_EVERY_S", 0.0)
    bench = Bench()
    bench.send(0, 1, 2, 3)
    bench.server.down = True
    bench.send(4, 5, 6, 7)
    context = bench.harness.context
    assert context.metric("items_total") == 4
    assert context.metric("batches_total") == 1
    assert context.metric("batch_items") == 4
    assert context.metric("pending_items") == 4
    assert context.metric("waiting") == 1
    assert context.metric("failures_total{kind=unavailable}") == 1
    assert context.metric("call_seconds_count") == 2
    bench.server.down = False
    bench.harness.advance(1_000)
    assert context.metric("waiting") == 0
    assert context.metric("pending_items") == 0


def test_survives_a_pickle_round_trip() -> None:
    function = EchoFunction(POLICY, Server(), FakeClock())
    assert pickle.loads(pickle.dumps(function))._policy == POLICY
