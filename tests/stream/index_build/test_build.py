"""A rebuilt index answers as the one that the job made; an unfinished build leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from core.errors import BadInputError, MismatchError
from core.types import ImageId
from search.index.errors import IndexLockedError
from search.index.generations import IndexGenerations
from search.index.interface import TermIndex, TermQuery
from search.index.opening import open_term_index
from search.serving import search_pb2 as pb
from search.serving import server as search_server
from search.serving.client import SearchClient
from search.serving.server import SearchServerSettings, build_service, index_settings, open_index
from stream.index_build.build import Built, build_index
from stream.index_build.sources import StoreSource
from tests.search.serving.search_setup import MAX_MESSAGE_BYTES, SEARCH_DIMENSION, vector
from tests.stream.index_build.order import (
    FakeJoined,
    as_the_job_does,
    live_index,
    pages,
    parser_of,
    record,
    refused,
    settings_in,
    some_order,
)
from tests.support.ports import free_ports

ROOT = Path(__file__).parents[3]


class Watcher:
    def __init__(self, stop_at: int | None = None) -> None:
        self.told: list[tuple[str, int, int]] = []
        self._stop_at = stop_at

    def embeddings(self, done: int, total: int) -> None:
        self._note("embeddings", done, total)

    def order(self, done: int, total: int) -> None:
        self._note("order", done, total)

    def _note(self, what: str, done: int, total: int) -> None:
        self.told.append((what, done, total))
        if len(self.told) == self._stop_at:
            raise KeyboardInterrupt


def build(
    server: SearchServerSettings, stored: list[bytes], joined: FakeJoined, watcher: Watcher | None = None
) -> Built:
    parser = parser_of(server)
    told = index_settings(server, parser.extractor, parser.coder)
    return build_index(
        IndexGenerations(server.folder), told, parser, StoreSource(pages(stored)), joined, watcher or Watcher()
    )


def opened(server: SearchServerSettings) -> TermIndex:
    return open_index(server, server.terms.build(), server.code.build()).index


def free_searches(index: TermIndex, server: SearchServerSettings) -> list[object]:
    terms = server.terms.build().terms([vector(SEARCH_DIMENSION, seed, 0.01) for seed in range(14)])
    return [found.candidates() for found in index.search([TermQuery(row, k=50) for row in terms])]


@given(seed=st.integers(0, 10**6), stored=st.integers(0, 99))
@settings(max_examples=5, deadline=None)
def test_a_built_index_answers_as_the_one_that_the_job_made(
    tmp_path_factory: pytest.TempPathFactory, seed: int, stored: int
) -> None:
    folder = tmp_path_factory.mktemp("build")
    order = some_order(120, seed)
    server = settings_in(folder / "a")
    live = live_index(server, order)
    rebuilt_in = settings_in(folder / "b")
    built = build(rebuilt_in, order[:stored], FakeJoined(order[:100], grows=order[100:]))
    rebuilt = opened(rebuilt_in)
    assert rebuilt.position == live.position == built.position
    assert rebuilt.images == live.images == built.images
    assert free_searches(rebuilt, server) == free_searches(live, server)
    ids = [ImageId(f"i{number}") for number in range(80)]
    assert rebuilt.get(ids) == live.get(ids)
    # From here on both go the same way.
    parser = parser_of(server)
    news = [record("i3", 3, version=9), record("new", 4), refused("i4", 9), record("newer", 4)]
    assert as_the_job_does(rebuilt, news, parser) == as_the_job_does(live, news, parser)
    # A repeated record is told from a new one. Of versions that were superseded before, the store has nothing left.
    repeated = [as_the_job_does(index, [order[5], order[119]], parser) for index in (rebuilt, live)]
    for ours, theirs in zip(*repeated, strict=True):
        assert ours.superseded == theirs.superseded
        if not theirs.superseded:
            assert (ours.place, ours.code) == (theirs.place, theirs.code)
    rebuilt.close()
    live.close()


def other_terms(server: SearchServerSettings) -> SearchServerSettings:
    return replace(server, terms=replace(server.terms, groups=24))


def other_codes(server: SearchServerSettings) -> SearchServerSettings:
    return replace(server, code=replace(server.code, bits=64))


@pytest.mark.parametrize(
    ("changed", "what", "before", "after"), [(other_terms, "terms.groups", 16, 24), (other_codes, "code.bits", 32, 64)]
)
def test_other_terms_or_codes_are_what_a_build_is_for(
    tmp_path: Path,
    changed: Callable[[SearchServerSettings], SearchServerSettings],
    what: str,
    before: int,
    after: int,
) -> None:
    order = some_order(60, 1)
    old = settings_in(tmp_path / "built")
    live_index(old, order).close()
    new = changed(old)
    with pytest.raises(MismatchError, match=f"{what} is {before} there and {after} here"):
        opened(new)
    built = build(new, order, FakeJoined(order))
    assert built.folder.name == "gen-000002"
    index = opened(new)
    assert index.position.offset == 59
    # What it has is what the job would have made of the order with these settings.
    live = live_index(changed(settings_in(tmp_path / "live")), order)
    assert free_searches(index, new) == free_searches(live, new)
    ids = [ImageId(f"i{number}") for number in range(40)]
    assert index.get(ids) == live.get(ids)
    assert {len(one.code) for one in index.get(ids) if one and one.code} == {new.code.code_bytes}
    live.close()
    index.close()
    with pytest.raises(MismatchError, match=f"{what} is {after} there and {before} here"):
        opened(old)


def test_progress_is_told_to_the_end(tmp_path: Path) -> None:
    order = some_order(60, 2)
    watcher = Watcher()
    build(settings_in(tmp_path), order[:40], FakeJoined(order), watcher)
    embeddings = [each for each in watcher.told if each[0] == "embeddings"]
    assert embeddings[-1][1] == embeddings[-1][2]
    assert watcher.told[-1] == ("order", 20, 20)


@pytest.mark.parametrize("stop_at", [1, 2, 4])
def test_a_build_that_is_stopped_leaves_the_live_index_and_nothing_else(tmp_path: Path, stop_at: int) -> None:
    order = some_order(60, 3)
    server = settings_in(tmp_path)
    live = live_index(server, order)
    before = sorted(path.name for path in server.folder.iterdir())
    with pytest.raises(KeyboardInterrupt):
        build(server, order[:30], FakeJoined(order), Watcher(stop_at))
    assert sorted(path.name for path in server.folder.iterdir()) == sorted([*before, "building"])
    assert free_searches(live, server)
    live.close()
    assert opened(server).images


def test_what_a_killed_builder_left_is_removed_by_the_next(tmp_path: Path) -> None:
    order = some_order(40, 4)
    server = settings_in(tmp_path)
    left = server.folder / "gen-000007.new"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"x")
    built = build(server, order, FakeJoined(order))
    assert not left.exists()
    assert built.folder.name == "gen-000001"


def test_the_generation_before_stays_and_older_ones_go(tmp_path: Path) -> None:
    order = some_order(40, 5)
    server = settings_in(tmp_path)
    names = [build(server, order, FakeJoined(order)).folder.name for _ in range(3)]
    assert names == ["gen-000001", "gen-000002", "gen-000003"]
    assert sorted(path.name for path in server.folder.glob("gen-*")) == names[1:]


def test_two_builders_at_once_are_refused(tmp_path: Path) -> None:
    generations = IndexGenerations(tmp_path)
    with generations.building(), pytest.raises(IndexLockedError, match="builds"), generations.building():
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"topic_id": "another"}, "followed the topic topic-id-1, but joined is another"),
        ({"first": 35}, "oldest"),
        ({"records": some_order(60, 99)}, "checksum"),
        ({"records": some_order(20, 6)}, "lost records"),
    ],
)
def test_an_order_that_does_not_go_on_behind_the_embeddings_is_refused_at_once(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    order = some_order(60, 6)
    joined = replace(FakeJoined(list(order)), **change)  # type: ignore[arg-type]
    watcher = Watcher()
    with pytest.raises(MismatchError, match=message):
        build(settings_in(tmp_path), order[:30], joined, watcher)
    assert watcher.told == []
    assert not (tmp_path / "index" / "current").exists()


def test_an_order_that_retention_has_emptied_is_no_hindrance(tmp_path: Path) -> None:
    order = some_order(60, 6)
    server = settings_in(tmp_path)
    built = build(server, order, FakeJoined(list(order), first=len(order)))
    assert built.position.offset == len(order) - 1
    assert built.images > 0


def test_embeddings_of_another_signal_are_refused(tmp_path: Path) -> None:
    order = [record("a", 1)]
    page = next(iter(pages(order)))
    wrong = replace(page, rows=(replace(page.rows[0], score_vector=b"123456"),))
    server = settings_in(tmp_path)
    parser = parser_of(server)
    told = index_settings(server, parser.extractor, parser.coder)
    with pytest.raises(BadInputError, match="image 'a' at place 0: score_vector has 6 bytes, expected 48"):
        build_index(
            IndexGenerations(server.folder), told, parser, StoreSource(iter([wrong])), FakeJoined(order), Watcher()
        )


class Program:
    """A search server as a process, which nobody starts again."""

    def __init__(self, server: SearchServerSettings) -> None:
        self._folder, self._ports = server.folder, free_ports(2)

    def start(self, *hold: Path) -> subprocess.Popen[bytes]:
        options = map(str, (self._folder, *self._ports, *hold))
        command = [sys.executable, "-m", "tests.search.serving.search_setup", *options]
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)

    def wait_for(self, folder: str) -> None:
        client = SearchClient(f"127.0.0.1:{self._ports[0]}", 5.0, MAX_MESSAGE_BYTES)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                stats = client.stats()
            except Exception:  # noqa: BLE001 - it is not up yet
                time.sleep(0.05)
                continue
            assert Path(stats.folder).name == folder
            assert stats.offset == 59
            client.close()
            return
        raise AssertionError("the server did not come up")


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are ended with the test."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_a_running_server_makes_room_and_comes_back_on_what_was_built(
    tmp_path: Path, running: list[subprocess.Popen[bytes]]
) -> None:
    order = some_order(60, 7)
    server = settings_in(tmp_path)
    live_index(server, order).close()
    program = Program(server)
    running.append(program.start())
    program.wait_for("gen-000001")
    build(server, order[:50], FakeJoined(order))
    assert running[0].wait(timeout=60) == 0  # where a supervisor starts it again
    running.append(program.start())
    program.wait_for("gen-000002")
    running[1].send_signal(signal.SIGTERM)
    assert running[1].wait(timeout=60) == 0


def test_a_switch_while_the_server_opens_the_index_is_noticed_too(
    tmp_path: Path, running: list[subprocess.Popen[bytes]]
) -> None:
    order = some_order(60, 8)
    server = settings_in(tmp_path)
    live_index(server, order).close()
    hold = tmp_path / "hold"
    running.append(Program(server).start(hold))
    deadline = time.monotonic() + 60
    while not hold.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert build(server, order[:50], FakeJoined(order)).folder.name == "gen-000002"
    hold.unlink()
    assert running[0].wait(timeout=60) == 0


def test_all_parts_of_a_server_mean_the_generation_that_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = some_order(60, 9)
    server = settings_in(tmp_path)
    live_index(server, order[:40]).close()

    def switched_meanwhile(*args: Any) -> TermIndex:
        index = open_term_index(*args)
        monkeypatch.undo()
        build(server, order[:50], FakeJoined(order))
        return index

    monkeypatch.setattr(search_server, "open_term_index", switched_meanwhile)
    extractor, coder = server.terms.build(), server.code.build()
    found = open_index(server, extractor, coder)
    service = build_service(server, found, extractor, coder, CollectorRegistry(), lambda: None)
    stats = service.Stats(pb.StatsRequest(), cast(grpc.ServicerContext, None))
    assert (Path(stats.folder).name, stats.offset) == ("gen-000001", 39)
    told: list[bool] = []
    assert found.watch(lambda: told.append(True)).look()
    assert told == [True]
    found.index.close()


def test_an_index_is_built_at_storages_position_without_the_order(tmp_path: Path) -> None:
    order = some_order(60, 6)
    server = settings_in(tmp_path)
    parser = parser_of(server)
    told = index_settings(server, parser.extractor, parser.coder)
    generations = IndexGenerations(server.folder)
    built = build_index(generations, told, parser, StoreSource(pages(order[:30])), None, Watcher())
    assert built.position.offset == 29


def test_an_index_of_a_renewed_log_catches_up_by_position(tmp_path: Path) -> None:
    """The store has applied 30 records of the first log and 10 of the second; 20 more are in the second."""
    order = some_order(60, 6)
    server, plain = settings_in(tmp_path / "renewed"), settings_in(tmp_path / "plain")
    renewed = [
        replace(page, state=replace(page.state, position=replace(page.state.position, log_id="second", base=30)))
        for page in pages(order[:40])
    ]
    source = StoreSource(iter(renewed))
    joined = FakeJoined(order[30:], topic_id="second")
    joined.follow(source.position)
    parser = parser_of(server)
    told = index_settings(server, parser.extractor, parser.coder)
    built = build_index(IndexGenerations(server.folder), told, parser, source, joined, Watcher())
    assert (built.position.offset, built.position.base) == (59, 30)
    same = build(plain, order[:40], FakeJoined(list(order)))
    assert (built.images, built.unfindable) == (same.images, same.unfindable)
