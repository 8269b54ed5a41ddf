"""The records of the topic `replay`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.dead_letters import BadRecord, Reason
from core.known_verdicts import KnownVerdict
from core.replay_requests import MAX_REQUEST_BYTES, Lane, ReplayRequest, encode_request, parse_request
from core.types import Cause, ImageId, Versions

NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
REQUESTS = st.builds(
    ReplayRequest,
    request=NAMES.filter(bool),
    image_id=NAMES.filter(bool).map(ImageId),
    force=st.booleans(),
    dry_run=st.booleans(),
    model_version=NAMES,
    watch=st.booleans(),
    bulk=st.booleans(),
    requested_at_ms=st.integers(0, 2**41),
    author=NAMES,
    before=st.none()
    | st.builds(
        KnownVerdict,
        NAMES.map(ImageId),
        st.sampled_from(Cause),
        st.none() | st.floats(0, 1),
        st.none() | NAMES.map(ImageId),
        st.builds(Versions, NAMES, NAMES),
    ),
)


@settings(deadline=None)
@given(REQUESTS)
def test_a_request_comes_back_as_it_was(request: ReplayRequest) -> None:
    encoded = encode_request(request)
    assert parse_request(encoded) == request
    assert len(encoded) <= MAX_REQUEST_BYTES
    assert request.lane is (Lane.BULK if request.bulk else Lane.NAMED)


JSON = st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)


@settings(deadline=None)
@given(st.binary(max_size=300) | JSON)
def test_no_bytes_make_it_raise(payload: bytes) -> None:
    assert isinstance(parse_request(payload), BadRecord)


@settings(deadline=None)
@given(
    request=REQUESTS,
    name=st.sampled_from(["force", "request", "image_id", "requested_at_ms", "author", "before"]),
    value=st.sampled_from([None, 7.5, [], "", -1, "\ud800", {}, {"head": 3}]),
)
def test_a_field_of_another_kind_is_refused_or_harmless(request: ReplayRequest, name: str, value: object) -> None:
    fields = json.loads(encode_request(request)) | {name: value}
    read = parse_request(json.dumps(fields).encode())
    assert isinstance(read, BadRecord) or read.image_id


def test_the_longest_request_is_read() -> None:
    longest = "\U0001f600" * 256
    name = ImageId("\U0001f600" * 64)
    before = KnownVerdict(name, Cause.MATCHED, 0.123456789012345678, name, Versions(longest, longest))
    request = ReplayRequest(longest, name, model_version=longest, author=longest, before=before)
    assert parse_request(encode_request(request)) == request


def test_fields_may_be_absent_or_new() -> None:
    read = parse_request(b'{"image_id": "a", "request": "r", "later": 1}')
    assert read == ReplayRequest("r", ImageId("a"))


@pytest.mark.parametrize(
    ("payload", "reason", "said"),
    [
        (b"", Reason.EMPTY_PAYLOAD, "no bytes"),
        (b"x" * (MAX_REQUEST_BYTES + 1), Reason.OVERSIZED_PAYLOAD, str(MAX_REQUEST_BYTES)),
        (b"[]", Reason.UNPARSABLE, "request is missing"),
        (b'{"request": "r"}', Reason.UNPARSABLE, "image id is empty"),
        (b'{"request": "r", "image_id": "' + b"a" * 257 + b'"}', Reason.UNPARSABLE, "257 bytes"),
        (b'{"request": "r", "image_id": "a", "force": 1}', Reason.UNPARSABLE, "force is 1"),
    ],
)
def test_a_refused_record_says_why(payload: bytes, reason: Reason, said: str) -> None:
    read = parse_request(payload)
    assert isinstance(read, BadRecord)
    assert read.reason is reason
    assert said in read.detail
