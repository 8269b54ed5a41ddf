"""The client behind an alias, against two real servers that need a key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.access import Access, Keys
from core.alias_file import write_aliases
from core.aliases import Alias, SignalPlace
from core.types import ImageId
from neardup.client import ApiClient, RetryPolicy, RollbackRequest
from neardup.errors import NeardupClientError, NotFoundError, SwitchedError, UnknownAliasError
from storage.api.aliases import AliasSettings, FollowedAliases
from storage.memory import MemoryStore
from storage.testing.decisions import A, founds, joins, put
from tests.support.served_api import served_api

ACCESS = Access(Keys("parts-token", "read-key", "write-key"), frozenset())


def store_of(signal: str) -> MemoryStore:
    store = MemoryStore()
    put(store, founds(0, A), *[joins(1 + n, ImageId(f"{signal}/{n}"), A) for n in range(5)])
    return store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "aliases.json"
    write_aliases(file, {"live": Alias("red", 0)})
    return file


@pytest.fixture
def urls(file: Path) -> Iterator[dict[str, str]]:
    """The address of each signal."""
    places: dict[str, SignalPlace] = {}

    def options(signal: str) -> dict[str, object]:
        return {"access": ACCESS, "aliases": FollowedAliases(AliasSettings(file, signal, places))}

    with served_api(store_of("red"), **options("red")) as red, served_api(store_of("blue"), **options("blue")) as blue:
        found = {name: f"http://127.0.0.1:{port}" for name, port in (("red", red), ("blue", blue))}
        places.update({name: SignalPlace(url) for name, url in found.items()})
        yield found


def client(url: str, alias: str = "live") -> ApiClient:
    return ApiClient(f"{url}/v1/aliases/{alias}/", key="read-key", page_size=2, retry=RetryPolicy(retries=0))


def test_a_reader_is_switched_and_changes_nothing(urls: dict[str, str], file: Path) -> None:
    with client(urls["red"]) as red, client(urls["blue"]) as blue:
        for signal in ("red", "blue", "red"):
            write_aliases(file, {"live": Alias(signal, 0)})
            for each in (red, blue):
                assert list(each.members("a")) == ["a", *(f"{signal}/{n}" for n in range(5))]
                assert each.image(f"{signal}/1").head == "a"
                assert each.heads(["red/3", "blue/3"]) == {f"{signal}/3": "a"}
                assert each.stats().images == 6


def test_a_listing_that_the_alias_leaves_ends_by_name(urls: dict[str, str], file: Path) -> None:
    with client(urls["red"]) as red:
        members = red.members("a")
        assert [next(members) for _ in range(2)] == ["a", "red/0"]
        write_aliases(file, {"live": Alias("blue", 0)})
        with pytest.raises(SwitchedError, match="begin at the first page") as refusal:
            list(members)
        assert refusal.value.signal == "blue"


def test_an_unknown_alias_and_a_key_that_allows_nothing(urls: dict[str, str]) -> None:
    with (
        client(urls["red"], "nobody") as asking,
        pytest.raises(UnknownAliasError, match="no alias 'nobody'") as refusal,
    ):
        asking.image("a")
    # Nobody may take it for an image that is not there.
    assert not isinstance(refusal.value, NotFoundError)
    with client(urls["red"]) as asking, pytest.raises(NotFoundError, match="zebra"):
        asking.image("zebra")
    for url in urls.values():
        without = ApiClient(f"{url}/v1/aliases/live", retry=RetryPolicy(retries=0))
        with without, pytest.raises(NeardupClientError, match="401"):
            without.stats()


def test_servers_that_send_a_reader_to_each_other_are_given_up() -> None:
    asked: list[str] = []

    def elsewhere(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        host = "b" if request.url.host == "a" else "a"
        return httpx.Response(307, headers={"Location": f"http://{host}/v1/aliases/a%20b/stats?y=1"})

    http = httpx.Client(transport=httpx.MockTransport(elsewhere), follow_redirects=True)
    with ApiClient("http://a/v1/aliases/a%20b", http=http) as reader, pytest.raises(NeardupClientError, match="307"):
        reader.stats()
    assert asked == [
        "http://a/v1/aliases/a%20b/stats",
        *(f"http://{host}/v1/aliases/a%20b/stats?y=1" for host in "baba"),
    ]


STATS = "/v1/aliases/live/stats"


@pytest.mark.parametrize(
    ("asked", "location", "said"),
    [
        ("http", f"http://b.example{STATS}", None),
        ("http", f"https://b.example/base{STATS}?x=1", None),
        ("https", f"https://b.example:9{STATS}", None),
        ("https", f"//b.example{STATS}", None),
        ("https", f"http://b.example{STATS}", "not encrypted"),
        ("https", f"http://a.example{STATS}", "not encrypted"),
        ("http", "http://b.example/take", "another path"),
        ("http", f"http://b.example/take?{STATS}", "another path"),
        ("http", f"http://b.example/take#{STATS}", "another path"),
        ("http", "http://b.example/v1/aliases/other/stats", "another path"),
        ("http", "http://b.example/v1/stats", "another path"),
        ("http", "take", "another path"),
    ],
)
def test_the_key_goes_to_the_same_path_and_never_out_of_https(asked: str, location: str, said: str | None) -> None:
    keys: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append((request.url.host, request.headers.get("Authorization")))
        return httpx.Response(404) if len(keys) > 1 else httpx.Response(307, headers={"Location": location})

    http = httpx.Client(transport=httpx.MockTransport(answer))
    reader = ApiClient(f"{asked}://a.example/v1/aliases/live", http=http, key="SECRET")
    with reader, pytest.raises(NeardupClientError) as refusal:
        reader.stats()
    hosts = ["a.example"] if said else ["a.example", "b.example"]
    assert keys == [(host, "Bearer SECRET") for host in hosts]
    assert isinstance(refusal.value, NotFoundError) is (said is None)
    assert (said or "") in str(refusal.value)


class Switched:
    """Two signals that answer everything, each with the calls that it took; `live` names one of them."""

    def __init__(self) -> None:
        self.live = "red"
        self.most_of_red = 1000
        """After so many answers `live` names blue."""
        self.took: list[tuple[str, str, str]] = []
        self.http = httpx.Client(transport=httpx.MockTransport(self._answer))

    def client(self) -> ApiClient:
        return ApiClient("http://a/v1/aliases/live", http=self.http, page_size=1, retry=RetryPolicy(retries=0))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        wanted = request.headers.get("Neardup-Signal", self.live)
        path = request.url.path.removeprefix("/v1/aliases/live")
        if wanted != self.live:
            return httpx.Response(409, json={"error": "other-signal", "signal": self.live})
        signal = self.live
        self.took.append((signal, request.method, path))
        self.live = "blue" if len(self.took) >= self.most_of_red else signal
        return httpx.Response(200, json=self._content(path), headers={"Neardup-Signal": signal})

    def _content(self, path: str) -> dict[str, Any]:
        match path.split("/")[1:]:
            case ["images:lookup"]:
                return {"heads": {}}
            case ["operations"]:
                return {"operations": [OPERATION], "next_after": 1}
            case ["operations", _]:
                return OPERATION
            case ["overrides"] if self.took[-1][1] == "POST":
                return {"override": OVERRIDE, "created": True, "moves": [], "moved": 0}
            case ["overrides"]:
                return {"overrides": [LISTED], "next_after": 1}
            case ["overrides", _]:
                return LISTED
            case ["images", _, "history"]:
                return {"image_id": "a", "changes": [], "next_page_token": None, "history_first": 1}
            case ["at", _, "clusters", *_]:
                return {"head": "a", "time": "", "history_number": 7, "count": 3, "members": ["a"]}
        raise AssertionError(path)


OVERRIDE = {
    "number": 5,
    "kind": "forbid",
    "images": ["a"],
    "target": "b",
    "undoes": None,
    "author": "",
    "reason": "",
    "at": "",
    "applied_after": 0,
    "rollback": None,
}
LISTED = {**OVERRIDE, "undone_by": None, "waits": False}
OPERATION = {
    "number": 5,
    "kind": "merge",
    "state": "planning",
    "images": 1,
    "moved": 0,
    "history_first": None,
    "started": "",
    "ended": None,
    "override": 5,
    "position": None,
}


@pytest.mark.parametrize(
    "listing", [lambda api: api.overrides(), lambda api: api.operations(), lambda api: api.overrides("a")]
)
def test_a_listing_by_numbers_is_not_continued_by_another_signal(
    listing: Callable[[ApiClient], Iterator[object]],
) -> None:
    two = Switched()
    with two.client() as api:
        pages = listing(api)
        next(pages)
        next(pages)
        two.live = "blue"
        # Whatever the client asks the other signal meanwhile.
        api.override("forbid", ["a"], "b")
        api.operations_page()
        with pytest.raises(SwitchedError) as refusal:
            next(pages)
        assert refusal.value.signal == "blue"
        next(listing(api))


@pytest.mark.parametrize("read", [lambda api: api.heads(map(str, range(1001))), lambda api: api.members_at("a", 0)])
def test_what_is_read_in_several_calls_is_of_one_signal(read: Callable[[ApiClient], object]) -> None:
    two = Switched()
    two.most_of_red = 1
    with two.client() as api:
        with pytest.raises(SwitchedError) as refusal:
            read(api)
        assert refusal.value.signal == "blue"
        assert [signal for signal, _, _ in two.took] == ["red"]
        read(api)
        assert {signal for signal, _, _ in two.took[1:]} == {"blue"}


@pytest.mark.parametrize(
    ("gives", "uses"),
    [
        (lambda api: api.override("forbid", ["a"], "b"), lambda api: api.override("undo", undoes=5)),
        (lambda api: next(api.overrides()), lambda api: api.override("undo", undoes=5)),
        (lambda api: api.overrides_page(), lambda api: api.overrides_page(1)),
        (lambda api: api.overrides_page(), lambda api: api.override_of(5)),
        (lambda api: next(api.operations()), lambda api: api.cancel_operation(5)),
        (lambda api: api.operations_page(), lambda api: api.pause_operation(5)),
        (lambda api: api.operations_page(), lambda api: api.operations_page(1)),
        (lambda api: api.operations_page(), lambda api: api.resume_operation(5)),
        (lambda api: api.operations_page(), lambda api: api.operation_of(5)),
        (lambda api: list(api.history("a")), lambda api: api.rollback(RollbackRequest(to_change=7))),
    ],
)
def test_a_number_goes_to_the_signal_that_gave_it(
    gives: Callable[[ApiClient], object], uses: Callable[[ApiClient], object]
) -> None:
    two = Switched()
    with two.client() as api:
        gives(api)
        uses(api)
        two.live = "blue"
        api.heads(["a"])  # an answer without numbers changes nothing
        before = len(two.took)
        for _ in range(2):
            with pytest.raises(SwitchedError):
                uses(api)
        assert len(two.took) == before
        gives(api)
        uses(api)
        assert {signal for signal, _, _ in two.took[before:]} == {"blue"}


def test_a_time_is_no_number_of_a_signal() -> None:
    two = Switched()
    with two.client() as api:
        list(api.history("a"))
        two.live = "blue"
        assert api.rollback(RollbackRequest(1_700_000_000_000)).override.number == 5
