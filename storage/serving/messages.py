"""Conversion between the records of the domain and the messages of `storage.proto`."""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import RefusedError
from core.manifest_rows import MemberRow, RowResult
from core.pseudonyms import Pseudonyms
from core.types import (
    NO_HEAD,
    Cause,
    Cluster,
    DeadLetterRecord,
    Decision,
    ImageId,
    LastVerdict,
    LogPosition,
    Lookup,
    Membership,
    Move,
    Outcome,
    RequestPosition,
    RequestSource,
    Tombstone,
    Versions,
    Written,
)
from storage.embeddings import EmbeddingsPage, PlacedEmbedding
from storage.records import FirstLoad, Heads, StoreState
from storage.serving import storage_pb2 as pb
from storage.serving.override_messages import rules_message, rules_of
from storage.verify import VerifyProgress

__all__ = [
    "decision_message",
    "describe_message",
    "heads_message",
    "heads_of",
    "last_applied",
    "lookup_message",
    "lookup_of",
    "page_message",
    "page_of",
    "progress_message",
    "progress_of",
    "read_decision",
    "written_message",
    "written_of",
]


def decision_message(decision: Decision) -> pb.Decision:
    """A decision as a message."""
    dead_letter = decision.dead_letter
    return pb.Decision(
        offset=decision.offset,
        checksum=decision.checksum,
        outcome=decision.outcome,
        image_id=decision.image_id,
        version=decision.version,
        place=decision.place,
        moves=list(map(_move_message, decision.moves)),
        score_code=decision.score_code,
        search_vector=decision.search_vector,
        score_vector=decision.score_vector,
        model_version=decision.versions.model,
        index_version=decision.versions.index,
        created_at_ms=decision.created_at_ms,
        arrived_at_ms=decision.arrived_at_ms,
        decided_at_ms=decision.decided_at_ms,
        truncated=decision.truncated,
        dead_letter=None if dead_letter is None else pb.DeadLetterRecord(**dead_letter._asdict()),
        tombstone=None if decision.tombstone is None else _tombstone_message(decision.tombstone),
        request=None if decision.request is None else _request_message(*decision.request),
        forget=decision.forget,
        member=None if decision.member is None else pb.MemberRow(**decision.member._asdict()),
    )


def read_decision(message: pb.Decision) -> Decision:
    """A decision from its message.

    Raises:
        RefusedError: There is no such outcome, cause or result; the error carries the offset.
    """
    try:
        outcome = Outcome(message.outcome)
        moves = tuple(_read_move(move) for move in message.moves)
        member = _read_member(message.member) if message.HasField("member") else None
    except ValueError as error:
        raise RefusedError(f"the decision at offset {message.offset}: {error}", message.offset) from None
    return Decision(
        offset=message.offset,
        checksum=message.checksum,
        outcome=outcome,
        image_id=ImageId(message.image_id),
        version=message.version,
        place=message.place,
        moves=moves,
        score_code=message.score_code,
        search_vector=message.search_vector,
        score_vector=message.score_vector,
        versions=Versions(message.model_version, message.index_version),
        created_at_ms=message.created_at_ms,
        arrived_at_ms=message.arrived_at_ms,
        decided_at_ms=message.decided_at_ms,
        truncated=message.truncated,
        dead_letter=_read_dead_letter(message.dead_letter) if message.HasField("dead_letter") else None,
        tombstone=_tombstone_of(message.tombstone) if message.HasField("tombstone") else None,
        request=_request_of(message.request) if message.HasField("request") else None,
        forget=message.forget,
        member=member,
    )


def written_message(written: Written) -> pb.WrittenAtResponse:
    """What a record wrote as a message."""
    return pb.WrittenAtResponse(
        first_number=written.first_number,
        moves=list(map(_move_message, written.moves)),
        version=written.version,
        place=written.place,
        decided_at_ms=written.decided_at_ms,
        before=lookup_message(written.before),
    )


def written_of(message: pb.WrittenAtResponse) -> Written:
    """What a record wrote from its message."""
    return Written(
        lookup_of(message.before),
        message.first_number,
        tuple(map(_read_move, message.moves)),
        message.version,
        message.place,
        message.decided_at_ms,
    )


def _tombstone_message(tombstone: Tombstone) -> pb.Tombstone:
    return pb.Tombstone(
        image_id=tombstone.image_id,
        version=tombstone.version,
        position=tombstone.position,
        deleted_at_ms=tombstone.deleted_at_ms,
        author=tombstone.author,
        reason=tombstone.reason,
    )


def _tombstone_of(message: pb.Tombstone) -> Tombstone:
    return Tombstone(
        ImageId(message.image_id),
        message.version,
        message.position,
        message.deleted_at_ms,
        message.author,
        message.reason,
    )


def _request_message(source: RequestSource, offset: int) -> pb.AppliedRequest:
    return pb.AppliedRequest(topic_id=source.topic_id, partition=source.partition, offset=offset)


def _request_of(message: pb.AppliedRequest) -> RequestPosition:
    return RequestPosition(RequestSource(message.topic_id, message.partition), message.offset)


def _read_dead_letter(message: pb.DeadLetterRecord) -> DeadLetterRecord:
    return DeadLetterRecord(message.key, message.value, message.traceparent)


def _read_member(message: pb.MemberRow) -> MemberRow:
    return MemberRow(message.manifest_id, message.row, RowResult(message.result))


def _move_message(move: Move) -> pb.Move:
    return pb.Move(
        image_id=move.image_id,
        old_head=move.old_head,
        new_head=move.new_head,
        cause=move.cause,
        score=move.score,
        matched=move.matched,
    )


def _read_move(message: pb.Move) -> Move:
    return Move(
        image_id=ImageId(message.image_id),
        old_head=ImageId(message.old_head) if message.HasField("old_head") else None,
        new_head=ImageId(message.new_head),
        cause=Cause(message.cause),
        score=message.score if message.HasField("score") else None,
        matched=ImageId(message.matched) if message.HasField("matched") else None,
    )


def lookup_message(lookup: Lookup) -> pb.LookUpResponse:
    """The answer to a look-up as a message."""
    position = lookup.position
    return pb.LookUpResponse(
        log_id=position.log_id,
        offset=position.offset,
        checksum=position.checksum,
        revision=lookup.revision,
        memberships=[
            pb.Membership(image_id=one.image_id, version=one.version, place=one.place, head=one.head)
            for one in lookup.memberships.values()
        ],
        clusters=[
            pb.Cluster(head=one.head, count=one.count, founding_code=one.founding_code, head_deleted=one.head_deleted)
            for one in lookup.clusters.values()
        ],
        base=position.base,
        tombstones=[_tombstone_message(one) for one in lookup.tombstones.values()],
        verdicts=[
            pb.LastVerdict(
                image_id=image_id,
                cause=one.cause,
                score=one.score,
                matched=one.matched,
                model_version=one.versions.model,
                index_version=one.versions.index,
                unscored=one.unscored,
            )
            for image_id, one in lookup.verdicts.items()
        ],
        requests=[_request_message(source, offset) for source, offset in lookup.requests.items()],
        rules=[rules_message(image_id, one) for image_id, one in lookup.rules.items()],
        rule_heads=dict[str, str](lookup.rule_heads.items()),
    )


def lookup_of(message: pb.LookUpResponse) -> Lookup:
    """The answer to a look-up from its message."""
    memberships, clusters = {}, {}
    for one in message.memberships:
        image_id = ImageId(one.image_id)
        memberships[image_id] = Membership(image_id, one.version, one.place, ImageId(one.head))
    for each in message.clusters:
        head = ImageId(each.head)
        clusters[head] = Cluster(head, each.count, each.founding_code, each.head_deleted)
    tombstones = {one.image_id: one for one in map(_tombstone_of, message.tombstones)}
    verdicts = {ImageId(one.image_id): _last_verdict(one) for one in message.verdicts}
    requests = dict(map(_request_of, message.requests))
    position = LogPosition(message.log_id, message.offset, message.checksum, message.base)
    rules = dict(map(rules_of, message.rules))
    rule_heads = {ImageId(image_id): ImageId(head) for image_id, head in message.rule_heads.items()}
    return Lookup(position, message.revision, memberships, clusters, tombstones, verdicts, requests, rules, rule_heads)


def heads_message(ids: Sequence[ImageId], found: Heads) -> pb.HeadsResponse:
    """The heads of images as a message, in the order in which they were asked for."""
    position = found.position
    return pb.HeadsResponse(
        log_id=position.log_id,
        offset=position.offset,
        checksum=position.checksum,
        base=position.base,
        revision=found.revision,
        heads=[found.heads.get(image_id, NO_HEAD) for image_id in ids],
        tombstones=[_tombstone_message(one) for one in found.tombstones.values()],
    )


def heads_of(ids: Sequence[ImageId], message: pb.HeadsResponse) -> Heads:
    """The heads of images from their message, which is the answer to these ids."""
    heads = {image_id: ImageId(head) for image_id, head in zip(ids, message.heads, strict=True) if head}
    tombstones = {one.image_id: one for one in map(_tombstone_of, message.tombstones)}
    position = LogPosition(message.log_id, message.offset, message.checksum, message.base)
    return Heads(position, message.revision, heads, tombstones)


def _last_verdict(message: pb.LastVerdict) -> LastVerdict:
    return LastVerdict(
        Cause(message.cause),
        message.score if message.HasField("score") else None,
        ImageId(message.matched) if message.HasField("matched") else None,
        Versions(message.model_version, message.index_version),
        message.unscored,
    )


def describe_message(
    state: StoreState, published: int, live_delay_ms: int = 0, load: FirstLoad | None = None
) -> pb.DescribeResponse:
    """Position and counts of the store as a message, how late the images of the stream are, and what it began with."""
    return pb.DescribeResponse(
        log_id=state.position.log_id,
        offset=state.position.offset,
        checksum=state.position.checksum,
        revision=state.revision,
        images=state.images,
        clusters=state.clusters,
        history_number=state.history_number,
        published=published,
        base=state.position.base,
        kinds=sorted(state.kinds),
        required=sorted(state.required),
        requests=[_request_message(source, offset) for source, offset in state.requests.items()],
        live_delay_ms=min(live_delay_ms, 2**32 - 1),
        load="" if load is None else load.manifest_id,
    )


def last_applied(described: pb.DescribeResponse, topic_id: str, partition: int) -> int:
    """The offset of the last request of a partition of `replay` that storage has applied; -1: none."""
    found = (each.offset for each in described.requests if (each.topic_id, each.partition) == (topic_id, partition))
    return next(found, -1)


def progress_message(progress: VerifyProgress) -> pb.VerifyProgress:
    """A report of a check as a message."""
    return pb.VerifyProgress(
        done=progress.done,
        checked=progress.checked,
        total=progress.total,
        images=progress.images,
        clusters=progress.clusters,
        problems=progress.problems,
        problem_count=progress.problem_count,
    )


def progress_of(message: pb.VerifyProgress) -> VerifyProgress:
    """A report of a check from its message."""
    return VerifyProgress(
        message.done,
        message.checked,
        message.total,
        message.images,
        message.clusters,
        tuple(message.problems),
        message.problem_count,
    )


def page_message(page: EmbeddingsPage) -> pb.EmbeddingsPage:
    """A page of embeddings as a message."""
    position = page.state.position
    return pb.EmbeddingsPage(
        log_id=position.log_id,
        offset=position.offset,
        checksum=position.checksum,
        images=page.state.images,
        rows=[
            pb.PlacedEmbedding(
                place=row.place,
                image_id=row.image_id,
                version=row.version,
                search_vector=row.search_vector,
                score_vector=row.score_vector,
                unscored=row.unscored,
            )
            for row in page.rows
        ],
        base=position.base,
        tombstones=[_tombstone_message(tombstone) for tombstone in page.tombstones],
        forget_key=b"" if page.pseudonyms is None else page.pseudonyms.key,
        tombstone_count=page.state.tombstones,
    )


def page_of(message: pb.EmbeddingsPage) -> EmbeddingsPage:
    """A page of embeddings from its message, which carries position and counts of the store's state."""
    position = LogPosition(message.log_id, message.offset, message.checksum, message.base)
    rows = tuple(
        PlacedEmbedding(
            row.place, ImageId(row.image_id), row.version, row.search_vector, row.score_vector, row.unscored
        )
        for row in message.rows
    )
    tombstones = tuple(map(_tombstone_of, message.tombstones))
    names = Pseudonyms(message.forget_key) if message.forget_key else None
    return EmbeddingsPage(
        StoreState(position, images=message.images, tombstones=message.tombstone_count), rows, tombstones, names
    )
