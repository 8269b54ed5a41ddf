"""The pieces that measure: what they count is right on cases that can be counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search.corpus import CorpusSettings, Shape, make_corpus, terms_of
from benchmarks.search.engine import fill, index_settings, opened
from benchmarks.search.exact_peers import Ours
from benchmarks.search.insertion import open_loop
from benchmarks.search.peers import BruteForce
from benchmarks.search.results import Results
from benchmarks.search.space import list_bytes


def test_list_bytes_are_those_of_the_gaps() -> None:
    # Group 0: images 0, 1, 2 and 300 have term 1; group 1: each image its own term but for image 300, again term 0.
    terms = np.zeros((301, 2), np.uint32)
    terms[:, 0] = 2
    terms[[0, 1, 2, 300], 0] = 1
    terms[:300, 1] = np.arange(300)
    ours = {0: [0, 0, 0, 297]}
    gaps = [*ours[0], 3, *[0] * 296, *range(300), 299]
    assert list_bytes(terms, Shape(2, 10)) == sum(1 if gap < 128 else 2 for gap in gaps)


def test_an_open_loop_takes_everything_once_and_in_order() -> None:
    seen: list[int] = []
    waits, calls = open_loop(200, lambda first, end: seen.extend(range(first, end)), rate=50_000.0)
    assert seen == list(range(200))
    assert len(waits) == 200
    assert min(waits) >= 0
    assert 4 <= calls <= 200  # at most 64 at once
    assert len(open_loop(200, lambda *_: None, rate=50_000.0, until=lambda: True)[0]) < 200


def test_parts_of_a_result_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "bench" / "search.json"
    Results(path).add("peers", {"ratio_to_best_exact_peer": 3.5})
    Results(path).add("space", {"bytes": 7})
    whole = json.loads(path.read_text())
    assert whole["ratio_to_best_exact_peer"] == Results(path).ratio == 3.5
    assert whole["parts"]["space"]["bytes"] == 7
    assert set(whole["parts"]) == {"peers", "space"}


@pytest.mark.parametrize("segment_entries", [10_000, 900])
def test_a_built_index_answers_as_the_brute_force(tmp_path: Path, segment_entries: int) -> None:
    shape = Shape(16, 9)
    corpus = make_corpus(CorpusSettings(3_000, seed=2))
    terms = terms_of(corpus.codes, shape)
    fill(tmp_path / "ours", terms, corpus.codes, shape, segment_entries)
    truth = BruteForce(terms, shape)
    with opened(tmp_path / "ours", index_settings(shape)) as index:
        ours = Ours(index)
        for k in (7, 400):
            found = ours.search(ours.prepare(terms[::97]), k)
            for (places, overlaps), (true_places, true_overlaps) in zip(
                found, truth.search(truth.prepare(terms[::97]), k), strict=True
            ):
                assert np.array_equal(places, true_places)
                assert np.array_equal(overlaps, true_overlaps)
