"""The client behind an alias, against two real servers that need a key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from core.access import Access, Keys
from core.alias_file import write_aliases
from core.aliases import Alias, SignalPlace
from core.types import ImageId
from neardup.client import ApiClient, RetryPolicy
from neardup.errors import NeardupClientError, NotFoundError, SwitchedError
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
    with client(urls["red"], "nobody") as asking, pytest.raises(NotFoundError, match="no alias 'nobody'"):
        asking.stats()
    for url in urls.values():
        without = ApiClient(f"{url}/v1/aliases/live", retry=RetryPolicy(retries=0))
        with without, pytest.raises(NeardupClientError, match="401"):
            without.stats()


def test_servers_that_send_a_reader_to_each_other_are_given_up() -> None:
    asked: list[str] = []

    def elsewhere(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(307, headers={"Location": f"http://{'b' if request.url.host == 'a' else 'a'}/x?y=1"})

    http = httpx.Client(transport=httpx.MockTransport(elsewhere), follow_redirects=True)
    with ApiClient("http://a/v1/aliases/a%20b", http=http) as reader, pytest.raises(NeardupClientError, match="307"):
        reader.stats()
    assert asked == ["http://a/v1/aliases/a%20b/stats", *(f"http://{host}/x?y=1" for host in "baba")]
