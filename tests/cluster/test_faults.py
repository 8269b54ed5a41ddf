"""Every part is killed once while images flow: nothing is lost or done twice, and the clusters are the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.faults import VICTIMS, check_calm, kill_while_flowing
from tests.support.house import house_settings, running, sample_rows

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SEED = 20261121
"""Of the order and the moments of the kills."""


def test_kills_lose_nothing_and_change_nothing(tmp_path: Path) -> None:
    rows = sample_rows(600)
    random.Random(SEED).shuffle(rows)
    with running(house_settings(tmp_path / "house")) as house:
        kills = kill_while_flowing(house, rows, rate=15.0, rounds=1, seed=SEED)
        assert sorted(kill.part for kill in kills) == sorted(VICTIMS)
        assert check_calm(house, tmp_path / "calm") > 100
        assert house.dead_letters() == []
