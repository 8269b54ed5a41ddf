"""The sequence on fake Flink against the real search and storage servers over gRPC (the scorer is one in memory)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pyflink.common import Row

from core.dead_letters import BadRecord, Reason, parse_dead_letter
from core.errors import MismatchError
from core.protos.joined_pb2 import JoinedRecord
from core.types import ImageId
from operators.search import LogEpoch
from search.index.settings import DEFAULT_MAX_POSTINGS
from search.ranking import Ranking
from search.serving.admission import Caller
from search.serving.client import SearchClient
from storage.api.schemas import ImageOut
from storage.serving.assignments import message_of
from storage.serving.client import StorageClient
from storage.testing.decisions import EPOCH
from storage.unscored import unscored_after
from storage.verify import verify
from tests.support.fake_servers import FakeScorer
from tests.support.in_flight import handed_on
from tests.support.town import Town, record


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    scorer = FakeScorer()
    for module in ("score", "assign"):
        monkeypatch.setattr(f"operators.{module}.open_scorer", lambda address: scorer)
    town = Town(tmp_path, scorer)
    town.start()
    yield town
    town.stop()
    for step in town.steps:
        step.function.close()


def test_servers_that_go_and_come_back_lose_no_image(town: Town) -> None:
    records = [record(f"image-{i}", seed=i % 6) for i in range(24)]
    for offset, payload in enumerate(records[:10]):
        town.send(offset, payload)
    town.run_until(lambda: town.position() == 9)
    town.stop()
    for offset, payload in enumerate(records[10:16], 10):
        town.send(offset, payload)
    assert town.position() == 9
    town.start()
    for offset, payload in enumerate(records[16:], 16):
        town.send(offset, payload)
    town.run_until(lambda: town.position() == 23)
    with town.store.snapshot() as view:
        heads = {each.image_id: each.head for each in view.images()}
        *_, verified = verify(view)
    assert heads == {f"image-{i}": f"image-{i % 6}" for i in range(24)}
    assert verified.problems == ()
    assert town.dead_letters() == []


def test_a_repeated_record_and_an_older_version_are_ignored(town: Town) -> None:
    records = [record("a", 1, version=2), record("a", 1, version=2), record("a", 1, version=1), record("b", 1)]
    for offset, payload in enumerate(records):
        town.send(offset, payload)
    town.run_until(lambda: town.position() == 3)
    state = town.store.state()
    assert (state.images, state.duplicates, state.superseded) == (2, 1, 1)
    assert town.dead_letters() == []


def test_an_image_that_the_index_refuses_is_its_own_head(town: Town) -> None:
    body = JoinedRecord.FromString(record("wrong", 1))
    body.image.search_vector = body.image.search_vector[:-2]
    for offset, payload in enumerate([record("a", 1), body.SerializeToString(), record("b", 1)]):
        town.send(offset, payload)
    town.run_until(lambda: town.position() == 2)
    heads = {each: town.store.image(ImageId(each)) for each in ("a", "b", "wrong")}
    assert {each: found and found.head for each, found in heads.items()} == {"a": "a", "b": "a", "wrong": "wrong"}
    ((offset, dead_letter),) = town.dead_letters()
    assert (offset, dead_letter.key) == (1, b"wrong")
    assert parse_dead_letter(dead_letter.value).reason is Reason.REFUSED
    with town.store.snapshot() as view:
        assert unscored_after(view, -1).places == (1,)


def test_an_image_inserted_before_the_failures_began_goes_on_without_a_place(town: Town) -> None:
    town.send(0, record("a", 1))
    town.run_until(lambda: town.position() == 0)
    function = town.steps[0].function
    (item,) = function.items(Row(record("a", 1), 0, None))
    done = function._step.isolate(item, BadRecord(Reason.FAULTED, "broken"))
    assert handed_on(done.outputs)[0].answer.place == -1
    town.send(1, record("b", 1))
    town.run_until(lambda: town.position() == 1)
    found = town.store.image(ImageId("b"))
    assert found is not None
    assert found.head == "a"  # its search began before assign had hidden anything


def test_a_verdict_says_that_its_search_was_truncated_and_at_which_bound(town: Town) -> None:
    town.send(0, record("copy-0", 1))
    town.run_until(lambda: town.position() == 0)
    town.stop()
    town.max_postings = 16  # the oldest image of each of the 16 lists
    town.start()
    for offset in range(1, 4):
        town.send(offset, record(f"copy-{offset}", 1))
    town.send(4, record("other", 2))
    town.run_until(lambda: town.position() == 4)
    cut = [False, False, True, True, False]
    found = [town.store.image(ImageId(name)) for name in ("copy-0", "copy-1", "copy-2", "copy-3", "other")]
    assert [one is not None and ImageOut.of(one).truncated for one in found] == cut
    assert [one is not None and one.head for one in found] == ["copy-0"] * 4 + ["other"]
    published = [json.loads(message_of(entry, EPOCH).value) for entry in town.store.history(0, 9)]
    assert [each["truncated"] for each in published] == cut
    bounds = [str(DEFAULT_MAX_POSTINGS), *["16"] * 4]
    assert [one is not None and ImageOut.of(one).versions.index.split("/")[1] for one in found] == bounds
    assert [each["versions"]["index"].split("/")[1] for each in published] == bounds


def test_an_unreadable_record_passes_the_search_server(town: Town) -> None:
    town.steps = town.steps[:1]
    town.send(0, b"garbage\xff")
    town.send(1, record("a", 1))
    town.run_until(lambda: len(handed_on(town.steps[0].main)) == 2)
    assert [bool(one.unscored) for one in handed_on(town.steps[0].main)] == [True, False]


def test_after_a_renewal_new_images_join_old_clusters_and_lost_records_come_back(town: Town) -> None:
    """
    log-1    a0 a1 a2 b0 b1   c0 lost: neither store had applied it
    log-2    a2 again, c0 again, new copies of each
    """
    told = [("a0", 1), ("a1", 1), ("a2", 1), ("b0", 2), ("b1", 2)]
    for offset, (name, seed) in enumerate(told):
        town.send(offset, record(name, seed))
    town.run_until(lambda: town.position() == 4)
    before = {name: town.store.image(ImageId(name)) for name, _ in told}
    with closing(SearchClient(town.address(0).address, 5.0, 1 << 20, Caller.STREAM)) as search:
        assert search.renew("log-2", 5) == search.renew("log-2", 5) == 4
    with closing(StorageClient(town.address(2).address, 5.0, 1 << 20)) as storage:
        assert storage.earliest_arrival(100) == 1_700_000_000_000
        assert storage.renew("log-2", 5) == storage.renew("log-2", 5) == 4
        with pytest.raises(MismatchError, match="begins at 5, not at 0"):
            storage.renew("log-3", 0)
    town.stop()
    town.start()
    town.submit(LogEpoch("log-2", base=5))
    again = [("a2", 1), ("c0", 3), ("a3", 1), ("b2", 2), ("c1", 3)]
    for offset, (name, seed) in enumerate(again):
        town.send(offset, record(name, seed))
    town.send(5, b"garbage\xff")
    town.run_until(lambda: town.position() == 10)
    assert {name: town.store.image(ImageId(name)) for name, _ in told} == before
    with town.store.snapshot() as view:
        heads = {each.image_id: (each.head, each.place) for each in view.images() if each.place >= 5}
    assert heads == {"c0": ("c0", 6), "a3": ("a0", 7), "b2": ("b0", 8), "c1": ("c0", 9)}
    assert town.store.state().duplicates == 1
    ((position, dead_letter),) = town.dead_letters()
    assert position == 10
    assert parse_dead_letter(dead_letter.value).source.offset == 5  # as Kafka has it


@pytest.mark.parametrize("gate", [9, 12])
def test_a_gate_that_no_match_exceeds_changes_no_head_and_sends_fewer_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: int
) -> None:
    """Codes have 32 bits, and 70 % of them must agree: nine may differ."""
    records = [record(f"image-{i}", seed=i % 3, near=i / 16) for i in range(40)]

    def decided(gate: int | None) -> tuple[dict[str, str], int]:
        scorer = FakeScorer(gate=gate)
        for module in ("score", "assign"):
            monkeypatch.setattr(f"operators.{module}.open_scorer", lambda address: scorer)
        town = Town(tmp_path / str(gate), scorer)
        town.ranking = Ranking(candidates=4, depth=40)
        town.start()
        try:
            for offset, payload in enumerate(records):
                town.send(offset, payload)
            town.run_until(lambda: town.position() == len(records) - 1)
        finally:
            town.stop()
            for step in town.steps:
                step.function.close()
        sent = sum(len(block.candidate_codes) for _, blocks in scorer.calls for block in blocks)
        with town.store.snapshot() as view:
            return {each.image_id: each.head for each in view.images()}, sent

    heads, sent = decided(None)
    gated, fewer = decided(gate)
    assert gated == heads
    assert 3 < len(set(heads.values())) < len(records)
    assert fewer < sent
