"""An index that release 0.1 made: it opens if its terms and codes are those of the settings, and is named anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import MismatchError
from search.index.engine import SegmentedIndex
from search.index.folder import Identity
from search.index.generations import IndexGenerations
from search.serving.request_parser import RequestParser
from search.serving.server import index_settings, open_index
from tests.search.serving.search_setup import LOG, entry, server_settings


def test_an_index_of_release_0_1_opens_if_its_terms_are_the_same(tmp_path: Path) -> None:
    settings = server_settings(tmp_path / "index")
    extractor, coder = settings.terms.build(), settings.code.build()
    now = index_settings(settings, extractor, coder)
    described = {**now.identity.settings, "terms.min_overlap": 1, "terms.candidates": 100}
    then = Identity(extractor.former_fingerprint(1, 100), coder.fingerprint, described)
    generations = IndexGenerations(settings.folder)
    index = SegmentedIndex(generations.folder(generations.serving(then)), replace(now, identity=then))
    records = RequestParser(extractor, coder).records([entry(0, "a", 1), entry(1, "b", 1)])
    index.insert_and_search(LOG, records)
    index.close()
    for _ in range(2):
        opened = open_index(settings, extractor, coder)
        answers = opened.index.insert_and_search(LOG, records)
        assert [one.result.image_ids for one in answers] == [(), ("a",)]
        assert not opened.watch(lambda: None).look()
        opened.index.close()
    other = replace(settings, terms=replace(settings.terms, seed=2))
    with pytest.raises(MismatchError, match=r"terms\.seed is 1 there and 2 here"):
        open_index(other, other.terms.build(), coder)
