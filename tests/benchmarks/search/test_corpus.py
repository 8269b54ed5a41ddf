"""The synthetic corpus: seeded, skewed, as dense as photographs; its terms are those of the index's users."""

from __future__ import annotations

import numpy as np

from benchmarks.search.corpus import BITS, CorpusSettings, Shape, make_corpus, terms_of, without_giant

SMALL = CorpusSettings(20_000, seed=3)


def test_the_same_seed_gives_the_same_images() -> None:
    first, again, other = make_corpus(SMALL), make_corpus(SMALL), make_corpus(CorpusSettings(20_000, seed=4))
    assert np.array_equal(first.codes, again.codes)
    assert not np.array_equal(first.codes, other.codes)


def test_sizes_are_skewed_and_members_lie_near_their_centre() -> None:
    corpus = make_corpus(SMALL)
    assert corpus.sizes.sum() == SMALL.images
    assert 2 < corpus.sizes[corpus.sizes > 0].mean() < 8
    assert corpus.sizes.max() <= SMALL.images // 1000
    largest = np.flatnonzero(corpus.clusters == corpus.sizes.argmax())
    bits = np.unpackbits(corpus.codes[largest], axis=1)
    # Two members differ in at most twice max_flipped of the bits, two strangers in about half.
    assert (bits[0] != bits).sum(axis=1).max() <= 2 * SMALL.max_flipped * BITS


def test_terms_are_the_bits_at_the_groups_positions() -> None:
    corpus, shape = make_corpus(CorpusSettings(50)), Shape(9, 13)
    bits = np.unpackbits(corpus.codes, axis=1)
    weights = 1 << np.arange(12, -1, -1)
    assert np.array_equal(terms_of(corpus.codes, shape), bits[:, shape.positions()] @ weights)


def test_strangers_share_terms_as_often_as_photographs_do() -> None:
    # Of the photographs of examples/photos, unrelated pairs agree in a group of 16 bits 2.6 times as often as
    # independent bits would, of 12 bits 1.6 times.
    corpus = make_corpus(SMALL)
    codes = corpus.codes[np.unique(corpus.clusters, return_index=True)[1]]
    for shape, low, high in ((Shape(64, 16), 2.0, 3.2), (Shape(64, 12), 1.4, 1.9)):
        terms = terms_of(codes, shape)
        pairs = len(terms) * (len(terms) - 1)
        agree = sum((np.bincount(column).astype(float) ** 2).sum() - len(terms) for column in terms.T)
        ratio = agree / pairs / shape.groups * 2**shape.bits_per_group
        assert low < ratio < high


def test_a_giant_cluster_is_number_zero() -> None:
    settings = CorpusSettings(10_000, giant=6_000, giant_flipped=0.03)
    corpus = make_corpus(settings)
    assert corpus.sizes[0] == 6_000
    assert (corpus.clusters[corpus.queries(500, giant=True)] == 0).all()
    assert (corpus.clusters[corpus.queries(500)] != 0).all()
    bits = np.unpackbits(corpus.codes[corpus.clusters == 0][:100], axis=1)
    assert 0 < (bits[0] != bits[1:]).mean() < 0.06
    assert without_giant(settings).images == 4_000
