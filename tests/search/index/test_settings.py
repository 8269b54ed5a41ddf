"""Settings of the index and limits of a query: a value out of range is refused with its range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.errors import BadInputError, SettingsError
from search.index.engine import SegmentedIndex
from search.index.interface import TermQuery
from search.ranking import Ranking
from tests.search.index.index_oracle import index_settings

SETTINGS = index_settings(groups=4, bits_per_group=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_postings", 3),
        ("seal_entries", 0),
        ("merge_fan", 1),
        ("background_bytes_per_s", -1.0),
        ("background_bytes_per_s", float("nan")),
    ],
)
def test_a_setting_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=name):
        replace(SETTINGS, **{name: value})


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SegmentedIndex]:
    index = SegmentedIndex(tmp_path_factory.mktemp("index") / "index", SETTINGS, background=False)
    yield index
    index.close()


@pytest.mark.parametrize(
    ("terms", "limits", "said"),
    [
        ([0, 0, 0], {}, "the index takes"),
        ([0, 0, 0, 4], {}, "more than 2 bits"),
        ([0, 0, 0, 0], {"k": 0}, "k must be at least 1"),
        ([0, 0, 0, 0], {"k": 10**9}, "both at most"),
        ([0, 0, 0, 0], {"min_overlap": 5}, "1 to the 4 groups"),
        ([0, 0, 0, 0], {"as_of": -1}, "as_of is a place"),
    ],
)
def test_a_query_out_of_range_is_refused(
    index: SegmentedIndex, terms: list[int], limits: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInputError, match=said):
        index.search([TermQuery(np.array(terms, np.uint32), **{"k": 1, **limits})])


@pytest.mark.parametrize(
    ("ranking", "said"),
    [
        (Ranking(min_overlap=5), "1 to the 4 groups, not 5"),
        (Ranking(distance_bits=24), "distance_bits is 24; a code has 16 bits"),
    ],
)
def test_a_ranking_that_terms_or_codes_do_not_allow_is_refused(ranking: Ranking, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        replace(SETTINGS, ranking=ranking)
