"""Calls other than the stream's: free searches, reads, deletes, statistics, snapshots, releases."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.access import Access, Credentials, Keys, Right
from core.errors import BusyError, DeniedError, MismatchError, RefusedError
from neardup.events_pb2 import FLOAT16, FLOAT32
from search.index.errors import IndexLockedError
from search.index.generations import IndexGenerations
from search.serving import search_pb2 as pb
from search.serving.admission import Caller
from search.serving.client import SearchClient
from search.serving.index_admin import IndexAdmin
from search.serving.server import open_index
from tests.search.serving.running_server import RunningSearch, candidates, run_search_server
from tests.search.serving.search_setup import (
    LOG,
    MAX_MESSAGE_BYTES,
    SEARCH_DIMENSION,
    entry,
    remove,
    server_settings,
    vector,
)
from tests.support.ports import free_ports


def like(seed: int, near: float = 0.0) -> pb.Vector:
    return pb.Vector(element_type=FLOAT16, data=vector(SEARCH_DIMENSION, seed, near).astype("<f2").tobytes())


def search(server: RunningSearch, **query: Any) -> pb.SearchAnswer:
    return server.client.search([pb.SearchQuery(**query)]).answers[0]


def names(answer: pb.SearchAnswer) -> list[str]:
    return list(answer.candidates.image_ids)


@pytest.fixture
def filled(server: RunningSearch) -> RunningSearch:
    """Five near copies of each other, then three of another image."""
    entries = [entry(place, f"a{place}", 1, near=place / 100) for place in range(5)]
    server.client.insert_and_search(LOG, [*entries, *(entry(place, f"b{place}", 2) for place in range(5, 8))])
    return server


def test_a_vector_finds_what_an_insert_of_it_finds_and_inserts_nothing(filled: RunningSearch) -> None:
    before = filled.client.describe()
    found = search(filled, vector=like(1))
    assert found.known
    assert filled.client.describe() == before
    inserted = filled.client.insert_and_search(LOG, [entry(8, "new", 1)]).answers[0]
    assert candidates(found.candidates) == candidates(inserted.candidates)
    assert found.candidates.postings > 0
    assert not found.candidates.truncated


def test_a_stored_image_finds_others_also_later_ones_but_not_itself(filled: RunningSearch) -> None:
    found = search(filled, image_id="a0", k=100)
    assert set(names(found)) >= {"a1", "a2", "a3", "a4"}
    assert "a0" not in names(found)
    as_of = search(filled, image_id="a3", k=100, as_of=2)
    assert set(names(as_of)) >= {"a0", "a1"}
    assert not {"a2", "a4", "b5"} & set(names(as_of))


def test_unknown_images_have_no_answer_the_others_of_the_call_do(filled: RunningSearch) -> None:
    queries = [pb.SearchQuery(image_id="nobody"), pb.SearchQuery(image_id="b5"), pb.SearchQuery(vector=like(2))]
    answers = filled.client.search(queries).answers
    assert [answer.known for answer in answers] == [False, True, True]
    assert names(answers[0]) == []
    assert names(answers[1])[:2] == ["b6", "b7"]
    assert names(answers[2])[:3] == ["b5", "b6", "b7"]


def test_k_after_and_min_overlap_bound_the_answer(filled: RunningSearch) -> None:
    whole = names(search(filled, image_id="b5", k=100))
    assert search(filled, image_id="b5", k=100).candidates.exhausted
    assert names(search(filled, image_id="b5", k=2)) == whole[:2]
    assert names(search(filled, image_id="b5", k=2, after=2)) == whole[2:4]
    assert names(search(filled, image_id="b5")) == whole[:5]  # as many as the index gives
    equal = search(filled, image_id="b5", min_overlap=16)
    assert names(equal) == ["b6", "b7"]
    assert set(np.frombuffer(equal.candidates.overlaps, "<u2").tolist()) == {16}


TOO_MUCH = [
    ([pb.SearchQuery()], "query 0 has neither"),
    ([pb.SearchQuery(image_id="a0"), pb.SearchQuery(image_id="a1", k=10_001)], "query 1: k is at most 10000"),
    ([pb.SearchQuery(image_id="a0", after=1_000_001)], "query 0: after is at most 1000000, not 1000001"),
    (
        [pb.SearchQuery(image_id="a0", after=900_000, k=1), *[pb.SearchQuery(image_id="a1")] * 11],
        "12 queries, one of which ranks 900001 candidates .* rank 10800012 candidates; a call may rank 10000000",
    ),
    ([pb.SearchQuery(image_id="a0", k=4_000)], r"at most 3799 candidates together, not 4000"),
    ([pb.SearchQuery(image_id="a0")] * 1025, "at most 665 items, not 1025"),
    ([pb.SearchQuery(vector=pb.Vector(element_type=FLOAT32, data=b"1234"))], "vector 0 has 4 bytes, expected 96"),
    ([pb.SearchQuery(vector=pb.Vector(data=b"1234"))], "the element type of vector 0 is 0"),
    ([pb.SearchQuery(vector=pb.Vector(element_type=FLOAT16, data=b"\xff" * 48))], r"vector 0\[0\] is not a number"),
    ([pb.SearchQuery(vector=pb.Vector(element_type=FLOAT16, data=bytes(48)))], "all 24 numbers of vector 0 are zero"),
    ([pb.SearchQuery(image_id="a0", as_of=-5)], "query 0: places start at 0, not at -5"),
    ([pb.SearchQuery(image_id="a0", min_overlap=17)], "at most the 16 groups, not 17"),
    (
        [pb.SearchQuery(image_id="a0", score=pb.Vector(element_type=FLOAT16, data=b"12"))],
        "query 0 has a score embedding without a search embedding",
    ),
    (
        [pb.SearchQuery(vector=like(1), score=pb.Vector(element_type=FLOAT16, data=b"12"))],
        "score vector 0 has 2 bytes, expected 24",
    ),
]
"""Calls that are refused as a whole, and what the message says."""


def test_what_asks_for_too_much_or_makes_no_sense_is_refused(filled: RunningSearch) -> None:
    for queries, message in TOO_MUCH:
        with pytest.raises(RefusedError, match=message):
            filled.client.search(queries)
    assert list(filled.client.search([]).answers) == []


def test_a_search_that_reaches_the_bound_on_its_work_says_so_and_is_counted(tmp_path: Path) -> None:
    port, metrics_port = free_ports(2)
    settings = replace(server_settings(tmp_path / "index", port, metrics_port), max_postings=3 * 16)
    with run_search_server(settings) as server:
        answers = server.client.insert_and_search(LOG, [entry(place, f"i{place}", 1) for place in range(6)]).answers
        assert [one.candidates.truncated for one in answers] == [False] * 4 + [True] * 2
        assert [len(one.candidates.image_ids) for one in answers] == [0, 1, 2, 3, 3, 3]
        assert all(one.candidates.postings <= 3 * 16 for one in answers)
        assert server.client.search_more([pb.MoreQuery(place=5, after=3)]).answers[0].truncated
        assert search(server, vector=like(1)).candidates.truncated
        assert not search(server, vector=like(1), as_of=3).candidates.truncated
        assert server.metrics()["neardup_search_truncated_total"] == 4


def test_further_candidates_are_bounded_as_free_searches_are(filled: RunningSearch) -> None:
    for queries, message in (
        (
            [pb.MoreQuery(place=7), pb.MoreQuery(place=7, after=2**32 - 1)],
            "query 1: after is at most 1000000, not 4294967295",
        ),
        ([pb.MoreQuery(place=7, after=1_000_001)], "query 0: after is at most 1000000, not 1000001"),
        (
            [pb.MoreQuery(place=7, after=900_000), *[pb.MoreQuery(place=6)] * 11],
            "12 queries, one of which ranks 900100 candidates .* rank 10801200 candidates; a call may rank 10000000",
        ),
    ):
        with pytest.raises(RefusedError, match=message):
            filled.client.search_more(queries)
    far = filled.client.search_more([pb.MoreQuery(place=7, after=1_000_000)] * 9).answers
    assert [one.exhausted for one in far] == [True] * 9


def test_get_tells_place_version_and_code_of_what_was_placed(filled: RunningSearch) -> None:
    again = filled.client.insert_and_search(LOG, [entry(8, "a1", 1, version=3)]).answers[0]
    filled.client.hide(5)
    images = filled.client.get(["b5", "nobody", "a1"]).images
    assert [(one.image_id, one.place, one.image_version, one.hidden) for one in images] == [
        ("b5", 5, 1, True),
        ("a1", 8, 3, False),
    ]
    assert images[1].score_code == again.score_code


def test_a_delete_by_hand_hides_until_a_higher_version_comes(filled: RunningSearch) -> None:
    assert filled.client.delete(["b5", "b5", "nobody"]) == [True, False, False]
    assert "b5" not in names(search(filled, image_id="b6", k=100))
    assert filled.client.get(["b5"]).images[0].hidden
    filled.client.insert_and_search(LOG, [entry(8, "b5", 2, version=2)])
    assert "b5" in names(search(filled, image_id="b6", k=100))
    assert filled.metrics()["neardup_search_deleted_total"] == 1


def test_a_delete_in_the_order_hides_from_later_places_only(filled: RunningSearch) -> None:
    answers = filled.client.insert_and_search(LOG, [remove(8, "b5", 2), entry(9, "b9", 2)]).answers
    assert list(answers[0].candidates.image_ids) == []
    assert "b5" not in answers[1].candidates.image_ids
    assert "b5" in filled.client.search_more([pb.MoreQuery(place=7)]).answers[0].image_ids


def test_writes_by_hand_need_the_write_key(filled: RunningSearch) -> None:
    for token in ("", "wrong"):
        stranger = SearchClient(filled.client.address, 30.0, MAX_MESSAGE_BYTES, credentials=Credentials(token))
        for write in (
            lambda c=stranger: c.delete(["a0"]),
            lambda c=stranger: c.hide(0),
            lambda c=stranger: c.snapshot("one", 10.0),
        ):
            with pytest.raises(DeniedError, match="write key"):
                write()
        assert stranger.get(["a0"]).images[0].place == 0
        stranger.close()
    assert not filled.client.get(["a0"]).images[0].hidden


def test_the_stream_hides_without_a_token_and_is_let_in_like_its_other_calls(filled: RunningSearch) -> None:
    before = filled.metrics()
    stream = SearchClient(filled.client.address, 30.0, MAX_MESSAGE_BYTES, Caller.STREAM)
    stream.hide(0)
    stream.close()
    assert filled.client.get(["a0"]).images[0].hidden
    admitted = 'neardup_search_admitted_items_total{caller="stream"}'
    assert filled.metrics()[admitted] == before[admitted] + 1


@pytest.mark.parametrize("anyone", [frozenset[Right](), frozenset({Right.READ})], ids=["nobody", "readers"])
def test_whoever_says_that_it_is_the_stream_needs_the_token_of_the_parts(
    tmp_path: Path, anyone: frozenset[Right]
) -> None:
    port, page = free_ports(2)
    base = server_settings(tmp_path / "index", port, page)
    settings = replace(base, listen=replace(base.listen, access=Access(Keys("token", "read", "write"), anyone)))
    with run_search_server(settings) as server:

        def client(key: str, caller: Caller) -> SearchClient:
            return SearchClient(server.client.address, 30.0, MAX_MESSAGE_BYTES, caller, Credentials(key))

        def found(caller: SearchClient) -> int:
            return len(caller.search([pb.SearchQuery(vector=like(1))]).answers[0].candidates.image_ids)

        with closing(client("token", Caller.STREAM)) as stream:
            stream.insert_and_search(LOG, [entry(0, "a", 1)])
            assert found(stream) == 1
        for key in ("read", "write", "wrong", ""):
            with closing(client(key, Caller.STREAM)) as stranger, pytest.raises(DeniedError):
                found(stranger)
        # The right to read is there: only the claim to be the stream is denied.
        with closing(client("read", Caller.STREAM)) as reader, pytest.raises(DeniedError, match="secrets/parts/token"):
            found(reader)
        with closing(client("read", Caller.INTERACTIVE)) as reader:
            assert found(reader) == 1
        admitted = server.metrics()
    assert admitted['neardup_search_admitted_items_total{caller="stream"}'] == 2


def test_stats_tell_size_position_and_drift(filled: RunningSearch) -> None:
    stats = filled.client.stats()
    assert (stats.log_id, stats.offset, stats.images, stats.entries) == (LOG, 7, 8, 8)
    assert sum(stats.bytes.values()) == filled.index.disk_bytes > 0
    assert stats.folder == str(filled.settings.folder / "gen-000001")
    assert stats.density.size == 8
    metrics = filled.metrics()
    assert metrics["neardup_search_entries"] == 8
    assert metrics["neardup_search_tail_entries"] + metrics["neardup_search_segments"] > 0
    assert metrics['neardup_search_index_part_bytes{part="log"}'] == stats.bytes["log"]
    assert metrics["neardup_search_density_ratio"] == stats.density.ratio
    assert metrics["neardup_search_density_drifted"] in (0, 1)


def test_a_snapshot_opens_as_an_index_that_answers_the_same(filled: RunningSearch) -> None:
    made = filled.client.snapshot("before-tuning", 30.0)
    filled.client.insert_and_search(LOG, [entry(8, "late", 1)])
    assert (made.log_id, made.offset) == (LOG, 7)
    assert made.bytes > 0
    folder = Path(made.folder)
    assert folder == filled.settings.folder.parent / "index-snapshots" / "before-tuning"
    # Restored: put into another folder as its generation.
    settings = replace(filled.settings, folder=filled.settings.folder.parent / "restored")
    extractor, hyperplanes = settings.terms.build(), settings.code.build()
    open_index(settings, extractor, hyperplanes).index.close()
    generations = IndexGenerations(settings.folder)
    current = generations.current()
    assert current is not None
    for file in generations.folder(current).iterdir():
        file.unlink()
    for file in folder.iterdir():
        file.rename(generations.folder(current) / file.name)
    restored = open_index(settings, extractor, hyperplanes).index
    assert (restored.position.offset, restored.images) == (7, 8)
    restored.close()


def test_snapshots_stay_in_their_folder(filled: RunningSearch) -> None:
    for name in ("", ".", "..", "../escape", "a/b", "x" * 65, ".hidden", "a b", "ä"):
        with pytest.raises(RefusedError, match="a snapshot's name has 1 to 64"):
            filled.client.snapshot(name, 30.0)


def test_a_snapshot_is_never_written_over(filled: RunningSearch) -> None:
    filled.client.snapshot("one", 30.0)
    with pytest.raises(RefusedError, match="exists"):
        filled.client.snapshot("one", 30.0)


def test_one_snapshot_at_a_time(filled: RunningSearch, tmp_path: Path) -> None:
    admin = IndexAdmin(filled.index, tmp_path, tmp_path / "snapshots", None, filled.loads)
    inside: list[BaseException] = []

    class Slow:
        def snapshot(self, folder: Path) -> Any:
            try:
                admin.snapshot("second")
            except BusyError as error:
                inside.append(error)
            return filled.index.snapshot(folder)

    admin._index = Slow()  # type: ignore[assignment]
    admin.snapshot("first")
    assert len(inside) == 1


def test_releases_are_kept_within_what_the_index_has(filled: RunningSearch) -> None:
    filled.client.release(LOG, 3)
    assert filled.client.stats().released == 3
    filled.client.release(LOG, 1)
    assert filled.client.stats().released == 3
    filled.client.release(LOG, 99)
    assert filled.client.stats().released == 7
    with pytest.raises(RefusedError, match="follows the log 'topic-1', not 'other'"):
        filled.client.release("other", 3)


def test_the_first_generation_is_named_and_a_home_of_an_earlier_release_is_refused(
    tmp_path: Path, server: RunningSearch
) -> None:
    current = IndexGenerations(server.settings.folder).current()
    assert current is not None
    assert current.name == "gen-000001"
    assert IndexGenerations(tmp_path / "nothing").current() is None
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "index.json").write_text("{}")
    with pytest.raises(MismatchError, match="earlier release"):
        open_index(
            replace(server.settings, folder=tmp_path / "old"),
            server.settings.terms.build(),
            server.settings.code.build(),
        )
    with pytest.raises(IndexLockedError):
        open_index(server.settings, server.settings.terms.build(), server.settings.code.build())


def test_a_call_without_records_changes_nothing(server: RunningSearch) -> None:
    before = server.client.describe()
    assert list(server.client.insert_and_search(LOG, ()).answers) == []
    assert server.client.describe() == before
