"""How well the clusters that were found agree with the sample's labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clustering.comparison import PrecisionRecall
from stream.demo.report import DemoQuality, Score
from stream.demo.sample import TEST_SPLIT, LabelledImage
from training import evaluation

__all__ = ["quality"]


def quality(labels: Sequence[LabelledImage], heads: Mapping[str, str]) -> DemoQuality:
    """Precision, recall and F1 over the images of the test split.

    The other images were streamed too, and count as what they are beside a test image: wrong mates.

    Args:
        labels: All images that were streamed.
        heads: The head of each, by image id.
    """
    counted = [label.split == TEST_SPLIT for label in labels]
    found = evaluation.evaluate_clusters(
        [heads[label.image_id] for label in labels],
        [label.group_id for label in labels],
        [label.ignore_group for label in labels],
        counted,
    )
    return DemoQuality(
        groups=len({label.group_id for label in labels if label.split == TEST_SPLIT}),
        images=found.images,
        pairwise=_score(found.pairwise),
        bcubed=_score(found.bcubed),
    )


def _score(measured: PrecisionRecall) -> Score:
    return Score(round(measured.precision, 4), round(measured.recall, 4), round(measured.f1, 4))
