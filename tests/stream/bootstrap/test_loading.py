"""A first load that is followed from outside: how it ends, and what is waited out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import pytest

from core.errors import BadInputError, MismatchError, ServiceError, UnavailableError
from core.first_loads import LoadReport, LoadRequest, LoadState
from manifests.folder import LocalFolder
from manifests.manifest import Kind, Manifest, ManifestFile
from operators.first_load import FirstLoad
from storage.loading.delta_report import DeltaReport
from stream.bootstrap import loading
from stream.bootstrap.loading import LOOK_S, PATIENCE_S, load_request, until_all_entered, until_live
from stream.settings import Settings
from tests.operators.test_first_load import REQUEST, ROWS, Server
from tests.support.stack import stack_settings


def followed(storage: Server, search: Server, slept: list[float] | None = None) -> list[FirstLoad]:
    seen: list[FirstLoad] = []
    until_live(REQUEST, storage, search, seen.append, ([] if slept is None else slept).append)
    return seen


def test_it_is_followed_until_both_are_live() -> None:
    slept: list[float] = []
    seen = followed(Server(), Server(), slept)
    assert [each.state for each in seen][-2:] == [LoadState.READY, LoadState.LIVE]
    assert slept == [LOOK_S] * (len(seen) - 1)
    assert len(followed(Server(), Server())) == len(seen)


@pytest.mark.parametrize("which", [0, 1])
def test_what_has_failed_is_told_by_name(which: int) -> None:
    servers = Server(), Server()
    servers[which].fails_at, servers[which].why = 20, "row 7 has no head"
    with pytest.raises(ServiceError, match=f"has failed.*{('storage', 'search')[which]}: row 7 has no head"):
        followed(*servers)


def test_a_load_that_somebody_aborts_ends_the_following() -> None:
    storage, search = Server(), Server()

    def tell(found: FirstLoad) -> None:
        if found.rows_done == 10:
            storage.abort_load(REQUEST.manifest_id)

    with pytest.raises(ServiceError, match="the first load was aborted, and nothing of it is left"):
        until_live(REQUEST, storage, search, tell, lambda seconds: None)
    assert search.report is not None
    assert search.report.state is LoadState.ABORTED


def test_what_storage_has_lost_is_told() -> None:
    storage, search = Server(), Server()

    def tell(found: FirstLoad) -> None:
        storage.report = None

    with pytest.raises(ServiceError, match="storage knows nothing of this load any more"):
        until_live(REQUEST, storage, search, tell, lambda seconds: None)


class Away(Server):
    """A server that does not answer for a while, once the load has begun."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def load_status(self) -> LoadReport | None:
        if self.looks:
            self.looks -= 1
            raise UnavailableError("it starts again")
        return super().load_status()


def test_a_server_that_starts_again_is_waited_for() -> None:
    assert followed(Server(), Away(round(PATIENCE_S / LOOK_S)))[-1].state is LoadState.LIVE
    with pytest.raises(UnavailableError, match="it starts again"):
        followed(Server(), Away(round(PATIENCE_S / LOOK_S) + 1))


def test_a_server_that_is_away_from_the_beginning_is_not() -> None:
    storage = Server()
    storage.applied = True
    with pytest.raises(MismatchError, match="something was applied"):
        followed(storage, Server())


class Ends(NamedTuple):
    first: int
    end: int


class FakeBroker:
    first = 0

    def __init__(self, access: object) -> None:
        pass

    def __enter__(self) -> FakeBroker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def topic_id(self, topic: str) -> str:
        return f"id of {topic}"

    def ends(self, topic: str) -> dict[int, Ends]:
        return {0: Ends(FakeBroker.first, 5)}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(loading, "Broker", FakeBroker)
    return stack_settings(tmp_path / "data")


def written(root: Path, name: str, manifest: Manifest) -> Manifest:
    with LocalFolder(root).put(f"manifests/{name}.json") as path:
        path.write_bytes(manifest.encoded())
    return manifest


def test_a_request_names_what_the_servers_need(settings: Settings, tmp_path: Path) -> None:
    file = ManifestFile("data/a.parquet", ROWS, 4, hashlib.sha256(b"rows").hexdigest())
    manifest = written(tmp_path, "one", Manifest(Kind.SNAPSHOT, [file]))
    request = load_request(settings, None, str(tmp_path), "one")
    topic = settings.signal()[1].topic("joined")
    assert (request.manifest_id, request.manifest, request.log_id) == (manifest.id, "one.json", f"id of {topic}")
    assert Path(request.folder) == tmp_path


def test_an_order_that_has_lost_records_takes_no_first_load(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeBroker, "first", 3)
    written(tmp_path, "one", Manifest(Kind.SNAPSHOT, [ManifestFile("a", 1, 1, "0" * 64)]))
    with pytest.raises(MismatchError, match=r"the first 3 records of .*joined are gone"):
        load_request(settings, None, str(tmp_path), "one")


def test_a_relative_folder_is_told_whole(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "old", "one", Manifest(Kind.SNAPSHOT, [ManifestFile("a", 1, 1, "0" * 64)]))
    assert load_request(settings, None, "old", "one").folder == str(tmp_path / "old")


def test_nothing_begins_with_a_manifest_without_rows(settings: Settings, tmp_path: Path) -> None:
    written(tmp_path, "one", Manifest(Kind.SNAPSHOT, []))
    with pytest.raises(BadInputError, match="has no rows"):
        load_request(settings, None, str(tmp_path), "one")


def test_a_delta_needs_no_order(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(loading, "Broker")
    manifest = Manifest(Kind.DELTA, [ManifestFile("a", 1, 1, "0" * 64)], previous="0" * 32)
    written(tmp_path, "one", manifest)
    request = load_request(settings, None, str(tmp_path), "one")
    assert request == LoadRequest(str(tmp_path), "one.json", manifest.id, "")
    assert request.is_delta


class DeltaServer:
    """Answers with these states, one after another; None: it is away, or knows nothing."""

    def __init__(self, *states: LoadState | None, away: int = 0) -> None:
        self.states = list(states)
        self.away = away
        self.loaded: list[LoadRequest] = []

    def load(self, request: LoadRequest) -> LoadReport:
        self.loaded.append(request)
        return LoadReport(request, LoadState.LOADING)

    def deltas(self, manifest_id: str) -> list[DeltaReport]:
        if self.away and len(self.states) < 2:
            self.away -= 1
            raise UnavailableError("it starts again")
        state = self.states.pop(0)
        return [] if state is None else [DeltaReport(LoadReport(DELTA, state, "why"), {}, ())]


DELTA = LoadRequest("folder", "one.json", "id-9", "")


def test_a_delta_is_followed_until_all_of_it_has_entered() -> None:
    seen: list[LoadState] = []
    states = LoadState.WAITING, LoadState.LOADING, LoadState.LIVE
    server = DeltaServer(*states, away=round(PATIENCE_S / LOOK_S))
    until_all_entered(DELTA, server, lambda report: seen.append(report.load.state), lambda seconds: None)
    assert (tuple(seen), server.loaded) == (states, [DELTA])


@pytest.mark.parametrize(
    ("server", "error", "message"),
    [
        (DeltaServer(LoadState.FAILED), ServiceError, "the delta has failed: why"),
        (DeltaServer(LoadState.LOADING, LoadState.ABORTED), ServiceError, "the delta was aborted: why"),
        (DeltaServer(LoadState.LOADING, None), ServiceError, "knows nothing of this delta any more"),
        (DeltaServer(LoadState.LIVE, away=1), UnavailableError, "it starts again"),
        (DeltaServer(LoadState.LOADING, LoadState.LIVE, away=1000), UnavailableError, "it starts again"),
    ],
)
def test_the_following_of_a_delta_ends(server: DeltaServer, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        until_all_entered(DELTA, server, lambda report: None, lambda seconds: None)
