"""The search server over real gRPC: answers, refusals, limits, metrics, kill -9, graceful stop."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from core.errors import BusyError, FaultError, LogGapError, RefusedError, SettingsError, UnavailableError
from core.rpc import Listen, RpcClient
from search.hashing.score_codes import CodeSettings
from search.index.settings import DEFAULT_MAX_POSTINGS
from search.index.tail import Tail
from search.serving import search_pb2 as pb
from search.serving import search_pb2_grpc
from search.serving.admission import Caller
from search.serving.client import SearchClient
from search.serving.messages import index_version
from tests.search.serving.running_server import RunningSearch, candidates
from tests.search.serving.search_setup import (
    LOG,
    MAX_MESSAGE_BYTES,
    RANKING,
    SCORE_DIMENSION,
    SEARCH_DIMENSION,
    entry,
    server_settings,
    skip,
    vector,
)
from tests.support.ports import free_ports

ROOT = Path(__file__).parents[3]


def test_candidates_carry_overlaps_places_and_codes(server: RunningSearch) -> None:
    response = server.client.insert_and_search(
        LOG, [entry(0, "a", 1), entry(1, "b", 2), entry(2, "c", 1, near=0.01), entry(3, "d", 1)]
    )
    assert [(answer.offset, answer.place, answer.superseded) for answer in response.answers] == [
        (place, place, False) for place in range(4)
    ]
    assert response.index_version == index_version(
        server.settings.terms.fingerprint, DEFAULT_MAX_POSTINGS, server.settings.ranking
    )
    last = candidates(response.answers[3].candidates)
    assert last[0].image_id == "a"
    assert (last[0].overlap, last[0].place, last[0].score_code) == (16, 0, response.answers[0].score_code)
    assert last[1].image_id == "c"
    code = server.settings.code.build().codes([vector(SCORE_DIMENSION, 1).astype(np.float16)], [])[0].tobytes()
    assert response.answers[3].score_code == code
    terms = server.settings.terms.build().terms(
        [vector(SEARCH_DIMENSION, seed, near).astype(np.float16) for seed, near in ((1, 0.0), (2, 0.0), (1, 0.01))]
    )
    overlaps = {"b": int((terms[1] == terms[0]).sum()), "c": int((terms[2] == terms[0]).sum()), "a": 16}
    assert {one.image_id: one.overlap for one in last} == {name: n for name, n in overlaps.items() if n}


def test_float32_and_float16_of_the_same_values_share_all_terms(server: RunningSearch) -> None:
    exact = vector(SEARCH_DIMENSION, 1).astype(np.float16).astype("<f4").tobytes()
    wide = entry(1, "b", 1, half=False)
    wide.insert.search_vector = exact
    response = server.client.insert_and_search(LOG, [entry(0, "a", 1), wide])
    assert candidates(response.answers[1].candidates)[0].overlap == 16


def test_repeats_skips_superseded_and_more(server: RunningSearch) -> None:
    entries = [entry(place, f"i{place}", 1, near=place / 100) for place in range(12)]
    first = server.client.insert_and_search(LOG, entries)
    assert server.client.insert_and_search(LOG, entries) == first
    assert not first.answers[11].candidates.exhausted
    whole = candidates(first.answers[11].candidates)
    while True:
        more = server.client.search_more([pb.MoreQuery(place=11, after=len(whole))]).answers[0]
        whole += candidates(more)
        if more.exhausted:
            break
    assert len({one.image_id for one in whole}) == len(whole) > 5
    assert whole == sorted(whole, key=lambda one: (-one.overlap, one.place))
    answers = server.client.insert_and_search(
        LOG, [skip(12), entry(13, "i3", 1, version=2), entry(14, "i3", 1), skip(15, "i4", 9), entry(16, "i4", 1)]
    ).answers
    assert [answer.place for answer in answers] == [-1, 13, 3, -1, 4]
    assert [answer.superseded for answer in answers] == [False, False, True, False, True]
    assert [bool(answer.score_code) for answer in answers] == [False, True, True, False, True]
    assert server.client.describe().images == 11


def test_hidden_images_are_not_found_by_later_places(server: RunningSearch) -> None:
    server.client.insert_and_search(LOG, [entry(0, "a", 1), entry(1, "b", 1)])
    server.client.hide(0)
    server.client.hide(0)
    later = server.client.insert_and_search(LOG, [entry(1, "b", 1), entry(2, "c", 1)]).answers
    assert list(later[0].candidates.image_ids) == ["a"]
    assert list(later[1].candidates.image_ids) == ["b"]
    with pytest.raises(RefusedError) as caught:
        server.client.hide(99)
    assert caught.value.offset == 99


def test_describe_tells_position_and_fingerprints(server: RunningSearch) -> None:
    empty = server.client.describe()
    assert (empty.log_id, empty.offset, empty.images) == ("", -1, 0)
    server.client.insert_and_search(LOG, [entry(0, "a", 1), skip(1)])
    described = server.client.describe()
    assert (described.log_id, described.offset, described.checksum, described.images) == (LOG, 1, 8, 1)
    assert described.terms_fingerprint == server.settings.terms.fingerprint
    assert described.code_fingerprint == server.settings.code.build().fingerprint
    assert described.code_bytes == 4
    assert described.index_version == index_version(described.terms_fingerprint, DEFAULT_MAX_POSTINGS, RANKING)


def test_a_wrong_entry_is_refused_by_its_offset_and_nothing_is_done(server: RunningSearch) -> None:
    bad = entry(1, "bad", 2)
    bad.insert.search_vector = b"12"
    with pytest.raises(RefusedError, match="2 bytes, expected 48: 24 numbers of 2 bytes") as caught:
        server.client.insert_and_search(LOG, [entry(0, "a", 1), bad, entry(2, "c", 1)])
    assert caught.value.offset == 1
    assert server.client.describe().offset == -1
    server.client.insert_and_search(LOG, [entry(0, "a", 1), skip(1, "bad", 1), entry(2, "c", 1)])


def test_gaps_and_other_logs_are_refused_with_the_next_offset(server: RunningSearch) -> None:
    server.client.insert_and_search(LOG, [entry(0, "a", 1)])
    for log_id, entries in ((LOG, [entry(2, "b", 1)]), ("topic-2", [entry(1, "b", 1)])):
        with pytest.raises(LogGapError) as caught:
            server.client.insert_and_search(log_id, entries)
        assert caught.value.expected == 1
    server.client.insert_and_search(LOG, [entry(0, "a", 1)], 0)
    with pytest.raises(LogGapError, match="begins at position 0, and the job counts from 5"):
        server.client.insert_and_search(LOG, [entry(0, "a", 1)], 5)
    for log_id, entries in (("", [entry(1, "b", 1)]), (LOG, [entry(1, "b", 1), entry(3, "c", 1)])):
        with pytest.raises(RefusedError):
            server.client.insert_and_search(log_id, entries)
    with pytest.raises(RefusedError) as refused:
        server.client.search_more([pb.MoreQuery(place=0), pb.MoreQuery(place=5)])
    assert refused.value.offset == 5


def test_too_many_entries_are_refused_before_anything_is_done(server: RunningSearch) -> None:
    many = server.settings.limits.max_items + 1
    with pytest.raises(RefusedError, match="at most") as caught:
        server.client.insert_and_search(LOG, [skip(offset) for offset in range(many)])
    assert caught.value.offset is None
    with pytest.raises(RefusedError, match="at most"):
        server.client.search_more([pb.MoreQuery(place=0)] * many)
    assert server.client.describe().offset == -1


def test_nothing_is_a_batch_too(server: RunningSearch) -> None:
    assert list(server.client.insert_and_search(LOG, []).answers) == []
    assert list(server.client.search_more([]).answers) == []


def test_entries_beyond_one_message_go_in_several(server: RunningSearch) -> None:
    entries = [skip(place, f"i{place}", 1) for place in range(10)]
    for one in entries:
        one.skip.reason = "x" * (MAX_MESSAGE_BYTES // 4)
    responses = server.client.insert_and_search(LOG, entries)
    assert [answer.offset for answer in responses.answers] == list(range(10))
    assert server.metrics()["neardup_search_batch_entries_count"] == 4
    small = SearchClient(server.client.address, 30.0, MAX_MESSAGE_BYTES // 4)
    with pytest.raises(RefusedError, match="bytes") as caught:
        small.insert_and_search(LOG, [skip(10, "i10", 1), skip(11, "x" * 256), entries[0]])
    small.close()
    assert caught.value.offset == 0


def test_one_set_of_terms_that_many_images_have_is_seen(server: RunningSearch) -> None:
    entries = [entry(n, f"i{n}", 0 if n % 4 == 0 else n) for n in range(200)]
    for first in range(0, 200, 50):
        server.client.insert_and_search(LOG, entries[first : first + 50])
    server.client.insert_and_search(LOG, entries[:1])  # a repeat does not count
    assert server.metrics()["neardup_search_recent_term_set_share"] == 0.25


def test_an_image_of_a_manifest_is_placed_coded_and_found_later_without_a_search_of_its_own(
    server: RunningSearch,
) -> None:
    unsearched = entry(1, "b", 1)
    unsearched.unsearched = unsearched.trace = True
    answers = server.client.insert_and_search(LOG, [entry(0, "a", 1), unsearched, entry(2, "c", 1)]).answers
    assert [list(one.candidates.image_ids) for one in answers] == [[], [], ["a", "b"]]
    assert (answers[1].place, answers[1].score_code) == (1, answers[0].score_code)
    assert answers[1].candidates.exhausted
    assert not answers[1].terms.values
    assert server.metrics()['neardup_search_queries_total{kind="record"}'] == 2


def test_metrics_count_what_was_done(server: RunningSearch) -> None:
    server.client.insert_and_search(LOG, [entry(0, "a", 1), entry(1, "b", 1), skip(2), entry(3, "b", 1, version=2)])
    server.client.insert_and_search(LOG, [entry(1, "b", 1), skip(2), entry(3, "b", 1, version=2), entry(4, "b", 1)])
    server.client.search_more([pb.MoreQuery(place=1, after=1)])
    with pytest.raises(LogGapError):
        server.client.insert_and_search(LOG, [entry(9, "a", 1)])
    metrics = server.metrics()
    assert metrics['neardup_search_queries_total{kind="record"}'] == 5
    assert metrics['neardup_search_queries_total{kind="more"}'] == 1
    assert metrics["neardup_search_candidates_total"] == 4
    assert metrics["neardup_search_postings_total"] >= 4 * 16
    assert metrics["neardup_search_skipped_total"] == 2
    assert metrics["neardup_search_superseded_total"] == 1
    assert metrics["neardup_search_images"] == 2
    assert metrics["neardup_search_position_offset"] == 4
    assert metrics["neardup_search_index_bytes"] == server.index.disk_bytes > 0
    assert metrics['neardup_search_call_seconds_count{method="InsertAndSearch"}'] == 3
    assert metrics["neardup_search_batch_entries_sum"] == 9
    assert metrics['neardup_search_failed_calls_total{error="LogGapError",method="InsertAndSearch"}'] == 1


def test_a_class_above_its_rate_is_rejected_and_the_stream_is_not(server: RunningSearch) -> None:
    address = server.client.address
    shadow = SearchClient(address, 30.0, MAX_MESSAGE_BYTES, Caller.SHADOW)
    stream = SearchClient(address, 30.0, MAX_MESSAGE_BYTES, Caller.STREAM)
    stream.insert_and_search(LOG, [entry(0, "a", 1)])
    shadow.search_more([pb.MoreQuery(place=0)] * 10)
    with pytest.raises(BusyError, match="shadow may ask for 10 items a second") as caught:
        shadow.search_more([pb.MoreQuery(place=0)] * 10)
    assert caught.value.retry_after_s is not None
    assert 0 < caught.value.retry_after_s <= 1
    for _ in range(5):
        stream.search_more([pb.MoreQuery(place=0)] * 10)
        server.client.search_more([pb.MoreQuery(place=0)] * 10)
    metrics = server.metrics()
    assert metrics['neardup_search_rejected_calls_total{caller="shadow"}'] == 1
    assert metrics['neardup_search_rejected_calls_total{caller="interactive"}'] == 0
    assert metrics['neardup_search_admitted_items_total{caller="stream"}'] == 51
    assert metrics['neardup_search_admitted_items_total{caller="shadow"}'] == 10
    assert metrics['neardup_search_waiting_calls{caller="interactive"}'] == 0
    for client in (shadow, stream):
        client.close()


def test_an_unknown_class_of_callers_is_refused(server: RunningSearch) -> None:
    robots = RpcClient(server.client.address, 30.0, MAX_MESSAGE_BYTES, metadata=[("caller", "robots")])
    stub = search_pb2_grpc.TermSearchStub(robots.channel)
    with pytest.raises(RefusedError, match="no caller class 'robots'"):
        robots._call(stub.SearchMore, pb.SearchMoreRequest())
    robots.close()


def test_a_disk_that_is_full_makes_the_caller_wait(server: RunningSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", full)
        with pytest.raises(UnavailableError, match="No space left") as caught:
            server.client.insert_and_search(LOG, [entry(0, "a", 1)])
        assert caught.value.retry_after_s == 1.0
    assert server.client.insert_and_search(LOG, [entry(0, "a", 1)]).answers[0].place == 0
    assert server.broken == []


def test_an_index_that_gave_up_is_reported(server: RunningSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(Tail, "add", fails)
        with pytest.raises(FaultError, match="MemoryError"):
            server.client.insert_and_search(LOG, [entry(0, "a", 1)])
    with pytest.raises(UnavailableError, match="again"):
        server.client.insert_and_search(LOG, [entry(0, "a", 1)])
    assert server.broken


def test_settings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    settings = server_settings(tmp_path)
    with pytest.raises(SettingsError, match="search embeddings have 25"):
        replace(settings, search_dimension=25)
    with pytest.raises(SettingsError, match="score embeddings have 13"):
        replace(settings, score_dimension=13)
    with pytest.raises(SettingsError, match="max_message_bytes"):
        replace(settings, code=CodeSettings(SCORE_DIMENSION, 16_384, 1), listen=Listen("127.0.0.1", 1, 2, 10_000))


@dataclass
class Program:
    """The server as a process of its own."""

    folder: Path
    port: int
    metrics_port: int
    process: subprocess.Popen[str]

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the server ended"
            try:
                if httpx.get(f"http://127.0.0.1:{self.metrics_port}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError("the server did not get ready")


@pytest.fixture
def start() -> Iterator[Callable[[Path], Program]]:
    programs: list[Program] = []

    def launch(folder: Path) -> Program:
        port, metrics_port = free_ports(2)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.search.serving.search_setup", str(folder), str(port), str(metrics_port)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        programs.append(Program(folder, port, metrics_port, process))
        return programs[-1]

    yield launch
    for program in programs:
        program.process.kill()
        program.process.wait()
        if program.process.stderr is not None:
            program.process.stderr.close()


def test_the_program_survives_kill_9_and_stops_gracefully(tmp_path: Path, start: Callable[[Path], Program]) -> None:
    first = start(tmp_path / "index")
    first.wait_until_ready()
    client = SearchClient(f"127.0.0.1:{first.port}", 30.0, MAX_MESSAGE_BYTES)
    entries = [entry(place, f"i{place}", place // 3, near=place / 500) for place in range(30)]
    response = client.insert_and_search(LOG, entries)
    stream = SearchClient(client.address, 30.0, MAX_MESSAGE_BYTES, Caller.STREAM)
    stream.hide(4)
    stream.close()
    before = client.instance_id
    first.process.kill()
    first.process.wait()
    with pytest.raises(UnavailableError):
        client.describe()
    client.close()

    second = start(tmp_path / "index")
    second.wait_until_ready()
    client = SearchClient(f"127.0.0.1:{second.port}", 30.0, MAX_MESSAGE_BYTES)
    assert client.insert_and_search(LOG, entries) == response
    assert client.describe().images == 29
    assert client.instance_id not in (None, before)
    third = start(tmp_path / "index")
    assert third.process.wait(timeout=120) == 1
    assert third.process.stderr is not None
    assert "IndexLockedError" in third.process.stderr.read()
    client.close()
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(timeout=60) == 0
    assert second.process.stderr is not None
    messages = second.process.stderr.read()
    opened = next(line for line in messages.splitlines() if "search server opened its index" in line)
    assert '"offset": 29' in opened
    assert '"images": 29' in opened
