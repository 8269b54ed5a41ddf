"""Requests of `make bench-large-calls` are whole and of the largest size; its limits are those of the containers."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.large_calls import LIMITS_MIB, MESSAGE, SERVERS
from scoring.serving.scorer_pb2 import ScoreRequest
from search.serving.search_pb2 import InsertAndSearchRequest
from storage.serving.storage_pb2 import ApplyRequest

ROOT = Path(__file__).parents[2]
REQUESTS = {"InsertAndSearch": InsertAndSearchRequest, "Score": ScoreRequest, "Apply": ApplyRequest}


@pytest.mark.parametrize("name", ["search", "storage"])
def test_requests_are_whole_and_as_large_as_they_may_be(name: str) -> None:
    method, request = SERVERS[name].call()
    assert MESSAGE - 2048 < len(request) <= MESSAGE
    assert len(REQUESTS[method].FromString(request).SerializeToString()) == len(request)


def test_limits_are_those_of_the_containers() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    units = {"G": 1024, "M": 1}
    limits = {name: services[name]["deploy"]["resources"]["limits"]["memory"] for name in LIMITS_MIB}
    assert {name: int(limit[:-1]) * units[limit[-1]] for name, limit in limits.items()} == LIMITS_MIB
