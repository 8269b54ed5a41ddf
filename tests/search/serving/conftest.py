"""The search server for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.access import Access, Keys
from search.serving.admission import AdmissionPolicy
from search.tuning.drift import ChosenDensity
from tests.search.serving.running_server import RunningSearch, run_search_server
from tests.search.serving.search_setup import server_settings
from tests.support.ports import free_ports


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningSearch]:
    port, metrics_port = free_ports(2)
    base = server_settings(tmp_path / "index", port, metrics_port)
    settings = replace(
        base,
        listen=replace(base.listen, access=Access(Keys(write="secret-word"))),
        admission=AdmissionPolicy(shadow_per_s=10.0),
        chosen=ChosenDensity(images=1, unrelated_postings=1.0, copy_postings=1.0),
    )
    with run_search_server(settings) as server:
        yield server
