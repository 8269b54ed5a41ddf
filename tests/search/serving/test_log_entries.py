"""What the search server gets for each kind of record of the order."""

from __future__ import annotations

from crc32c import crc32c

from core.dead_letters import BadRecord, Reason
from core.notifications import decode_joined
from core.protos.joined_pb2 import JoinedDelete, JoinedMember, JoinedRecord, JoinedReplay
from search.serving import search_pb2 as pb
from search.serving.log_entries import log_entry, skip_entry
from tests.search.serving.search_setup import image

REFUSED = BadRecord(Reason.REFUSED, "no")


def entries(record: JoinedRecord) -> tuple[pb.LogEntry, pb.LogEntry]:
    """For a record at position 7: its entry, and the one that skips it."""
    payload = record.SerializeToString()
    decoded = decode_joined(payload)
    made = log_entry(7, payload, decoded), skip_entry(7, payload, decoded, REFUSED)
    assert [(one.offset, one.checksum) for one in made] == [(7, crc32c(payload))] * 2
    return made


def test_an_image_is_inserted_and_a_skip_places_its_version() -> None:
    entry, skipped = entries(JoinedRecord(image=image("a", 1, version=3)))
    assert entry.insert == image("a", 1, version=3)
    assert skipped.skip == pb.Skip(image_id="a", image_version=3, reason=Reason.REFUSED)
    assert not entry.unsearched


def test_a_row_of_a_manifest_is_inserted_and_not_searched_for() -> None:
    member = JoinedMember(image=image("a", 1, version=3), head="h", manifest_id="0f" * 16)
    entry, skipped = entries(JoinedRecord(member=member))
    assert (entry.insert, entry.unsearched) == (member.image, True)
    assert skipped.skip == pb.Skip(image_id="a", image_version=3, reason=Reason.REFUSED)


def test_a_delete_has_its_version_or_none_and_a_skip_places_nothing() -> None:
    for version in (None, 0, 3):
        entry, skipped = entries(JoinedRecord(delete=JoinedDelete(image_id="a", image_version=version)))
        assert entry.remove == pb.Remove(image_id="a", image_version=version)
        assert entry.remove.HasField("image_version") == (version is not None)
        assert skipped.skip == pb.Skip(reason=Reason.REFUSED)


def test_a_replay_brings_its_image_unless_it_is_a_dry_run_and_a_skip_places_nothing() -> None:
    carried = image("a", 1, version=3)
    for dry_run, force, expected in ((False, False, carried), (False, True, carried), (True, True, None)):
        replay = JoinedReplay(image_id="a", image=carried, dry_run=dry_run, force=force)
        entry, skipped = entries(JoinedRecord(replay=replay))
        assert entry.replay == pb.Replay(image_id="a", image=expected)
        assert skipped.skip == pb.Skip(reason=Reason.REFUSED)
    bare, _ = entries(JoinedRecord(replay=JoinedReplay(image_id="a")))
    assert not bare.replay.HasField("image")


def test_an_unreadable_record_is_skipped_without_an_image() -> None:
    payload = b"garbage"
    decoded = decode_joined(payload)
    assert isinstance(decoded, BadRecord)
    assert log_entry(7, payload, decoded).skip == pb.Skip(reason=decoded.reason)
