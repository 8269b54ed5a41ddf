"""The JSON Schemas of the topics: real records satisfy them, and carry no key that they do not describe."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from core.aliases import NAME, Alias, encode_record
from core.dead_letters import BadRecord, Provenance, Reason, dead_letter
from core.known_verdicts import KnownVerdict
from core.manifest_rows import RowResult
from core.overrides import OverrideKind, RollbackRequest
from core.replay_requests import ReplayRequest, encode_request
from core.traces import Adoption, LossReason, Trace, TracedRow, TraceKind, TraceReason, Why, trace_json
from core.types import Cause, ImageId, Outcome, Trigger, Versions
from storage.memory import MemoryStore
from storage.records import FirstLoad
from storage.serving.assignments import load_message, message_of
from storage.testing.decisions import EPOCH, fill, forgets, put
from storage.testing.forgetting import erase_all
from storage.testing.model import StoreModel, seeded_actions
from storage.testing.overrides import JOB, say
from stream.alias_places import signal_places
from stream.settings import load_settings
from tests.support.traces import sample_trace

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "docs" / "schemas"


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


ASSIGNMENT, DEAD_LETTER, TRACE = schema("assignment"), schema("dead-letter"), schema("trace")


def check(described: dict[str, Any], record: dict[str, Any]) -> None:
    """The record has exactly the keys of the schema, and values of their types."""
    Draft202012Validator(described).validate(record)
    assert list(record) == list(described["properties"])
    for name, inner in described["properties"].items():
        if "properties" in inner and record[name] is not None:
            check(inner, record[name])
        for item in record[name] if "properties" in inner.get("items", {}) else ():
            check(inner["items"], item)


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.name)
def test_each_is_a_schema_that_describes_every_field(path: Path) -> None:
    described = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(described)
    assert described["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert described["required"] == list(described["properties"])
    assert all(field["description"] for field in described["properties"].values())


def test_assignments_of_a_whole_store() -> None:
    store, model = MemoryStore(), StoreModel()
    fill(store, model, seeded_actions(3, 400, ids=60), 50)
    put(store, kinds=JOB)
    head, members = max(model.members.items(), key=lambda each: len(each[1]))
    say(store, OverrideKind.SPLIT, *[each for each in members if each != head][:2], target=head)
    say(store, OverrideKind.ROLLBACK, rollback=RollbackRequest(to_change=store.state().history_number // 2))
    with store.snapshot() as view:
        leader = max(view.clusters(), key=lambda each: each.count * (not each.head_deleted)).head
    version = store.look_up([leader]).memberships[leader].version
    put(store, forgets(store.position().offset + 1, leader, leader, version), kinds=JOB)
    told = store.history(0, 10_000)
    erase_all(store)
    entries = [*told, *store.history(0, 10_000)]
    assert {entry.trigger for entry in entries} == set(Trigger) - {Trigger.MANIFEST}
    assert {entry.cause for entry in entries} == set(Cause) - {Cause.BOOTSTRAPPED}
    for entry in entries:
        check(ASSIGNMENT, json.loads(message_of(entry, EPOCH).value))


def test_a_first_load() -> None:
    load = FirstLoad("4f0c", "s3://bucket/old", "2026-11-01.json", 12, 10, 3, 1_700_000_000_000, 1_700_000_060_000)
    check(ASSIGNMENT, json.loads(load_message(load, EPOCH).value))


@given(
    reason=st.sampled_from(Reason),
    detail=st.text(),
    payload=st.none() | st.binary(max_size=50),
    limit=st.none() | st.integers(0, 20),
)
def test_dead_letters(reason: Reason, detail: str, payload: bytes | None, limit: int | None) -> None:
    source = Provenance("embeddings.search", 1, 7, 1_700_000_000_000)
    check(DEAD_LETTER, json.loads(dead_letter(BadRecord(reason, detail), source, payload, limit)))


def test_replay_requests() -> None:
    request = ReplayRequest("r-1", ImageId("a"), bulk=True, requested_at_ms=5, author="ann")
    before = KnownVerdict(ImageId("h"), Cause.MATCHED, 0.9, ImageId("m"), Versions("1", "i"))
    for each in (request, replace(request, before=before)):
        check(schema("replay-request"), json.loads(encode_request(each)))


@pytest.mark.parametrize("previous", [None, "old"])
def test_aliases(previous: str | None) -> None:
    places = signal_places(load_settings(ROOT / "neardup.toml"))
    check(schema("alias"), json.loads(encode_record(Alias("photos", 5, "ann", "why", previous), places["photos"])))
    assert schema("alias")["properties"]["signal"]["pattern"] == NAME


@pytest.mark.parametrize("kind", TraceKind)
def test_traces(kind: TraceKind) -> None:
    check(TRACE, json.loads(trace_json(sample_trace(kind=kind))))
    bare = Trace(kind=kind, image_id="", version=0, position=0, place=-1, outcome=None, cause=None, reason="flag")
    check(TRACE, json.loads(trace_json(bare)))
    row = TracedRow("0f" * 16, 7, "h", RowResult.JOINED)
    for each in (row, replace(row, result=None)):
        check(TRACE, json.loads(trace_json(replace(bare, row=each))))


def test_all_words_of_traces_are_named() -> None:
    fields = TRACE["properties"]
    candidate = fields["candidates"]["items"]["properties"]
    assert fields["kind"]["examples"] == list(TraceKind)
    assert fields["reason"]["examples"] == list(TraceReason)
    assert fields["choice"]["properties"]["why"]["examples"] == list(Why)
    assert fields["row"]["properties"]["result"]["examples"] == list(RowResult)
    assert candidate["lost"]["examples"] == list(LossReason)
    assert candidate["adoption"]["examples"] == list(Adoption)
    assert set(Outcome) <= set(fields["outcome"]["examples"])
    assert set(Cause) <= set(fields["cause"]["examples"])


def test_all_words_are_named() -> None:
    assert ASSIGNMENT["properties"]["cause"]["examples"] == [cause.value for cause in Cause]
    assert DEAD_LETTER["properties"]["reason"]["examples"] == [reason.value for reason in Reason]


def test_the_check_sees_a_key_that_is_not_described() -> None:
    with pytest.raises(AssertionError):
        check(
            {"type": "object", "properties": {"a": {"type": "integer", "description": "."}}, "required": ["a"]},
            {"a": 1, "b": 2},
        )
