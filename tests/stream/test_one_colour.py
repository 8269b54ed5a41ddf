"""What happens to pictures of one colour, with the vectors that the sample's networks give for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from manifests.image_files import ImageFile
from scoring.model_folder import ModelFolder
from scoring.tf_model import TfPairModel
from stream.centres import file_vectors
from stream.hashing import code_settings, term_settings
from stream.settings import load_settings

ROOT = Path(__file__).parents[2]


class Hashed:
    """Terms and codes of pictures of one colour and of photographs, and the model that compares them."""

    def __init__(self) -> None:
        settings = load_settings(ROOT / "neardup.toml")
        signal = settings.signal()[1]
        self._terms, self._codes = term_settings(settings, signal).build(), code_settings(settings, signal).build()
        folder = ModelFolder(settings.path(signal.model))
        self.model = folder.load(folder.served(), TfPairModel)
        flat = np.load(ROOT / "tests" / "fixtures" / "one_colour.npz")
        self.names: list[str] = flat["names"].tolist()
        self.flat_terms, self.flat_codes = self.hashed(flat["search"], flat["score"])
        photos = ImageFile(ROOT / "examples" / "photos" / "photos.parquet", 1280, 768)
        search, score = zip(*file_vectors(photos), strict=True)
        self.photo_terms, self.photo_codes = self.hashed(np.stack(search), np.stack(score))

    def hashed(self, search: NDArray[Any], score: NDArray[Any]) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        return self._terms.terms(search), self._codes.codes(score, search)

    def overlap(self, one: str, other: str) -> int:
        first, second = (self.flat_terms[self.names.index(name)] for name in (one, other))
        return int((first == second).sum())

    def scores(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.model.score(left, right)


@pytest.fixture(scope="module")
def hashed() -> Hashed:
    return Hashed()


def test_near_colours_share_terms_and_far_ones_do_not(hashed: Hashed) -> None:
    assert hashed.overlap("white", "near-white") > 90
    assert hashed.overlap("white", "cream") > 50
    assert hashed.overlap("white", "black") < 20
    assert hashed.overlap("green", "red") < 20


def test_most_colours_match_each_other_and_so_share_a_cluster(hashed: Hashed) -> None:
    one, other = np.triu_indices(len(hashed.names), 1)
    scores = hashed.scores(hashed.flat_codes[one], hashed.flat_codes[other])
    matched = (scores >= hashed.model.card.thresholds.accept).sum()
    assert len(one) / 2 < matched < len(one)


def test_no_photograph_matches_a_colour(hashed: Hashed) -> None:
    for code in hashed.flat_codes:
        scores = hashed.scores(np.repeat(code[None], len(hashed.photo_codes), axis=0), hashed.photo_codes)
        assert (scores < hashed.model.card.thresholds.accept).all()


def test_equal_vectors_have_equal_terms_and_codes_and_score_one(hashed: Hashed) -> None:
    flat = np.load(ROOT / "tests" / "fixtures" / "one_colour.npz")
    terms, codes = hashed.hashed(flat["search"].astype(np.float32), flat["score"].astype(np.float32))
    assert (terms == hashed.flat_terms).all()
    assert hashed.scores(codes, hashed.flat_codes).min() > 0.99
