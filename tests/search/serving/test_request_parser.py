"""What comes over the wire is checked value by value before it is hashed; the first wrong entry is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.errors import RefusedError
from core.protos.joined_pb2 import JoinedImage
from search.index.interface import Insert, Remove, Replay, Skip
from search.serving import search_pb2 as pb
from search.serving.request_parser import RequestParser
from tests.search.serving.search_setup import (
    SCORE_DIMENSION,
    SEARCH_DIMENSION,
    entry,
    image,
    remove,
    replay,
    server_settings,
    skip,
    vector,
)

SETTINGS = server_settings(Path("unused"))
PARSER = RequestParser(SETTINGS.terms.build(), SETTINGS.code.build())


def test_vectors_of_both_types_become_terms_and_codes() -> None:
    insert, passed, wide = PARSER.records([entry(7, "a", 1), skip(8, "b", 3), entry(9, "c", 2, half=False, version=4)])
    assert passed == Skip(8, 15, "b", 3)  # type: ignore[arg-type]
    terms, codes = SETTINGS.terms.build(), SETTINGS.code.build()
    for record, seed, dtype, version in ((insert, 1, "<f2", 1), (wide, 2, "<f4", 4)):
        assert isinstance(record, Insert)
        assert record.version == version
        assert record.checksum == record.offset + 7
        search = vector(SEARCH_DIMENSION, seed).astype(dtype)
        assert np.array_equal(record.terms, terms.terms(search[None])[0])
        assert record.code == codes.codes(vector(SCORE_DIMENSION, seed).astype(dtype)[None], [])[0].tobytes()


def test_a_replay_carries_its_image_or_none_and_a_delete_its_version_or_none() -> None:
    records = PARSER.records(
        [replay(0, "a", image("a", 1, version=3)), replay(1, "a"), remove(2, "b"), remove(3, "b", 0), entry(4, "a", 1)]
    )
    full, bare, last, lowest, same = records
    assert isinstance(full, Replay)
    assert isinstance(full.image, Insert)
    assert (full.offset, full.checksum, full.image.offset, full.image.version) == (0, 7, 0, 3)
    assert isinstance(same, Insert)
    assert full.image.code == same.code
    assert np.array_equal(full.image.terms, same.terms)
    assert isinstance(bare, Replay)
    assert bare.image is None
    assert (last, lowest) == (Remove(2, 9, "b", None), Remove(3, 10, "b", 0))  # type: ignore[arg-type]


def test_no_entry_and_only_skips_are_fine() -> None:
    assert PARSER.records([]) == []
    assert [record.offset for record in PARSER.records([skip(0), skip(1, "x")])] == [0, 1]


def test_ids_and_values_at_the_limits_are_taken() -> None:
    longest = entry(0, "é" * 128, 1)
    tiny = entry(1, "x", 1)
    tiny.insert.search_vector = np.array([6e-8] + [0.0] * (SEARCH_DIMENSION - 1), "<f2").tobytes()
    huge = entry(2, "y", 1, half=False)
    huge.insert.search_vector = np.full(SEARCH_DIMENSION, 3.4e38, "<f4").tobytes()
    assert len(PARSER.records([longest, tiny, huge])) == 3


def broken_entry(change: Callable[[pb.LogEntry], None]) -> pb.LogEntry:
    bad = entry(1, "bad", 2)
    change(bad)
    return bad


def set_vector(name: str, values: list[float]) -> Callable[[pb.LogEntry], None]:
    dimension = SEARCH_DIMENSION if name == "search_vector" else SCORE_DIMENSION
    content = np.resize(np.array(values, "<f2"), dimension).tobytes()
    return lambda bad: setattr(bad.insert, name, content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda bad: bad.ClearField("insert"), "must insert, skip, remove or replay"),
        (lambda bad: setattr(bad.insert, "image_id", ""), "1 to 256"),
        (lambda bad: setattr(bad.insert, "image_id", "é" * 129), "1 to 256"),
        (lambda bad: setattr(bad.insert, "search_type", 0), "element type of search_vector is 0"),
        (lambda bad: setattr(bad.insert, "score_type", 9), "element type of score_vector is 9"),
        (lambda bad: setattr(bad.insert, "search_vector", b""), "search_vector is empty"),
        (
            lambda bad: setattr(bad.insert, "score_vector", b"12"),
            "score_vector has 2 bytes, expected 24: 12 numbers",
        ),
        (
            lambda bad: setattr(bad.insert, "search_type", 2),
            "search_vector has 48 bytes, expected 96: 24 numbers",
        ),
        (set_vector("search_vector", [1.0, np.nan]), r"search_vector\[1\] is not a number"),
        (set_vector("score_vector", [np.inf, 1.0]), r"score_vector\[0\] is infinite"),
        (set_vector("search_vector", [0.0, -0.0]), "all 24 numbers of search_vector are zero"),
        (set_vector("score_vector", [0.0]), "all 12 numbers of score_vector are zero"),
        (lambda bad: bad.skip.CopyFrom(pb.Skip(image_id="x" * 257)), "256"),
        (lambda bad: bad.remove.CopyFrom(pb.Remove()), "1 to 256"),
        (lambda bad: bad.replay.CopyFrom(pb.Replay()), "1 to 256"),
        (
            lambda bad: bad.replay.CopyFrom(pb.Replay(image_id="a", image=image("b", 1))),
            "it replays 'a' and carries 'b'",
        ),
        (
            lambda bad: bad.replay.CopyFrom(pb.Replay(image_id="a", image=JoinedImage(image_id="a"))),
            "element type of search_vector is 0",
        ),
    ],
)
def test_a_wrong_entry_is_refused_by_its_offset(change: Callable[[pb.LogEntry], None], message: str) -> None:
    with pytest.raises(RefusedError, match=message) as caught:
        PARSER.records([entry(0, "a", 1), broken_entry(change), entry(2, "c", 1)])
    assert caught.value.offset == 1
