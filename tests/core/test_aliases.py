"""Aliases: compare-and-set, the way back, and nothing read that is not as it must be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.aliases import (
    MAX_ALIASES,
    MAX_TEXT_BYTES,
    Alias,
    SignalPlace,
    decode_aliases,
    encode_aliases,
    encode_record,
    with_alias,
    without,
)
from core.errors import BadInputError, ConflictError

names = st.from_regex(r"[a-z][a-z0-9-]{0,5}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
times = st.integers(0, 2**53)
ALIASES = st.dictionaries(names, st.builds(Alias, names, times, texts, texts, st.none() | names), max_size=4)
A, B, C = (Alias(signal, 1_000, "ann", "why") for signal in ("a", "b", "c"))


@given(ALIASES)
def test_what_is_encoded_comes_back(aliases: dict[str, Alias]) -> None:
    assert decode_aliases(json.loads(json.dumps(encode_aliases(aliases)))) == aliases


@given(ALIASES, names, names, names, st.none() | names)
def test_an_alias_is_set_if_it_names_what_was_expected(
    aliases: dict[str, Alias], name: str, signal: str, author: str, expected: str | None
) -> None:
    before, wanted = aliases.get(name), Alias(signal, 7, author)
    now = None if before is None else before.signal
    if now == signal:
        assert with_alias(aliases, name, wanted, expected) == aliases
    elif expected not in (None, now):
        with pytest.raises(ConflictError, match="nothing was changed"):
            with_alias(aliases, name, wanted, expected)
    else:
        after = with_alias(aliases, name, wanted, expected)
        assert after.pop(name) == Alias(signal, 7, author, "", now)
        assert after == without(aliases, name)


def test_an_expected_signal_of_a_new_alias_is_a_conflict() -> None:
    with pytest.raises(ConflictError, match="expected to name a, but there is no such alias"):
        with_alias({}, "live", B, "a")


def test_back_and_forth() -> None:
    first = with_alias({}, "live", A)
    second = with_alias(first, "live", B)
    assert (first["live"].previous, second["live"].previous) == (None, "a")
    assert with_alias(second, "live", A)["live"] == Alias("a", 1_000, "ann", "why", "b")


def test_there_are_not_too_many() -> None:
    full = {f"name-{number}": A for number in range(MAX_ALIASES)}
    with pytest.raises(BadInputError, match="no more than 100"):
        with_alias(full, "live", A)
    assert with_alias(full, "name-7", B)["name-7"].signal == "b"
    decode_aliases(encode_aliases(full))
    with pytest.raises(BadInputError, match="101 aliases"):
        decode_aliases(encode_aliases({**full, "live": A}))


@pytest.mark.parametrize("name", ["", "Live", "1a", "a/b", "a.b", "a\n", "ä", "a" * 64])
def test_a_name_is_one(name: str) -> None:
    with pytest.raises(BadInputError, match="no name"):
        with_alias({}, name, A)
    with pytest.raises(BadInputError, match="no name"):
        Alias(name, 0)
    with pytest.raises(BadInputError, match="no name"):
        Alias("a", 0, previous=name)


def test_texts_have_limits() -> None:
    assert Alias("a", 0, "ä" * (MAX_TEXT_BYTES // 2)).author
    with pytest.raises(BadInputError, match="the reason has 1026 bytes"):
        Alias("a", 0, "ann", "ä" * 513)
    with pytest.raises(BadInputError, match="the author is not valid Unicode"):
        Alias("a", 0, "\ud800")


GOOD: dict[str, Any] = {"signal": "a", "since_ms": 1, "author": "", "reason": "", "previous": None}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"aliases": []},
        {"aliases": {}, "more": 1},
        {"aliases": {"live": None}},
        {"aliases": {"Live": GOOD}},
        {"aliases": {"live": {**GOOD, "more": 1}}},
        {"aliases": {"live": {key: value for key, value in GOOD.items() if key != "reason"}}},
        *({"aliases": {"live": {**GOOD, "since_ms": wrong}}} for wrong in (-1, 1.0, True, "1", None)),
        *({"aliases": {"live": {**GOOD, key: 7}}} for key in ("signal", "author", "reason", "previous")),
    ],
    ids=str,
)
def test_another_form_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(BadInputError):
        decode_aliases(body)


def test_the_good_form_is_read() -> None:
    assert decode_aliases({"aliases": {"live": GOOD}}) == {"live": Alias("a", 1)}


def test_the_record_has_the_topics() -> None:
    place = SignalPlace("http://a:1", {"assignments": "neardup.a.assignments"})
    assert json.loads(encode_record(Alias("a", 5, "ann", "why", "b"), place)) == {
        "signal": "a",
        "topics": {"assignments": "neardup.a.assignments"},
        "since_ms": 5,
        "author": "ann",
        "reason": "why",
        "previous": "b",
    }
