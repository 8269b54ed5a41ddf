"""The assignment's questions as calls to the servers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clustering.assignment import MoreNeed, PairNeed, pair_need
from core.errors import FaultError, LogGapError, MismatchError, RefusedError, StaleError, UnavailableError
from core.types import Decision, ImageId, LogPosition, Outcome
from operators import assign_backend as backend_module
from operators.assign_backend import GrpcBackend
from scoring.serving.scorer_pb2 import ScoreResponse
from search.serving.search_pb2 import SearchMoreResponse
from tests.support.fake_servers import Entry, FakeScorer, FakeSearch, FakeStorage


def client_ports(
    search: FakeSearch | None = None, scorer: FakeScorer | None = None, storage: FakeStorage | None = None
) -> GrpcBackend:
    return GrpcBackend(
        search or FakeSearch(), scorer or FakeScorer(), storage or FakeStorage(), "log-1", lambda decisions: None
    )


def test_pairs_with_one_left_code_share_a_block_and_versions_a_call() -> None:
    scorer = FakeScorer()
    needs = [
        pair_need("m1", b"\x00", b"\x01"),
        pair_need("m2", b"\x00", b"\x01"),
        pair_need("m1", b"\x0f", b"\xff"),
        pair_need("m1", b"\x00", b"\xff"),
    ]
    found = client_ports(scorer=scorer).score(needs)
    assert found == {needs[0]: 0.875, needs[1]: 0.875, needs[2]: 0.5, needs[3]: 0.0}
    assert [(version, [len(b.candidate_codes) for b in blocks]) for version, blocks in scorer.calls] == [
        ("m1", [2, 1]),
        ("m2", [1]),
    ]


@pytest.mark.parametrize("most", [1, 2, 3, 5, 100])
def test_many_pairs_are_asked_for_in_several_calls(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(backend_module, "MAX_PAIRS", most)
    codes = [bytes([value]) for value in range(0, 256, 17)]
    needs = list({pair_need("m", one, other): None for one in codes[:4] for other in codes})
    scorer = FakeScorer()
    found = client_ports(scorer=scorer).score(needs)
    assert set(found) == set(needs)
    for need, score in found.items():
        bits = np.unpackbits(np.frombuffer(need.left + need.right, np.uint8)).reshape(2, 8)
        assert score == (bits[0] == bits[1]).mean()
    assert all(sum(len(b.candidate_codes) for b in blocks) <= most for _, blocks in scorer.calls)
    assert {version for version, _ in scorer.calls} == {"m"}


def test_scores_of_another_model_are_a_fault() -> None:
    scorer = FakeScorer()
    scorer.score = lambda blocks, model_version="": ScoreResponse(  # type: ignore[method-assign]
        model_version="other", scores=[b"\x00" * 4]
    )
    with pytest.raises(FaultError, match="other"):
        client_ports(scorer=scorer).score([PairNeed("m", b"\x00", b"\x01")])


def test_the_next_candidates_are_as_of_the_place() -> None:
    terms = np.ones(16, bool)
    search = FakeSearch(k=2, entries=[Entry(i, f"image-{i}", 1, terms, bytes([i])) for i in range(5)])
    needs = [MoreNeed(4, 2, 4), MoreNeed(3, 0, 9)]
    found = client_ports(search).more(needs)
    assert [c.image_id for c in found[needs[0]].candidates] == ["image-2", "image-3"]
    assert found[needs[0]].exhausted
    assert [c.image_id for c in found[needs[1]].candidates] == ["image-0", "image-1"]
    assert not found[needs[1]].exhausted


def test_missing_answers_are_a_fault() -> None:
    search = FakeSearch()
    search.search_more = lambda queries: SearchMoreResponse()  # type: ignore[method-assign]
    with pytest.raises(FaultError):
        client_ports(search).more([MoreNeed(0, 0, 0)])


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (FaultError("disk"), UnavailableError),
        (RefusedError("malformed", 3), UnavailableError),
        (UnavailableError("away"), UnavailableError),
        (StaleError("moved", 1, 1), StaleError),
        (MismatchError("contradiction"), MismatchError),
    ],
)
def test_errors_of_storage_count_against_no_image(raised: Exception, seen: type[Exception]) -> None:
    storage = FakeStorage()

    def fails(method: str) -> None:
        raise raised

    storage.before = fails
    ports = client_ports(storage=storage)
    with pytest.raises(seen):
        ports.look_up([ImageId("a")], ())
    with pytest.raises(seen):
        ports.apply([], -1, 0)


def test_only_written_decisions_are_reported() -> None:
    told: list[Decision] = []
    storage = FakeStorage()
    storage.store.apply = lambda *args: storage.store.position()  # type: ignore[method-assign]
    ports = GrpcBackend(FakeSearch(), FakeScorer(), storage, "log-1", told.extend)
    decision = Decision(0, 0, Outcome.SUPERSEDED, ImageId("a"), 1, 0)
    storage.down = True
    with pytest.raises(UnavailableError):
        ports.apply([decision], -1, 0)
    assert told == []
    storage.down = False
    ports.apply([decision], -1, 0)
    assert told == [decision]


def test_a_store_that_counts_the_order_from_elsewhere_ends_the_job() -> None:
    """It began with a manifest while the job ran: to skip what it seems to have applied would lose images."""
    storage = FakeStorage()
    backend = client_ports(storage=storage)
    backend.look_up([], [])
    content = storage.store._content
    content.current = replace(content.current, position=LogPosition("log-1", 99, 0, 100))
    with pytest.raises(LogGapError, match="the log log-1 begins at position 100, and the job counts from 0"):
        backend.look_up([], [])
