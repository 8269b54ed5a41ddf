"""The assign step: verdicts written, failures of storage waited out, and images without scores."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import pytest
from crc32c import crc32c

from core.dead_letters import Provenance, Reason, parse_dead_letter
from core.errors import FaultError, LogGapError, MismatchError, RefusedError, StaleError
from core.notifications import decode_joined
from core.overrides import JOB_KINDS
from core.protos.joined_pb2 import JoinedImage
from core.types import Cause, DeadLetterRecord, ImageId, Move, Outcome
from operators.assign import AssignFunction
from operators.batcher import BatchPolicy
from operators.in_flight_pb2 import InFlight
from operators.score import ScoreStep
from operators.search import LogEpoch
from operators.step import ServerAddress
from search.serving.search_pb2 import LogEntry
from tests.support.events import joined
from tests.support.fake_flink import Harness
from tests.support.fake_servers import FakeScorer, FakeSearch, FakeStorage
from tests.support.in_flight import batch, handed_on

POLICY = BatchPolicy(max_items=4, max_faults=2)
SERVER = ServerAddress("127.0.0.1:1", 1.0, 1_000_000)
LOG = LogEpoch("log-1")


@dataclass
class Servers:
    search: FakeSearch
    scorer: FakeScorer
    storage: FakeStorage

    def moves(self) -> list[Move]:
        """What was written."""
        return [move for decision in self.storage.written for move in decision.moves]

    def dead_letters(self) -> list[tuple[int, DeadLetterRecord]]:
        """What storage has to publish."""
        with self.storage.store.snapshot() as view:
            return list(view.dead_letters())

    def in_flight(self, offset: int, payload: bytes) -> bytes:
        """What search and score hand on."""
        image = decode_joined(payload)
        assert isinstance(image, JoinedImage)
        entry = LogEntry(offset=offset, checksum=crc32c(payload), insert=image)
        response = self.search.insert_and_search("log-1", [entry])
        one = InFlight(
            offset=offset,
            kafka_offset=offset,
            checksum=entry.checksum,
            record=payload,
            answer=response.answers[0],
            index_version="terms-1",
        )
        if one.answer.score_code:
            result = ScoreStep(self.scorer, self.search, lambda reason: None).call([one.SerializeToString()])
            return handed_on(result.outputs)[0].SerializeToString()
        return one.SerializeToString()


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    servers = Servers(FakeSearch(), FakeScorer(), FakeStorage())
    for name in ("search", "scorer", "storage"):
        server = getattr(servers, name)
        monkeypatch.setattr(f"operators.assign.open_{name}", lambda address, server=server: server)
    return servers


def harness() -> Harness:
    function = AssignFunction(POLICY, SERVER, SERVER, SERVER, LOG, sleep=lambda seconds: None)
    return Harness(function)


def send(assign: Harness, servers: Servers, *payloads: bytes, first: int = 0) -> None:
    for offset, payload in enumerate(payloads, first):
        assign.send(batch(servers.in_flight(offset, payload)))


def head(servers: Servers, image_id: str) -> str | None:
    record = servers.storage.store.image(ImageId(image_id))
    return None if record is None else record.head


def test_duplicates_get_one_head(servers: Servers) -> None:
    assign = harness()
    send(assign, servers, joined("a", seed=1), joined("b", seed=1), joined("c", seed=2), joined("a", seed=1))
    assert [head(servers, image_id) for image_id in "abc"] == ["a", "a", "c"]
    assert assign.main == []
    assert assign.side == {}
    assert [move.cause for move in servers.moves()] == [Cause.FOUNDED, Cause.MATCHED, Cause.FOUNDED]
    assert servers.storage.written[-1].outcome is Outcome.DUPLICATE
    assert [decision.checksum for decision in servers.storage.written][:1] == [crc32c(joined("a", seed=1))]


def test_a_written_record_carries_vectors_times_and_versions(servers: Servers) -> None:
    assign = harness()
    payload = joined("a", seed=1, arrived_at_ms=1_700_000_000_777)
    send(assign, servers, payload)
    assign.advance(10)
    (decision,) = servers.storage.written
    image = decode_joined(payload)
    assert isinstance(image, JoinedImage)
    assert decision.search_vector == image.search_vector
    assert decision.score_vector == image.score_vector
    assert decision.arrived_at_ms == 1_700_000_000_777
    assert (decision.versions.model, decision.versions.index) == ("model-1", "terms-1")
    assert decision.outcome is Outcome.DECIDED


def test_an_unscored_image_becomes_its_own_head(servers: Servers) -> None:
    assign = harness()
    send(assign, servers, joined("a", seed=1))
    one = InFlight.FromString(servers.in_flight(1, joined("b", seed=1)))
    one.unscored, one.traceparent = "refused: no: not this one", b"00-ab-cd-01"
    assign.send(batch(one.SerializeToString()))
    assign.advance(10)
    assert head(servers, "b") == "b"
    assert [move.cause for move in servers.moves()] == [Cause.FOUNDED, Cause.UNSCORED]
    assert set(servers.search.hidden) == {1}
    ((offset, record),) = servers.dead_letters()
    assert (offset, record.key, record.traceparent) == (1, b"b", b"00-ab-cd-01")
    dead_letter = parse_dead_letter(record.value)
    assert (dead_letter.reason, dead_letter.detail) == (Reason.REFUSED, "no: not this one")
    assert dead_letter.source == Provenance("joined", 0, 1, 1_700_000_000_500)
    assert dead_letter.payload == joined("b", seed=1)


def test_an_image_is_hidden_after_storage_has_it_however_long_the_index_is_away(servers: Servers) -> None:
    assign = harness()
    one = InFlight.FromString(servers.in_flight(0, joined("a", seed=1)))
    one.unscored = "faulted: no"
    later = [servers.in_flight(offset, joined(f"image-{offset}", seed=offset)) for offset in range(1, 12)]
    servers.search.down = True
    assign.send(batch(one.SerializeToString()))
    assign.advance(10)
    assert head(servers, "a") == "a"
    assert servers.search.hidden == []
    servers.search.down = False
    assign.send(batch(*later))
    assign.advance(100)
    assert set(servers.search.hidden) == {0}


def test_what_an_earlier_job_left_to_hide_is_hidden(servers: Servers) -> None:
    first = InFlight.FromString(servers.in_flight(0, joined("a", seed=1)))
    first.unscored = "faulted: no"
    servers.search.down = True
    earlier, later = harness(), harness()
    earlier.send(batch(first.SerializeToString()))
    earlier.advance(10)
    servers.search.down = False
    assert (head(servers, "a"), servers.search.hidden) == ("a", [])
    send(later, servers, joined("b", seed=2), first=1)
    later.advance(10)
    assert servers.search.hidden == [0]


def test_a_record_that_was_committed_before_is_not_a_dead_letter_twice(servers: Servers) -> None:
    one = InFlight.FromString(servers.in_flight(0, joined("a", seed=1)))
    one.unscored = "faulted: no"
    for expected in ([0], []):
        assign = harness()
        assign.send(batch(one.SerializeToString()))
        assign.advance(10)
        assert [offset for offset, _ in servers.dead_letters()] == expected
        servers.storage.store.remove_dead_letters(expected)


def test_a_record_that_cannot_be_read_advances_the_position_only(servers: Servers) -> None:
    assign = harness()
    send(assign, servers, joined("a", seed=1))
    assign.send(batch(InFlight(offset=1, record=b"garbage\xff", unscored="unparsable: no").SerializeToString()))
    assign.advance(10)
    assert servers.storage.store.position().offset == 1
    assert servers.storage.written[-1].outcome is Outcome.UNREADABLE
    ((offset, record),) = servers.dead_letters()
    assert (offset, record.key, parse_dead_letter(record.value).payload) == (1, b"", b"garbage\xff")


@pytest.mark.parametrize("error", [FaultError("disk"), RefusedError("no", 0)])
def test_storage_is_waited_for_whatever_is_wrong_with_it(servers: Servers, error: Exception) -> None:
    assign = harness()
    servers.storage.after = lambda method: (_ for _ in ()).throw(error)
    servers.storage.before = servers.storage.after
    send(assign, servers, joined("a", seed=1), joined("b", seed=1))
    for _ in range(20):
        assign.advance(2_000)
        servers.storage.instances += 1
    assert servers.storage.written == []
    servers.storage.before = servers.storage.after = lambda method: None
    assign.advance(5_000)
    assert [head(servers, image_id) for image_id in "ab"] == ["a", "a"]
    assert assign.side == {}


def test_an_answer_that_got_lost_after_the_write_is_not_written_twice(servers: Servers) -> None:
    assign = harness()
    lost = iter([True, False])

    def loses(method: str) -> None:
        if method == "apply" and next(lost, False):
            raise FaultError("connection reset")

    servers.storage.after = loses
    send(assign, servers, *[joined(f"image-{i}", seed=i) for i in range(4)])
    assign.advance(5_000)
    assert servers.storage.store.position().offset == 3
    assert [decision.offset for decision in servers.storage.written] == [0, 1, 2, 3]


def test_a_write_that_lost_against_another_is_decided_again(servers: Servers) -> None:
    assign = harness()
    stale = iter([True])

    def loses(method: str) -> None:
        if method == "apply" and next(stale, False):
            raise StaleError("another job", -1, 0)

    servers.storage.before = loses
    send(assign, servers, *[joined(f"image-{i}", seed=i) for i in range(4)])
    assert servers.storage.store.position().offset == 3


def test_an_image_whose_pair_the_scorer_refuses_becomes_its_own_head(servers: Servers) -> None:
    # Its candidates were scored; what the scorer breaks on is a pair that only the rule asks for.
    assign = harness()
    send(assign, servers, joined("a", seed=1))
    assign.advance(10)
    one = InFlight.FromString(servers.in_flight(1, joined("b", seed=1)))
    one.answer.candidates.score_codes = bytes(len(one.answer.score_code))  # not the code that storage knows
    servers.scorer.breaks_on = {min(one.answer.score_code, servers.search.entries[0].code)}
    assign.send(batch(one.SerializeToString()))
    assign.advance(1_000)
    assert head(servers, "b") == "b"
    ((offset, (key, value, _)),) = servers.dead_letters()
    assert (offset, key) == (1, b"b")
    assert parse_dead_letter(value).reason is Reason.REFUSED
    assert set(servers.search.hidden) == {1}
    assert [move.cause for move in servers.moves()] == [Cause.FOUNDED, Cause.UNSCORED]


def test_a_gap_fails_the_job(servers: Servers) -> None:
    assign = harness()
    servers.search.log_id, servers.search.offset = "log-1", 4
    assign.send(batch(servers.in_flight(5, joined("a"))))
    with pytest.raises(LogGapError, match="LogGapError"):
        assign.advance(10)


def test_survives_a_pickle_round_trip(servers: Servers) -> None:
    again = Harness(pickle.loads(pickle.dumps(AssignFunction(POLICY, SERVER, SERVER, SERVER, LOG))))
    send(again, servers, joined("a"))
    again.advance(10)
    assert head(servers, "a") == "a"
    again.function.close()
    assert servers.search.closed
    assert servers.scorer.closed
    assert servers.storage.closed


def test_the_index_hears_how_far_storage_has_come(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.commit_reporter.EVERY_S", 0.0)
    assign = harness()
    send(assign, servers, joined("a", seed=1), joined("b", seed=1), joined("c", seed=2), joined("d", seed=3))
    assert servers.search.released[-1] == servers.storage.store.position().offset == 3


def test_storage_hears_which_kinds_of_records_the_job_knows(servers: Servers) -> None:
    harness()
    assert servers.storage.store.state().kinds == frozenset(JOB_KINDS)
    servers.storage.store.require_kinds(["delete"])


def test_a_job_opens_while_storage_is_away_and_declares_its_kinds_with_the_first_write(servers: Servers) -> None:
    servers.storage.down = True
    assign = harness()
    servers.storage.down = False
    send(assign, servers, joined("a"), joined("b", seed=1), joined("c", seed=2), joined("d", seed=3))
    assert servers.storage.store.state().kinds == frozenset(JOB_KINDS)


def test_a_job_that_lacks_a_required_kind_does_not_open(servers: Servers) -> None:
    servers.storage.store.apply("log-1", (), -1, 0, ["image", "newer"])
    servers.storage.store.require_kinds(["newer"])
    with pytest.raises(MismatchError, match="newer"):
        harness()
    assert servers.storage.store.position().offset == -1
