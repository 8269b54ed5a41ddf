"""The bookkeeping of `make bench-replay`: medians of rounds, and traces that a reader takes."""

from __future__ import annotations

from benchmarks.replay import SUMMARY, RoundResult, some_traces, summary
from core.traces import parse_trace
from stream.verdicts import Latency


def rounds(*p99_ms: int, pace: float = 0.0) -> list[RoundResult]:
    return [RoundResult(Latency(10, 1, each, each), pace) for each in p99_ms]


def test_a_summary_has_the_medians_and_their_ratio() -> None:
    found = summary(rounds(100, 900, 200), [*rounds(300, pace=50.0), *rounds(250, 9_000, pace=70.0)])
    assert found == {
        "live_p99_ms": 200,
        "live_p99_beside_replay_ms": 300,
        "ratio": 1.5,
        "replayed_per_s": 70.0,
    }
    assert tuple(found) == SUMMARY


def test_made_up_traces_can_be_read_and_have_an_ordinary_size() -> None:
    traces = list(some_traces(3))
    read = [parse_trace(value) for _, value in traces]
    assert [trace.image_id.encode() for trace in read] == [key for key, _ in traces]
    assert len({trace.image_id for trace in read}) == 3
    assert all(2_000 < len(value) < 20_000 for _, value in traces)
    assert next(some_traces(3))[0] == traces[0][0]
