"""Which key gives which right, and where none is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.access import OPEN, Access, Credentials, Keys, Right, is_loopback, read_key_file
from core.errors import DeniedError, SettingsError
from core.rpc import Listen

KEYS = Keys(parts="parts-key", read="read-key", write="write-key")
READ, WRITE, STREAM, REQUIRE = Right.READ, Right.WRITE, Right.STREAM, Right.REQUIRE


@pytest.mark.parametrize(
    ("sent", "rights"),
    [
        (None, set()),
        ("", set()),
        ("Bearer ", set()),
        ("Bearer wrong", set()),
        ("read-key", set()),
        ("Basic read-key", set()),
        ("Bearer read-key", {READ}),
        ("bearer  read-key ", {READ}),
        ("Bearer write-key", {READ, WRITE, REQUIRE}),
        ("Bearer parts-key", {READ, STREAM, REQUIRE}),
        ("Bearer reäd-key", set()),
    ],
)
def test_rights_of_a_key(sent: str | None, rights: set[Right]) -> None:
    assert Access(KEYS, frozenset()).rights(sent) == rights
    assert Access(KEYS, frozenset({READ})).rights(sent) == rights | {READ}


def test_a_key_that_is_not_set_opens_nothing() -> None:
    closed = Access(Keys(), frozenset())
    assert {*closed.rights("Bearer "), *closed.rights(None), *closed.rights("Bearer x")} == set()


def test_a_refusal_names_the_key_and_does_not_repeat_what_was_sent() -> None:
    access = Access(KEYS, frozenset({READ}))
    access.check(READ, None)
    with pytest.raises(DeniedError, match=r"secrets/write/key.*no key was sent"):
        access.check(WRITE, None)
    with pytest.raises(DeniedError, match=r"secrets/parts/token.*another key was sent") as told:
        access.check(STREAM, "Bearer read-key")
    assert "read-key" not in str(told.value)


def test_keys_are_not_shown() -> None:
    assert "key" not in repr(Access(KEYS, frozenset())).replace("keys", "")
    assert "secret" not in repr(Credentials("secret"))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "storage", "")),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_server_beyond_loopback_needs_keys() -> None:
    with pytest.raises(SettingsError, match=r"port 5 listens on 0\.0\.0\.0.*neardup secrets make.*client_ca_file"):
        Listen("0.0.0.0", 5, 6, 1 << 20)
    assert Listen("0.0.0.0", 5, 6, 1 << 20, access=Access(KEYS, frozenset())).port == 5
    assert Listen("127.0.0.1", 5, 6, 1 << 20, access=OPEN).port == 5


def test_a_key_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(SettingsError, match=str(file)):
        read_key_file(file)
    file.write_text(" \n")
    with pytest.raises(SettingsError, match="empty"):
        read_key_file(file)
    file.write_text("the key\n")
    assert Credentials(key_file=str(file)).authorization() == "Bearer the key"
    assert Credentials("other").authorization() == "Bearer other"
    assert Credentials().authorization() is None
