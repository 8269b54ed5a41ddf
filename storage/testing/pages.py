"""The part of the store's contract about pages of members: both orders, while members come and go."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from itertools import chain

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import BadInputError
from core.types import ImageId
from storage.interfaces import ClusterStore
from storage.testing.decisions import A, B, C, D, founds, joins, put
from storage.tokens import OtherIdError

PAGE = None
"""A step of a reader: the next page."""


class PagesContract:
    """What pages of members hold."""

    @abstractmethod
    def make(self) -> ClusterStore:
        """A new, empty store."""

    @pytest.mark.parametrize("newest_first", [False, True])
    @pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 100])
    def test_any_page_size_gives_the_same_whole(self, store: ClusterStore, size: int, newest_first: bool) -> None:
        others = [ImageId(f"m{number}") for number in range(8)]
        put(store, founds(0, A), founds(1, B), *[joins(2 + n, each, A) for n, each in enumerate(others)])
        put(store, founds(10, ImageId("A")), founds(11, ImageId("aa")))
        found = list(_pages(store, size, newest_first))
        assert all(1 <= len(page) <= size for page in found)
        assert [*chain(*found)] == ([*reversed(others), A] if newest_first else [A, *others])

    def test_a_page_goes_on_although_members_come_and_go(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A), joins(2, C, A), joins(3, D, A))
        page, back = store.members(A, 2), store.members(A, 2, newest_first=True)
        put(store, founds(4, B, old=A, version=2), joins(5, ImageId("e"), A))
        assert store.members(A, 10, page.next_token).items == (C, D, "e")
        assert (back.items, store.members(A, 10, back.next_token, newest_first=True).items) == ((D, C), (A,))

    @given(st.integers(1, 12), st.booleans(), st.lists(st.one_of(st.just(PAGE), st.integers(0, 29)), max_size=40))
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    def test_pages_repeat_nothing_and_skip_nothing_that_was_there(
        self, limit: int, newest_first: bool, steps: list[int | None]
    ) -> None:
        """Between pages, an image joins the cluster or leaves it."""
        store = self.make()
        put(store, founds(0, A), *[joins(1 + n, _member(n), A) for n in range(20)])
        versions, inside, stayed, offset = dict.fromkeys(range(20), 1), set(range(20)), set(range(20)), 20
        page = store.members(A, limit, newest_first=newest_first)
        seen = list(page.items)
        for step in [*steps, *[PAGE] * 40]:
            if step is PAGE:
                if page.next_token is not None:
                    page = store.members(A, limit, page.next_token, newest_first=newest_first)
                    seen += page.items
                continue
            offset, versions[step] = offset + 1, versions.get(step, 0) + 1
            image, version = _member(step), versions[step]
            if step in inside:
                put(store, founds(offset, image, old=A, version=version))
                stayed.discard(step)
            else:
                put(store, joins(offset, image, A, old=image if version > 1 else None, version=version))
            inside ^= {step}
        store.close()
        assert page.next_token is None
        # Who leaves and comes back joins anew, and may be listed at both places.
        constant = {A, *map(_member, stayed)}
        assert sorted(each for each in seen if each in constant) == sorted(constant)

    def test_bad_pages_are_refused(self, store: ClusterStore) -> None:
        put(store, founds(0, A), joins(1, B, A), founds(2, C))
        token = store.members(A, 1).next_token
        assert token is not None
        for limit in (0, -1):
            with pytest.raises(BadInputError, match="at least 1"):
                store.members(A, limit)
        for bad in ("", "x", token[:-2], token + "AAAA", "ä", "=" * 9):
            with pytest.raises(BadInputError, match="not a page token"):
                store.members(A, 1, bad)
        with pytest.raises(OtherIdError, match="not a page token"):
            store.members(C, 1, token)
        with pytest.raises(BadInputError, match="in this order"):
            store.members(A, 1, token, newest_first=True)


def _member(number: int) -> ImageId:
    return ImageId(f"m{number}")


def _pages(store: ClusterStore, size: int, newest_first: bool) -> Iterator[list[ImageId]]:
    token = None
    while True:
        page = store.members(A, size, token, newest_first=newest_first)
        yield list(page.items)
        token = page.next_token
        if token is None:
            return
