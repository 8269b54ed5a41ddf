"""Pairs to train on: all copies of each other, and the different images that are hardest to tell apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.scoring.candidates import rank_candidates
from search.scoring.features import unpack_codes

__all__ = ["MiningSettings", "TrainingPairs", "mine_pairs"]


@dataclass(frozen=True, slots=True)
class MiningSettings:
    """How many different images are paired with each image."""

    by_overlap: int = 30
    """Those that share the most terms: what a search would propose."""
    by_distance: int = 15
    """Those whose score codes differ least: what the classifier is most likely to take for a copy."""
    at_random: int = 10


@dataclass(frozen=True, eq=False, slots=True)
class TrainingPairs:
    """Rows of pairs (n, 2) into one corpus, and its packed score codes."""

    codes: NDArray[np.uint8]
    copies: NDArray[np.int64]
    different: NDArray[np.int64]

    def xor(self, pairs: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The packed XOR of pairs: (n, bytes)."""
        different_bits: NDArray[np.uint8] = self.codes[pairs[:, 0]] ^ self.codes[pairs[:, 1]]
        return different_bits


def mine_pairs(
    groups: NDArray[np.int64],
    ignore_groups: NDArray[np.int64],
    terms: NDArray[np.uint32],
    codes: NDArray[np.uint8],
    settings: MiningSettings,
    random: np.random.Generator,
) -> TrainingPairs:
    """Pairs of a corpus.

    Args:
        groups: Per image its group; equal groups are copies.
        ignore_groups: Per image its ignore group, -1 for none; pairs that share one are never "different".
        terms: Per image its terms, (n, groups of terms).
        codes: Per image its packed score code.
        settings: How many to take.
        random: For the random ones.
    """
    n = len(groups)
    same = groups[:, None] == groups[None, :]
    copies = np.argwhere(np.triu(same, 1))
    apart = ~same & ((ignore_groups[:, None] != ignore_groups[None, :]) | (ignore_groups[:, None] < 0))
    # Copies of an image take many of its first candidates, so more are ranked than wanted.
    largest_group = int(np.bincount(groups, minlength=1).max(initial=0))
    ranked = rank_candidates(terms, settings.by_overlap + largest_group)
    proposed = np.stack([ranked.images, ranked.others], axis=1)
    proposed = _first_of_each(proposed[apart[proposed[:, 0], proposed[:, 1]]], settings.by_overlap, n)
    nearest = _nearest(codes, apart, settings.by_distance)
    drawn = random.integers(0, max(1, n), (n * settings.at_random, 2))
    drawn = drawn[apart[drawn[:, 0], drawn[:, 1]]]
    return TrainingPairs(codes, copies, np.concatenate([proposed, nearest, drawn]))


def _first_of_each(pairs: NDArray[np.int64], limit: int, images: int) -> NDArray[np.int64]:
    """The first `limit` pairs of each image; pairs are sorted by image."""
    counts = np.bincount(pairs[:, 0], minlength=images)
    position = np.arange(len(pairs)) - np.repeat(np.cumsum(counts) - counts, counts)
    first: NDArray[np.int64] = pairs[position < limit]
    return first


def _nearest(codes: NDArray[np.uint8], apart: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Each image with the `count` different images whose codes differ least."""
    bits = unpack_codes(codes).astype(np.float32)
    distance = bits.sum(axis=1)[:, None] + bits.sum(axis=1)[None, :] - 2 * (bits @ bits.T)
    distance[~apart] = np.inf
    count = min(count, max(0, len(codes) - 1))
    order = np.argpartition(distance, count, axis=1)[:, :count] if count else np.empty((len(codes), 0), np.int64)
    pairs = np.stack([np.repeat(np.arange(len(codes)), count), order.reshape(-1)], axis=1)
    nearest: NDArray[np.int64] = pairs[apart[pairs[:, 0], pairs[:, 1]]]
    return nearest
