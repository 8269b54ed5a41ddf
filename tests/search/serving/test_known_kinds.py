"""A job of an older release, which does not know deletes and replays, must not make the index pass them."""

from __future__ import annotations

import pytest

from core.dead_letters import Reason
from core.errors import MismatchError
from core.notifications import RECORD_KINDS, decode_joined
from search.serving import search_pb2 as pb
from search.serving.known_kinds import check_known
from search.serving.log_entries import log_entry
from tests.search.serving.running_server import RunningSearch
from tests.search.serving.search_setup import LOG, entry, skip

UNKNOWN = log_entry(1, b"\x3a\x00", decode_joined(b"\x3a\x00"))
"""The entry of a record of a kind that nobody knows yet."""


def request(*entries: pb.LogEntry, kinds: tuple[str, ...] = RECORD_KINDS) -> pb.InsertAndSearchRequest:
    return pb.InsertAndSearchRequest(log_id=LOG, entries=entries, kinds=kinds)


def test_whoever_knows_every_kind_may_skip_what_it_does_not_know() -> None:
    assert UNKNOWN.skip.reason == Reason.UNKNOWN_RECORD
    check_known(request(entry(0, "a", 1), UNKNOWN))
    check_known(request(UNKNOWN, kinds=(*RECORD_KINDS, "newer")))


def test_an_older_job_may_do_all_but_skip_an_unknown_record() -> None:
    check_known(request(entry(0, "a", 1), skip(1), skip(2, "b", 3), kinds=()))
    with pytest.raises(MismatchError, match=r"position 1, .* \(delete, image, member, replay\)"):
        check_known(request(entry(0, "a", 1), UNKNOWN, kinds=()))
    with pytest.raises(MismatchError, match=r"\(newer\)"):
        check_known(request(UNKNOWN), kinds=(*RECORD_KINDS, "newer"))


def test_nothing_of_the_call_of_an_older_job_is_applied(server: RunningSearch) -> None:
    older = request(entry(0, "a", 1), UNKNOWN, kinds=())
    with pytest.raises(MismatchError, match="neardup job start"):
        server.client._call(server.client._stub.InsertAndSearch, older)
    assert server.client.describe().offset == -1
    answers = server.client.insert_and_search(LOG, [entry(0, "a", 1), UNKNOWN]).answers
    assert [answer.place for answer in answers] == [0, -1]
