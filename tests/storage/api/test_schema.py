"""Requests made up from the API's own description: no answer is a crash, every answer is as described."""

from __future__ import annotations

from collections.abc import Sequence

import schemathesis
from hypothesis import HealthCheck, settings
from prometheus_client import CollectorRegistry
from schemathesis.specs.openapi.checks import positive_data_acceptance

from core.access import Access, Right
from core.delete_requests import DeleteRequest
from storage.api.app import create_app
from storage.memory import MemoryStore
from storage.testing.decisions import A, B, founds, joins, put
from tests.support.explained import KnownAnswers


def _filled() -> MemoryStore:
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A))
    return store


class _Order:
    """Takes every delete."""

    def delete(self, requests: Sequence[DeleteRequest]) -> Sequence[int]:
        return range(len(requests))


KEYS = Access(anyone=frozenset(Right))
APP = create_app(_filled(), 100, CollectorRegistry(), KEYS, _Order(), KnownAnswers())
schema = schemathesis.openapi.from_asgi("/openapi.json", APP)


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case: schemathesis.Case) -> None:
    # That a page token comes from the page before is nothing that a schema can say: an invented one is refused.
    case.call_and_validate(excluded_checks=[positive_data_acceptance])
