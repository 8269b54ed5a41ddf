"""What all stores share: how one is held."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.errors import UnavailableError
from storage.memory import MemoryStore
from storage.testing.decisions import A, founds, put


class _Ending(MemoryStore):
    """A store whose load ends after somebody has seen that it is held."""

    why: Callable[[], str] | None = None

    @property
    def _held(self) -> Callable[[], str] | None:
        why, self.why = self.why, None
        return why

    @_held.setter
    def _held(self, why: Callable[[], str] | None) -> None:
        self.why = why


def test_a_load_that_ends_meanwhile_makes_one_wait() -> None:
    store = _Ending()
    store._held = lambda: "35 %"
    with pytest.raises(UnavailableError, match="35 %"):
        put(store, founds(0, A))
    put(store, founds(0, A))
