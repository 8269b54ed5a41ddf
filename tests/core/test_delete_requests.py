"""Records of the order that delete images."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.delete_requests import DeleteRequest, delete_record
from core.errors import BadInputError
from core.notifications import decode_joined
from core.protos.joined_pb2 import JoinedDelete
from core.types import ImageId

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)


@settings(deadline=None)
@given(
    st.builds(
        DeleteRequest,
        image_id=TEXTS.filter(bool).map(ImageId),
        request=TEXTS,
        version=st.none() | st.integers(0, 2**53 - 1),
        requested_at_ms=st.integers(0, 2**42),
        author=TEXTS,
        reason=TEXTS,
    )
)
def test_the_record_says_what_the_request_says(request: DeleteRequest) -> None:
    read = decode_joined(delete_record(request))
    assert isinstance(read, JoinedDelete)
    version = read.image_version if read.HasField("image_version") else None
    said = (read.image_id, read.origin.request_id, version, read.requested_at_ms, read.author, read.reason)
    assert said == (
        request.image_id,
        request.request,
        request.version,
        request.requested_at_ms,
        request.author,
        request.reason,
    )
    assert read.origin.topic_id == ""


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"author": "x" * 1025}, "author has 1025 bytes"),
        ({"reason": "\ud800"}, "reason has no UTF-8 form"),
        ({"version": -1}, "not -1"),
        ({"version": 2**53}, str(2**53)),
        ({"requested_at_ms": -5}, "not -5"),
    ],
)
def test_what_no_job_would_read_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        DeleteRequest(ImageId("a"), "r", **fields)


@pytest.mark.parametrize("version", [None, 2**53 - 1])
def test_an_image_is_forgotten_with_all_its_versions(version: int | None) -> None:
    read = decode_joined(delete_record(DeleteRequest(ImageId("a"), "r", version, forget=True)))
    assert isinstance(read, JoinedDelete)
    assert read.forget
    with pytest.raises(BadInputError, match="all its versions"):
        DeleteRequest(ImageId("a"), "r", 3, forget=True)
