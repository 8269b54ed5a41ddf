"""Ids in a file come back as they were added."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from core.types import ImageId
from storage.testing.model import NAMES
from stream.replay.spool import IdSpool


@settings(deadline=None)
@given(
    parts=st.lists(st.lists(st.sampled_from([*NAMES, "a\nb", '"', "\\", "\u2028", "\r"])), max_size=5),
    size=st.integers(1, 7),
)
def test_ids_come_back_in_their_order_in_pages(parts: list[list[str]], size: int) -> None:
    ids = [ImageId(each) for part in parts for each in part]
    with IdSpool() as spool:
        for part in parts:
            spool.add(map(ImageId, part))
        assert len(spool) == len(ids)
        for _ in range(2):
            pages = list(spool.pages(size))
            assert [each for page in pages for each in page] == ids
            assert all(len(page) == size for page in pages[:-1])
