"""Settlements come back as they were, and the offsets that they name are remembered as few ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dead_letters import BadRecord, Provenance, Reason, dead_letter, parse_dead_letter
from core.errors import BadInputError
from core.settlements import Kind, Settled, Settlement, parse_settlement, ranges_of, settlement_bytes

offsets = st.sets(st.integers(0, 60), max_size=40)


@given(st.lists(offsets, max_size=6))
def test_what_is_settled_is_what_was_named(named: list[set[int]]) -> None:
    settled = Settled()
    for each in named:
        settled.add(list(ranges_of(sorted(each))))
    everything = set().union(*named)
    assert {offset for offset in range(-2, 64) if offset in settled} == everything
    assert settled._ranges == list(ranges_of(sorted(everything)))


@given(offsets)
def test_a_settlement_comes_back(named: set[int]) -> None:
    settlement = Settlement(Kind.REPLAYED, "é", tuple(ranges_of(sorted(named))))
    assert parse_settlement(settlement_bytes(settlement)) == settlement


@given(offsets, st.text(), st.text())
def test_an_acknowledgement_has_author_and_reason(named: set[int], author: str, reason: str) -> None:
    ranges = tuple(ranges_of(sorted(named)))
    settlement = Settlement(Kind.ACKNOWLEDGED, "é", ranges, author, reason)
    assert parse_settlement(settlement_bytes(settlement)) == settlement


def test_a_replay_is_written_as_the_last_release_wrote_it() -> None:
    raw = settlement_bytes(Settlement(Kind.REPLAYED, "2 sent", ((4, 5),)))
    assert raw == b'{"settlement":"replayed","detail":"2 sent","ranges":[[4,5]]}'


def test_dead_letters_and_settlements_are_told_apart() -> None:
    letter = dead_letter(BadRecord(Reason.FAULTED, "no"), Provenance("joined", 0, 1, 2), b"x")
    assert parse_settlement(letter) is None
    with pytest.raises(BadInputError):
        parse_dead_letter(settlement_bytes(Settlement(Kind.REPLAYED, "", ((1, 2),))))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"settlement": "other", "detail": "", "ranges": []}',
        b'{"settlement": "replayed", "detail": "", "ranges": [[1]]}',
        b'{"settlement": "replayed", "detail": "", "ranges": [["1", "2"]]}',
        b'{"settlement": "replayed", "detail": "", "ranges": [[true, 2]]}',
    ],
)
def test_anything_else_is_no_settlement(raw: bytes) -> None:
    assert parse_settlement(raw) is None
