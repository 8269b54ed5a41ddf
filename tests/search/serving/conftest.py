"""The search server for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from search.serving.admission import AdmissionPolicy
from search.tuning.drift import ChosenDensity
from tests.search.serving.open_house import House, open_house
from tests.search.serving.search_house import server_settings
from tests.support.ports import free_ports


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    port, metrics_port = free_ports(2)
    settings = replace(
        server_settings(tmp_path / "index", port, metrics_port),
        admission=AdmissionPolicy(shadow_per_s=10.0),
        token="secret-word",
        chosen=ChosenDensity(images=1, unrelated_postings=1.0, copy_postings=1.0),
    )
    with open_house(settings) as house:
        yield house
