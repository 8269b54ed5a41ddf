"""The page beside a model names its thresholds, its results and its plots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.support.fake_model import card
from training.card_page import CARD_PAGE, write_page
from training.judging import Judged, Share


def judged() -> Judged:
    return Judged(
        10,
        5,
        1.0,
        0.9,
        0.95,
        0.99,
        0.8,
        families={"crop": Share(3, 4)},
        family_recalls={"crop": 0.6},
        datasets={"web": (0.9, 0.8, 0.7)},
    )


def test_the_page_tells_what_the_card_holds(tmp_path: Path) -> None:
    valued = replace(card("v7"), values=12, xor=False, metrics={"test_bcubed_f1": 0.91234})
    write_page(valued, judged(), [tmp_path / "scores.png"], tmp_path)
    page = (tmp_path / CARD_PAGE).read_text(encoding="utf-8")
    assert page.startswith("# v7\n")
    assert "by the 12 values of codes of 64 bits and 12 values, from the embedding net" in page
    both = replace(valued, xor=True, gate=30, judged={"split": "val"})
    write_page(both, judged(), [], tmp_path)
    page_of_both = (tmp_path / CARD_PAGE).read_text(encoding="utf-8")
    assert "by 64 bits and 12 values, from" in page_of_both
    assert "| kind of edit (val) |" in page_of_both
    assert "| `accept`: a candidate matches | 0.7500 |" in page
    assert "| `gate`: the largest hamming distance of a candidate that is scored | none |" in page
    assert "of a candidate that is scored | 30 of 64 bits |" in page_of_both
    assert "| test_bcubed_f1 | 0.9123 |" in page
    assert "| kind of edit (test) |" in page
    assert "| crop | 4 | 0.750 | 0.600 |" in page
    assert "| web | 0.800 | 0.700 | 0.900 |" in page
    assert "![scores](scores.png)" in page


def test_bits_are_named_where_they_are_looked_at(tmp_path: Path) -> None:
    write_page(card("v8"), None, [], tmp_path)
    page = (tmp_path / CARD_PAGE).read_text(encoding="utf-8")
    assert "by 64 bits, from the embedding" in page
    assert "kind of edit" not in page
