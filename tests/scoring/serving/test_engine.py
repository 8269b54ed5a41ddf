"""The scorer's engine: batches across callers, limits, deadlines, failures, stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import inf

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from core.errors import BadInputError, UnavailableError
from scoring.batching import ScoreBatchPolicy
from scoring.serving.engine import ModelFailedError, ScorerEngine
from scoring.serving.metrics import ScorerMetrics
from tests.support.fake_model import FakeModel, card, expected_scores, random_codes


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def make(registry: CollectorRegistry) -> Iterator[Callable[..., ScorerEngine]]:
    engines = []

    def build(threads: int = 1, **policy: float) -> ScorerEngine:
        limits = {"max_pairs": 32, "max_delay_s": 0.0, "max_queued_pairs": 400, "quantum": 8, **policy}
        engines.append(ScorerEngine(ScoreBatchPolicy(**limits), ScorerMetrics(registry), threads))  # type: ignore[arg-type]
        return engines[-1]

    yield build
    for engine in engines:
        engine.stop()


@pytest.fixture
def model() -> Iterator[FakeModel]:
    made = FakeModel(card())
    yield made
    made.gate.set()


def wait_until(happens: Callable[[], bool]) -> None:
    for _ in range(1000):
        if happens():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it never happened")


def queued(registry: CollectorRegistry) -> float:
    value = registry.get_sample_value("neardup_scorer_queued_pairs")
    assert value is not None
    return value


def test_scores_what_it_is_given(make: Callable[..., ScorerEngine], model: FakeModel) -> None:
    left, right = random_codes(77)
    np.testing.assert_array_equal(make().score("a", model, left, right), expected_scores(left, right))
    assert sum(model.batches) == 77
    assert max(model.batches) <= 32


def test_no_pairs_need_no_batch(make: Callable[..., ScorerEngine], model: FakeModel) -> None:
    assert make().score("a", model, *random_codes(0)).shape == (0,)
    assert model.batches == []


def test_many_callers_get_their_own_scores_from_shared_batches(
    make: Callable[..., ScorerEngine], model: FakeModel, registry: CollectorRegistry
) -> None:
    engine = make(max_pairs=64)
    model.gate.clear()
    with ThreadPoolExecutor(12) as pool:
        pairs = [random_codes(5 + number, number) for number in range(12)]
        answers = [pool.submit(engine.score, f"client {number % 3}", model, *both) for number, both in enumerate(pairs)]
        model.entered.wait(5)
        in_hand = 5
        wait_until(lambda: queued(registry) >= sum(len(left) for left, _ in pairs) - 64 - in_hand)
        model.gate.set()
        for answer, (left, right) in zip(answers, pairs, strict=True):
            np.testing.assert_array_equal(answer.result(), expected_scores(left, right))
    assert sum(model.batches) == sum(len(left) for left, _ in pairs)
    assert len(model.batches) < 12


def test_a_full_queue_turns_away(
    make: Callable[..., ScorerEngine], model: FakeModel, registry: CollectorRegistry
) -> None:
    engine = make()
    model.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(engine.score, "a", model, *random_codes(400))
        assert model.entered.wait(5)
        # 32 are in the model's hands, 368 wait.
        with pytest.raises(UnavailableError, match="368 pairs wait, 33 more would exceed 400"):
            engine.score("b", model, *random_codes(33))
        model.gate.set()
        assert len(first.result()) == 400
    assert registry.get_sample_value("neardup_scorer_rejected_requests_total") == 1


def test_a_deadline_ends_the_wait_and_the_pairs_are_not_scored(
    make: Callable[..., ScorerEngine], model: FakeModel, registry: CollectorRegistry
) -> None:
    engine = make()
    model.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(engine.score, "a", model, *random_codes(4))
        assert model.entered.wait(5)
        with pytest.raises(UnavailableError, match="deadline passed"):
            engine.score("b", model, *random_codes(9), deadline_s=0.05)
        model.gate.set()
        first.result()
    engine.score("c", model, *random_codes(2))
    assert model.batches == [4, 2]
    assert registry.get_sample_value("neardup_scorer_expired_requests_total") == 1


def test_a_caller_that_is_gone_is_not_scored(
    make: Callable[..., ScorerEngine], model: FakeModel, registry: CollectorRegistry
) -> None:
    engine = make()
    model.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(engine.score, "a", model, *random_codes(4))
        assert model.entered.wait(5)
        withdrawn = threading.Event()
        gone = pool.submit(
            engine.score, "b", model, *random_codes(9), inf, lambda withdraw: (withdraw(), withdrawn.set())
        )
        assert withdrawn.wait(5)
        assert queued(registry) == 9
        model.gate.set()
        first.result()
        with pytest.raises(UnavailableError):
            gone.result()
    assert model.batches == [4]


def test_a_failing_model_fails_its_batch_and_nobody_else(make: Callable[..., ScorerEngine], model: FakeModel) -> None:
    engine = make()
    broken = FakeModel(card("v2"))
    broken.error = ZeroDivisionError("a bug")
    with pytest.raises(ModelFailedError, match=r"v2 failed: a bug"):
        engine.score("a", broken, *random_codes(100))
    assert len(engine.score("a", model, *random_codes(3))) == 3


def test_what_the_model_refuses_is_the_callers_fault(make: Callable[..., ScorerEngine], model: FakeModel) -> None:
    with pytest.raises(BadInputError, match="were expected"):
        make().score("a", model, *random_codes(3, code_bytes=5))


def test_two_models_do_not_mix(make: Callable[..., ScorerEngine], model: FakeModel) -> None:
    engine, other = make(), FakeModel(card("v2"))
    model.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(engine.score, "a", model, *random_codes(4))]
        assert model.entered.wait(5)
        answers += [pool.submit(engine.score, "b", one, *random_codes(6)) for one in (model, other)]
        model.gate.set()
        assert [len(answer.result()) for answer in answers] == [4, 6, 6]
    assert (model.batches, other.batches) == ([4, 6], [6])


def test_stopping_fails_who_waits_and_refuses_who_comes(make: Callable[..., ScorerEngine], model: FakeModel) -> None:
    engine = make()
    model.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(engine.score, "a", model, *random_codes(4))
        assert model.entered.wait(5)
        waiting = pool.submit(engine.score, "b", model, *random_codes(4))
        stopped = pool.submit(engine.stop)
        model.gate.set()
        stopped.result()
        assert len(running.result()) == 4
        with pytest.raises(UnavailableError, match="is stopping"):
            waiting.result()
    with pytest.raises(UnavailableError, match="is stopping"):
        engine.score("c", model, *random_codes(1))


def test_metrics_count_pairs_batches_and_scores(
    make: Callable[..., ScorerEngine], model: FakeModel, registry: CollectorRegistry
) -> None:
    left, right = random_codes(40)
    scores = make().score("a", model, left, right)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"neardup_scorer_{name}", labels)

    assert value("pairs_total") == value("score_count") == 40
    assert value("batch_pairs_count") == len(model.batches)
    assert value("queue_seconds_count") == 1
    assert value("score_sum") == pytest.approx(float(scores.sum()))
    for bound in ("0.4", "0.5", "0.6"):
        assert value("score_bucket", le=bound) == (scores <= np.float32(bound)).sum()
    assert value("score_bucket", le="+Inf") == 40


class MeetingModel(FakeModel):
    """Scores a batch only when another one has begun as well."""

    def __init__(self) -> None:
        super().__init__(card())
        self.meeting = threading.Barrier(2, timeout=10)

    def _score(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        self.meeting.wait()
        return super()._score(left, right)


def test_as_many_batches_run_at_a_time_as_there_are_threads(make: Callable[..., ScorerEngine]) -> None:
    engine, model = make(threads=2), MeetingModel()
    left, right = random_codes(128)
    np.testing.assert_array_equal(engine.score("a", model, left, right), expected_scores(left, right))
    assert model.batches == [32] * 4


def test_a_failing_batch_fails_the_request_whose_other_batches_run(make: Callable[..., ScorerEngine]) -> None:
    engine, model = make(threads=2), MeetingModel()
    model.error = ZeroDivisionError("a bug")
    left, right = random_codes(64)
    with pytest.raises(ModelFailedError, match="a bug"):
        engine.score("a", model, left, right)
    model.error = None
    np.testing.assert_array_equal(engine.score("a", model, left, right), expected_scores(left, right))


def test_many_callers_and_threads(make: Callable[..., ScorerEngine], model: FakeModel) -> None:
    engine = make(threads=3, max_queued_pairs=100_000)
    pairs = [random_codes(count, count) for count in range(1, 120)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda one: engine.score(str(len(one[0]) % 5), model, *one), pairs))
    for one, answer in zip(pairs, answers, strict=True):
        np.testing.assert_array_equal(answer, expected_scores(*one))
    assert sum(model.batches) == sum(len(one[0]) for one in pairs)
