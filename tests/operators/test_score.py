"""The score step: one call per batch, and images that cannot be scored."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import numpy as np
import pytest

from core.dead_letters import Reason
from core.errors import DeadlineError, FaultError, MismatchError, RefusedError
from operators.batcher import BatchPolicy
from operators.in_flight_pb2 import InFlight
from operators.rows import records
from operators.score import ScoreFunction, ScoreStep
from operators.step import ServerAddress
from scoring.serving.scorer_pb2 import PairBlock, ScoreResponse
from search.serving.search_pb2 import Answer, Candidates
from tests.support.events import as_member, joined
from tests.support.fake_flink import Harness
from tests.support.fake_servers import ACCEPT, Entry, FakeScorer, FakeSearch, distance
from tests.support.in_flight import batch, handed_on

POLICY = BatchPolicy(max_items=4, max_faults=2)
SERVER = ServerAddress("127.0.0.1:1", 1.0, 1_000_000)


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> FakeScorer:
    scorer = FakeScorer()
    monkeypatch.setattr("operators.score.open_scorer", lambda address: scorer)
    return scorer


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> FakeSearch:
    search = FakeSearch()
    monkeypatch.setattr("operators.score.open_search", lambda address: search)
    return search


def harness() -> Harness:
    return Harness(ScoreFunction(POLICY, SERVER, SERVER, sleep=lambda seconds: None))


def in_flight(offset: int, code: bytes = b"\x0f", candidates: list[bytes] | None = None, **fields: object) -> bytes:
    codes = candidates or []
    found = Candidates(
        image_ids=[f"candidate-{i}" for i in range(len(codes))],
        overlaps=np.full(len(codes), 3, "<u2").tobytes(),
        places=np.arange(len(codes), dtype="<i8").tobytes(),
        score_codes=b"".join(codes),
        distances=np.array([distance(code, other) for other in codes], "<u2").tobytes(),
        exhausted=True,
    )
    record = joined(f"image-{offset}", seed=offset)
    answer = Answer(offset=offset, place=offset, score_code=code, candidates=found)
    one = InFlight(offset=offset, kafka_offset=offset, record=record, answer=answer, **fields)  # type: ignore[arg-type]
    return batch(one.SerializeToString())


def out(score: Harness) -> list[InFlight]:
    return handed_on(score.main)


def values(one: InFlight) -> list[float]:
    return np.frombuffer(one.scores.values, "<f4").tolist()


def test_a_batch_is_one_call(scorer: FakeScorer, search: FakeSearch) -> None:
    score = harness()
    score.send(in_flight(0, b"\x0f", [b"\x0f", b"\xff"]))
    score.send(in_flight(1, b"\x00", [b"\x01"]))
    score.send(in_flight(2, b"\x00"))
    score.send(in_flight(3, b"\xff", [b"\x00"]))
    assert len(scorer.calls) == 1
    assert [values(one) for one in out(score)] == [[1.0], [0.875], [], []]
    assert [one.given for one in out(score)] == [2, 1, 0, 1]
    assert [one.offset for one in out(score)] == [0, 1, 2, 3]
    for one in out(score):
        assert one.scores.model_version == "model-1"
        assert one.scores.accept == pytest.approx(ACCEPT)


def test_candidates_beyond_the_gate_are_not_sent(scorer: FakeScorer, search: FakeSearch) -> None:
    scorer.gate = 1
    score = harness()
    near = [b"\x0f", b"\x1f", b"\x3f"]
    for offset in range(8):
        score.send(in_flight(offset, b"\x0f", near, traced="flag" if offset == 7 else ""))
    assert [{block.candidate_codes for block in blocks} for _, blocks in scorer.calls] == [
        {b"\x0f\x1f\x3f"},
        {b"\x0f\x1f"},
    ]
    assert [values(one) for one in out(score)] == [[1.0, 0.875]] * 8
    assert [len(one.answer.candidates.image_ids) for one in out(score)] == [2] * 7 + [3]
    assert {(one.given, one.scores.gate) for one in out(score)} == {(3, 1)}


def test_more_pairs_than_a_call_takes_are_split(
    scorer: FakeScorer, search: FakeSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operators.score.MAX_PAIRS", 3)
    score = harness()
    for offset, count in enumerate([2, 1, 5, 0]):
        score.send(in_flight(offset, b"\x0f", [b"\x0f"] * count))
    assert [[len(block.candidate_codes) for block in blocks] for _, blocks in scorer.calls] == [[2, 1], [5], [0]]
    assert [values(one) for one in out(score)] == [[1.0] * 2, [1.0], [1.0] * 5, []]


def test_records_without_a_code_pass_without_a_call(scorer: FakeScorer, search: FakeSearch) -> None:
    score = harness()
    for offset in range(2):
        score.send(in_flight(offset, b"", unscored="refused: no"))
    one = InFlight(offset=2, record=joined(), answer=Answer(place=-1, superseded=True))
    score.send(batch(one.SerializeToString()))
    score.advance(5)
    assert scorer.calls == []
    assert [one.HasField("scores") for one in out(score)] == [False] * 3


def test_a_row_of_a_manifest_passes_untouched(scorer: FakeScorer, search: FakeSearch) -> None:
    score = harness()
    row = InFlight(offset=0, record=as_member(joined(), "h", 0), unsearched=True)
    row.answer.CopyFrom(Answer(place=0, score_code=b"\x0f", candidates=Candidates(exhausted=True)))
    score.send(batch(row.SerializeToString()))
    score.advance(5)
    assert scorer.calls == []
    [one] = out(score)
    assert (one.HasField("scores"), one.answer, one.record) == (False, row.answer, row.record)


def test_an_image_that_the_scorer_refuses_is_passed_on_unscored(scorer: FakeScorer, search: FakeSearch) -> None:
    search.entries = [Entry(2, "image-2", 1, np.zeros(16, bool), b"\xee")]
    scorer.breaks_on = {b"\xee"}
    score = harness()
    for offset, code in enumerate([b"\x00", b"\x01", b"\xee", b"\x02"]):
        score.send(in_flight(offset, code, [b"\x00"]))
    score.advance(100)
    assert [one.unscored.partition(":")[0] for one in out(score)] == ["", "", "refused", ""]
    assert [one.HasField("scores") for one in out(score)] == [True, True, False, True]
    assert search.hidden == []  # it may be scored when the task is started again
    assert score.context.metric("unscored_total{reason=refused}") == 1


def test_a_model_for_other_codes_fails_the_job_and_harms_no_image(scorer: FakeScorer, search: FakeSearch) -> None:
    score = harness()
    score.send(in_flight(0))
    score.advance(5)
    scorer.model_version, scorer.code_fingerprint = "model-2", "codes-2"
    score.send(in_flight(1))
    with pytest.raises(MismatchError, match="codes-1 of 1 bytes, the model model-2 compares codes-2"):
        score.advance(5)
    assert [one.offset for one in out(score)] == [0]


def test_a_model_that_refuses_other_codes_fails_the_job_too(scorer: FakeScorer, search: FakeSearch) -> None:
    scorer.code_fingerprint, scorer.breaks_on = "codes-2", {b"\x0f"}
    score = harness()
    score.send(in_flight(0))
    with pytest.raises(MismatchError):
        score.advance(5)


def test_codes_are_compared_once_per_model(scorer: FakeScorer, search: FakeSearch) -> None:
    asked: list[str] = []
    search.before = asked.append
    score = harness()
    for offset in range(8):
        scorer.model_version = f"model-{offset // 4}"
        score.send(in_flight(offset))
    assert asked == ["describe", "describe"]


@pytest.mark.parametrize("answer", [[], [b"\x00" * 4], [b"\x00" * 8, b""], [b"\x00" * 7]])
def test_an_answer_that_does_not_fit_is_a_fault(answer: list[bytes]) -> None:
    scorer = FakeScorer()
    scorer.score = lambda blocks, model_version="": ScoreResponse(scores=answer)  # type: ignore[method-assign]
    step = ScoreStep(scorer, FakeSearch(), lambda reason: None)
    with pytest.raises(FaultError):
        step.call(records(in_flight(0, b"\x0f", [b"\x0f", b"\xff"])))


def test_survives_a_pickle_round_trip(scorer: FakeScorer, search: FakeSearch) -> None:
    again = Harness(pickle.loads(pickle.dumps(ScoreFunction(POLICY, SERVER, SERVER))))
    again.send(in_flight(0))
    again.advance(5)
    assert len(again.main) == 1
    again.function.close()
    assert scorer.closed
    assert search.closed


def misses_deadlines(scorer: FakeScorer, of: set[bytes] | None) -> None:
    """Calls with these query codes (all, if none are given) are not answered in time; the scorer lives on."""
    scored = scorer.score

    def score(blocks: Sequence[PairBlock], model_version: str = "") -> ScoreResponse:
        if of is None or of & {block.query_code for block in blocks}:
            scorer.enter("score")
            raise DeadlineError("too slow")
        return scored(blocks, model_version)

    scorer.score = score  # type: ignore[method-assign]


def test_an_image_that_alone_misses_every_deadline_goes_on_unscored(scorer: FakeScorer, search: FakeSearch) -> None:
    misses_deadlines(scorer, {b"\x0f"})
    score = harness()
    for offset, code in enumerate([b"\x01", b"\x0f", b"\x02"]):
        score.send(in_flight(offset, code, [b"\xff"]))
    score.advance(60 * POLICY.backoff_max_ms)
    assert [bool(one.unscored) for one in out(score)] == [False, True, False]
    assert out(score)[1].unscored.startswith(f"{Reason.FAULTED}: ")
    assert f"({POLICY.max_misses} times)" in out(score)[1].unscored


def test_images_wait_for_a_scorer_that_lives_but_scores_nothing(scorer: FakeScorer, search: FakeSearch) -> None:
    misses_deadlines(scorer, None)
    score = harness()
    score.send(in_flight(0, b"\x0f", [b"\xff"]))
    score.advance(500 * POLICY.backoff_max_ms)
    assert out(score) == []
    del scorer.score  # type: ignore[attr-defined]
    score.advance(2 * POLICY.backoff_max_ms)
    assert [bool(one.unscored) for one in out(score)] == [False]


def test_a_dry_run_is_scored_by_the_version_that_it_names(scorer: FakeScorer, search: FakeSearch) -> None:
    score = harness()
    for offset, version in enumerate(["", "m-9", "", "m-9"]):
        score.send(in_flight(offset, candidates=[b"\x0f"], score_with=version))
    assert [(version, len(blocks)) for version, blocks in scorer.calls] == [("", 2), ("m-9", 2)]
    assert [one.scores.model_version for one in out(score)] == ["model-1", "m-9", "model-1", "m-9"]


def test_a_version_that_the_scorer_refuses_harms_the_dry_run_alone(
    scorer: FakeScorer, search: FakeSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = harness()
    scores = scorer.score

    def refuses(blocks: Sequence[PairBlock], model_version: str = "") -> ScoreResponse:
        if model_version:
            raise RefusedError(f"no version {model_version}")
        return scores(blocks, model_version)

    monkeypatch.setattr(scorer, "score", refuses)
    for offset, version in enumerate(["", "m-9", "", ""]):
        score.send(in_flight(offset, candidates=[b"\x0f"], score_with=version))
    assert [one.unscored for one in out(score)] == ["", "refused: no version m-9", "", ""]
    assert [len(values(one)) for one in out(score)] == [1, 0, 1, 1]
