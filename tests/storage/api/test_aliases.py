"""Aliases over HTTP: two servers and one file, answered here or sent there, with the rights of the path behind."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from core.access import OPEN, Access, Keys, Right
from core.alias_file import write_aliases
from core.aliases import Alias, SignalPlace
from core.delete_requests import DeleteRequest
from core.types import ImageId
from storage.api.aliases import AliasSettings, FollowedAliases
from storage.api.app import create_app
from storage.api.requests import MAX_BODY_BYTES
from storage.interfaces import ClusterStore
from storage.memory import MemoryStore
from storage.testing.decisions import A, B, founds, joins, put
from storage.testing.overrides import JOB
from tests.support.served_api import served_api

PLACES = {
    "red": SignalPlace("http://red.example:1", {"assignments": "neardup.red.assignments"}),
    "blue": SignalPlace("https://blue.example/base", {"assignments": "neardup.blue.assignments"}),
}
KEYS = Keys("parts-token", "read-key", "write-key", {"moderation": "their-key"})
READ_KEY, WRITE_KEY = ({"Authorization": f"Bearer {key}"} for key in ("read-key", "write-key"))
STRANGE = ("a/b", "a/similar", "aliases/live/images/x", "50%", "%2F", "ä ö", "a?b#c", "..", ".")


class Failures:
    """Counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


class Order:
    """Takes every delete, and keeps it."""

    def __init__(self) -> None:
        self.deleted: list[str] = []

    def delete(self, requests: Any) -> list[int]:
        asked: list[DeleteRequest] = list(requests)
        self.deleted += [each.image_id for each in asked]
        return [7 for _ in asked]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """`live` names red, and `next` names blue."""
    file = tmp_path / "aliases.json"
    write_aliases(
        file, {"live": Alias("red", 1_000, "ann", "first", None), "next": Alias("blue", 2_000, previous="red")}
    )
    return file


def store_of(signal: str) -> MemoryStore:
    store = MemoryStore()
    others = [ImageId(f"{signal}-{number}") for number in range(5)]
    strange = map(ImageId, STRANGE)
    images = [*others, B, *strange]
    put(store, founds(0, A), *[joins(1 + n, each, A) for n, each in enumerate(images)], kinds=JOB)
    put(store, joins(1 + len(images), B, A, old=A, version=2), kinds=JOB)
    return store


def client_of(
    signal: str, file: Path, access: Access = OPEN, failed: Callable[[], None] = lambda: None, **options: Any
) -> TestClient:
    followed = FollowedAliases(AliasSettings(file, signal, PLACES), failed)
    app = create_app(store_of(signal), 10, CollectorRegistry(), access, aliases=followed, **options)
    return TestClient(app, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture
def red(file: Path) -> TestClient:
    return client_of("red", file)


@pytest.fixture
def blue(file: Path) -> TestClient:
    return client_of("blue", file)


def test_aliases_are_told_by_every_signal(red: TestClient, blue: TestClient) -> None:
    live = {
        "name": "live",
        "signal": "red",
        "since": "1970-01-01T00:00:01.000Z",
        "author": "ann",
        "reason": "first",
        "previous": None,
        "api": "http://red.example:1",
        "topics": {"assignments": "neardup.red.assignments"},
    }
    for client, signal in ((red, "red"), (blue, "blue")):
        told = client.get("/v1/aliases").json()
        assert (told["signal"], told["fault"], told["aliases"][0]) == (signal, None, live)
        assert [(each["name"], each["signal"], each["previous"]) for each in told["aliases"]] == [
            ("live", "red", None),
            ("next", "blue", "red"),
        ]
        assert client.get("/v1/aliases/live").json() == live
        unknown = client.get("/v1/aliases/nobody")
        assert (unknown.status_code, unknown.json()["error"]) == (404, "unknown-alias")


@pytest.mark.parametrize(
    "path",
    [
        "/stats",
        "/images/a",
        "/images/nobody",
        "/images/%FF",
        "/images/b/similar?limit=3&order=newest",
        "/clusters/a/members?limit=2",
        "/at/2026-11-28T07:00:00+01:00/images/a",
        "/overrides",
        "/aliases",
        "/aliases/next",
        "/aliases/next/stats",
        "/nothing",
        "",
        *(f"/images/{httpx.QueryParams({'': each})!s}".replace("=", "").replace("+", "%20") for each in STRANGE[:-2]),
        *(f"/images/{each}" for each in ("%2E%2E", "%2e")),
    ],
)
def test_behind_its_own_alias_a_signal_answers_as_without(red: TestClient, path: str) -> None:
    behind, plain = red.get(f"/v1/aliases/live{path or '/'}"), red.get(f"/v1{path or '/'}")
    if path == "/aliases/next/stats":  # one prefix is taken away, not two
        assert (behind.status_code, behind.json()["error"]) == (404, "unknown-path")
    else:
        assert (behind.status_code, behind.content) == (plain.status_code, plain.content)
    assert behind.headers["Neardup-Signal"] == "red"
    assert "Neardup-Signal" not in plain.headers


def test_strange_ids_are_found_behind_an_alias(red: TestClient) -> None:
    for each in STRANGE:
        escaped = "".join(f"%{byte:02X}" for byte in each.encode())
        assert red.get(f"/v1/aliases/live/images/{escaped}").json()["image_id"] == each


def test_posts_and_heads_pass_too(red: TestClient) -> None:
    found = red.post("/v1/aliases/live/images:lookup", json={"image_ids": ["a", "red-1"]})
    assert found.json()["heads"] == {"a": "a", "red-1": "a"}
    assert red.post("/v1/aliases/live/images%3Alookup", json={"image_ids": ["a"]}).json()["heads"] == {"a": "a"}
    head = red.head("/v1/aliases/live/images/a")
    assert (head.status_code, head.content, head.headers["Neardup-Signal"]) == (200, b"", "red")
    assert red.get("/v1/aliases/li%76e/stats").headers["Neardup-Signal"] == "red"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/aliases/live/images/a%2Fb%3Fc"),
        ("GET", "/v1/aliases/live/images/b/similar?limit=3&page_token=red.x%2Fy"),
        ("HEAD", "/v1/aliases/live/stats"),
        ("POST", "/v1/aliases/live/images:lookup"),
    ],
)
def test_another_signal_sends_the_reader_there(blue: TestClient, method: str, path: str) -> None:
    sent = blue.request(method, path)
    assert (sent.status_code, sent.content) == (307, b"")
    assert sent.headers["Location"] == f"http://red.example:1{path}"
    assert "Neardup-Signal" not in sent.headers


def test_the_address_of_a_signal_may_have_a_path(red: TestClient) -> None:
    sent = red.get("/v1/aliases/next/stats?x=1")
    assert sent.headers["Location"] == "https://blue.example/base/v1/aliases/next/stats?x=1"


@pytest.mark.parametrize("name", ["nobody", "", "Live", "%ff", "live%2Fimages", "x" * 500])
def test_an_unknown_alias_is_told(red: TestClient, name: str) -> None:
    answer = red.get(f"/v1/aliases/{name}/images/a")
    assert (answer.status_code, answer.json()["error"]) == (404, "unknown-alias")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_signal_that_the_settings_do_not_know(red: TestClient, file: Path) -> None:
    write_aliases(file, {"live": Alias("green", 0)})
    answer = red.get("/v1/aliases/live/stats")
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"
    told = red.get("/v1/aliases/live").json()
    assert (told["signal"], told["api"], told["topics"]) == ("green", None, {})


def test_rights_are_those_of_the_path_behind(file: Path) -> None:
    """A key for reading deletes and overrides nothing, by whatever name; and without a key nothing is told."""
    told: set[tuple[bytes, str, bytes, str]] = set()
    for anyone, known in ((frozenset[Right](), False), (frozenset({Right.READ}), True)):
        order = Order()
        client = client_of("red", file, Access(KEYS, anyone), deletes=order)
        for name, allowed in (("live", 202), ("next", 307), ("nobody", 404)):
            path = f"/v1/aliases/{name}/images/a"
            unknown, refused = client.delete(path), client.delete(path, headers=READ_KEY)
            assert (unknown.status_code, unknown.json()["error"]) == (401, "no-key")
            assert (refused.status_code, refused.json()["error"]) == (403, "denied")
            # Whether the alias names this signal, another one, or is none: the answer is the same.
            told.add((unknown.content, str(unknown.headers), refused.content, str(refused.headers)))
            assert order.deleted == []
            said = {"kind": "forbid", "images": ["a"], "target": "b"}
            assert client.post(f"/v1/aliases/{name}/overrides", json=said, headers=READ_KEY).status_code == 403
            assert client.get(path).status_code == ({"live": 200}.get(name, allowed) if known else 401)
            assert client.delete(path, headers=WRITE_KEY).status_code == allowed
            assert order.deleted == (["a"] if name == "live" else [])
            order.deleted.clear()
        # The paths that are open to everybody are not below /v1, so no alias leads there.
        for path in ("/v1/aliases/live/healthz", "/v1/aliases/live/openapi.json"):
            assert client.get(path).status_code == (404 if known else 401)
        assert client.get("/v1/aliases").status_code == (200 if known else 401)
    assert len(told) == 1


def test_what_is_said_behind_an_alias_has_its_author(file: Path) -> None:
    client = client_of("red", file, Access(KEYS, frozenset()))
    said = {"kind": "forbid", "images": ["a"], "target": "zebra", "author": "ann"}
    theirs = {"Authorization": "Bearer their-key"}
    answer = client.post("/v1/aliases/live/overrides", json=said, headers=theirs)
    assert (answer.status_code, answer.json()["override"]["author"]) == (201, "moderation")


@pytest.mark.parametrize("name", ["live", "next"])
def test_large_bodies_are_refused_behind_an_alias(red: TestClient, name: str) -> None:
    headers = {"Content-Length": str(MAX_BODY_BYTES + 1)}
    assert red.post(f"/v1/aliases/{name}/images:lookup", headers=headers).status_code == 413
    allowed = red.post(f"/v1/aliases/{name}/overrides", content=b"{}", headers=headers)
    assert allowed.status_code in (401, 307)  # an override may be larger, and needs a key


@pytest.mark.parametrize("path", ["images/b/similar", "clusters/a/members", "images/b/history", "clusters/a/history"])
def test_a_page_of_one_signal_is_not_continued_by_another(red: TestClient, blue: TestClient, path: str) -> None:
    token = red.get(f"/v1/aliases/live/{path}", params={"limit": 1}).json()["next_page_token"]
    page = {"limit": 1, "page_token": token}
    assert red.get(f"/v1/aliases/live/{path}", params=page).status_code == 200
    for prefix in ("", "/aliases/next"):
        refused = blue.get(f"/v1{prefix}/{path}", params=page)
        problem = refused.json()
        assert (refused.status_code, problem["error"], problem["signal"]) == (409, "other-signal", "blue")
        assert "begin at the first page" in problem["detail"]
    bare = red.get(f"/v1/{path}", params={"page_token": token.partition(".")[2]})
    assert (bare.status_code, bare.json()["error"]) == (400, "bad-input")


def test_a_request_may_name_the_signal_that_is_to_answer(red: TestClient, blue: TestClient, file: Path) -> None:
    wanted = {"Neardup-Signal": "red"}
    assert red.get("/v1/aliases/live/stats", headers=wanted).status_code == 200
    assert blue.get("/v1/aliases/live/stats", headers=wanted).status_code == 307
    write_aliases(file, {"live": Alias("blue", 3_000, previous="red")})
    for client in (red, blue):
        refused = client.get("/v1/aliases/live/stats", headers=wanted)
        assert (refused.status_code, refused.json()["error"], refused.json()["signal"]) == (409, "other-signal", "blue")


def test_an_alias_moves_and_comes_back(red: TestClient, blue: TestClient, file: Path) -> None:
    def answered() -> list[int]:
        return [client.get("/v1/aliases/live/images/a").status_code for client in (red, blue)]

    assert answered() == [200, 307]
    for signal, wanted in (("blue", [307, 200]), ("red", [200, 307]), ("blue", [307, 200])):
        write_aliases(file, {"live": Alias(signal, 0)})
        assert answered() == wanted
    write_aliases(file, {})
    assert answered() == [404, 404]


def test_a_damaged_file_changes_nothing_and_is_told(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    client, good = client_of("red", file, failed=failures), file.read_bytes()
    for content in (b"", good[:-20], good.replace(b"red", b"bad")):
        before = failures.count
        caplog.clear()
        file.write_bytes(content)
        for _ in range(3):
            assert client.get("/v1/aliases/live/stats").headers["Neardup-Signal"] == "red"
        told = client.get("/v1/aliases").json()
        assert told["fault"].startswith("the file of aliases is none")
        assert [each["signal"] for each in told["aliases"]] == ["red", "blue"]
        assert failures.count == before + 1
        assert [each.levelno for each in caplog.records if each.name == "storage.api.aliases"] == [logging.ERROR]
    file.unlink()
    assert client.get("/v1/aliases/live/stats").status_code == 200
    assert client.get("/v1/aliases").json()["fault"] == "the file of aliases is gone"
    write_aliases(file, {"live": Alias("blue", 0)})
    assert client.get("/v1/aliases/live/stats").status_code == 307
    assert client.get("/v1/aliases").json()["fault"] is None


def test_a_file_that_the_system_does_not_give_is_read_a_little_later(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures, now, read = Failures(), [100.0], Path.read_bytes
    followed = FollowedAliases(AliasSettings(file, "red", PLACES), failures, lambda: now[0])
    asked: list[Path] = []

    def fails(path: Path) -> bytes:
        asked.append(path)
        raise OSError(errno.EMFILE, "Too many open files")

    write_aliases(file, {"live": Alias("blue", 3_000)})
    monkeypatch.setattr(Path, "read_bytes", fails)
    for now[0] in (100.0, 100.9, 101.0, 101.9):
        assert followed.one("live").signal == "red"
    assert (len(asked), failures.count, followed.fault) == (
        2,
        1,
        "the file of aliases cannot be read: Too many open files",
    )
    assert len(caplog.records) == 1
    monkeypatch.setattr(Path, "read_bytes", read)
    assert followed.one("live").signal == "red"
    now[0] = 102.0
    assert (followed.one("live").signal, followed.fault, failures.count) == ("blue", None, 1)


def test_a_new_file_is_read_at_once_after_one_that_the_system_did_not_give(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = FollowedAliases(AliasSettings(file, "red", PLACES), clock=lambda: 100.0)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
        write_aliases(file, {"live": Alias("blue", 3_000)})
        assert followed.one("live").signal == "red"
    write_aliases(file, {"live": Alias("blue", 4_000)})
    assert followed.one("live").signal == "blue"


def test_a_file_that_is_damaged_from_the_start_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "aliases.json"
    file.write_bytes(b"{")
    client = client_of("red", file)
    for path in ("/v1/aliases", "/v1/aliases/live", "/v1/aliases/live/stats"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    assert client.get("/v1/stats").status_code == 200
    write_aliases(file, {"live": Alias("red", 0)})
    assert client.get("/v1/aliases/live/stats").status_code == 200


def test_without_a_file_there_are_no_aliases(tmp_path: Path) -> None:
    for client in (client_of("red", tmp_path / "none"), TestClient(create_app(MemoryStore(), 10, CollectorRegistry()))):
        assert client.get("/v1/aliases").json()["aliases"] == []
        assert client.get("/v1/aliases/live/stats").status_code == 404


def test_requests_without_the_prefix_do_not_look_at_the_file(
    red: TestClient, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **options: looked.append(path) or stat(path, **options))
    assert red.get("/v1/images/a").status_code == 200
    assert file not in looked
    assert red.get("/v1/aliases/live/images/a").status_code == 200
    assert file in looked


class Servers:
    """Both signals on ports of their own."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.ports = ports

    def url(self, signal: str) -> str:
        return f"http://127.0.0.1:{self.ports[signal]}"


@pytest.fixture
def servers(file: Path) -> Iterator[Servers]:
    places: dict[str, SignalPlace] = {}
    stores: dict[str, ClusterStore] = {signal: store_of(signal) for signal in PLACES}
    followed = {signal: FollowedAliases(AliasSettings(file, signal, places)) for signal in PLACES}
    with (
        served_api(stores["red"], aliases=followed["red"]) as red,
        served_api(stores["blue"], aliases=followed["blue"]) as blue,
    ):
        ports = {"red": red, "blue": blue}
        places.update({name: SignalPlace(f"http://127.0.0.1:{port}") for name, port in ports.items()})
        yield Servers(ports)


def test_readers_are_answered_while_an_alias_moves(servers: Servers, file: Path) -> None:
    """Every answer is whole, and of one of the two signals; after the last move all are of that signal."""
    stop = threading.Event()
    answers: dict[str, list[tuple[str, str, int]]] = {"red": [], "blue": []}
    failed: list[BaseException] = []

    def read(at: str) -> None:
        try:
            with httpx.Client(base_url=servers.url(at), trust_env=False, follow_redirects=True) as http:
                while not stop.is_set():
                    answer = http.get("/v1/aliases/live/clusters/a/members", params={"limit": 5})
                    answers[at].append(
                        (answer.headers["Neardup-Signal"], answer.json()["members"][1], answer.status_code)
                    )
        except Exception as error:  # noqa: BLE001, as the test tells it
            failed.append(error)

    readers = [threading.Thread(target=read, args=(at,)) for at in answers]
    for reader in readers:
        reader.start()
    for signal in ["blue", "red"] * 5:
        write_aliases(file, {"live": Alias(signal, 0)})
        # The first answer from now on may be one to a request that came before.
        wanted = {at: len(told) + 3 for at, told in answers.items()}
        while not failed and any(len(told) < wanted[at] for at, told in answers.items()):
            stop.wait(0.01)
    stop.set()
    for reader in readers:
        reader.join()
    assert failed == []
    for told in answers.values():
        assert {(status, member.partition("-")[0] == signal) for signal, member, status in told} == {(200, True)}
        assert {signal for signal, _, _ in told} == {"red", "blue"}
        assert told[-1][0] == "red"
