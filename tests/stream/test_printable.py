"""Whatever an id holds, it takes one line, moves no cursor, and comes back exactly from JSON."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.printable import json_text, printable, printable_json

texts = st.text(st.characters(codec=None, categories=None), max_size=60)
BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def harmless(text: str) -> bool:
    """No control, no lone surrogate, no separator of lines, no override of the direction."""
    return all(
        unicodedata.category(each) not in ("Cc", "Cs", "Zl", "Zp") and unicodedata.bidirectional(each) not in BIDI
        for each in text
    )


@given(texts)
def test_any_text_takes_one_harmless_line(text: str) -> None:
    shown = printable(text)
    assert harmless(shown)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert printable(shown) == shown


@given(texts)
def test_text_without_such_characters_stays_as_it_is(text: str) -> None:
    if harmless(text) and not set(text) & set("\u061c\u200e\u200f"):
        assert printable(text) == text


@given(st.recursive(texts | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8))
@pytest.mark.parametrize("indent", [None, 2])
def test_json_is_exact_and_harmless(indent: int | None, value: object) -> None:
    shown = json_text(value, indent)
    assert all(harmless(line) for line in shown.split("\n"))
    assert json.loads(shown) == json.loads(json.dumps(value))
    if indent is None:
        assert printable_json(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("\ud800", "\\ud800"),
        ("röse 👩‍🚀 C:\\x", "röse 👩‍🚀 C:\\x"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert printable(text) == shown
