"""What a store can do: `ClusterStore` writes, `StoreView` reads.

A view shows the whole store as of one moment, whatever is written meanwhile. Take it with `ClusterStore.snapshot()`
and leave it soon: it holds resources until the block ends. `storage.testing` has the tests that every store must pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice

from core.errors import BadInputError
from core.overrides import ListedOverride, OverrideOutcome, OverrideRequest
from core.pseudonyms import Pseudonyms
from core.types import (
    Cluster,
    DeadLetterRecord,
    Decision,
    ImageId,
    LastVerdict,
    LogPosition,
    Lookup,
    Membership,
    Tombstone,
)
from storage.bulk.operations import Operation
from storage.records import (
    ClusterRecord,
    DeltaProgress,
    Edge,
    EmbeddingRecord,
    EndedCluster,
    EraseCursor,
    EraseStep,
    Erasure,
    FirstLoad,
    Heads,
    HistoryEntry,
    ImageRecord,
    Mend,
    Page,
    PublishedMark,
    StoreEpoch,
    StoreState,
    Touched,
)
from storage.tokens import decode_token, encode_token

__all__ = ["ClusterStore", "StoreView", "last_verdicts"]

_AFTER_ALL = 2**64 - 1
"""Above every sequence."""


class StoreView(ABC):
    """The whole store as of one moment. Iterators read as they advance."""

    @abstractmethod
    def state(self) -> StoreState:
        """Position, revision and counts."""

    @abstractmethod
    def published(self) -> int:
        """The number of the last history entry that was published to Kafka; 0: none."""

    @abstractmethod
    def published_mark(self) -> PublishedMark | None:
        """Where the message of that entry lies; None: it is not known."""

    @abstractmethod
    def epoch(self) -> StoreEpoch | None:
        """The epoch of its history numbers; None: none began yet, since the store is new or was restored."""

    def first_load(self) -> FirstLoad | None:
        """The manifest that the store began with; None: it began empty."""
        return None

    @abstractmethod
    def delta(self, manifest_id: str) -> DeltaProgress | None:
        """How far the manifest of this id is whose rows go through the order; None: unknown."""

    @abstractmethod
    def deltas(self) -> Sequence[DeltaProgress]:
        """All such manifests, by when they were started."""

    @abstractmethod
    def image(self, image_id: ImageId) -> ImageRecord | None:
        """The last verdict on an image; None: unknown."""

    @abstractmethod
    def cluster(self, head: ImageId) -> ClusterRecord | None:
        """A cluster by its head; None: no image of that id is a head."""

    def is_moving(self, image_id: ImageId) -> bool:
        """Whether an image is where a bulk move brings it, and the history does not say so yet."""
        return False

    @abstractmethod
    def tombstone(self, image_id: ImageId) -> Tombstone | None:
        """What is left of a deleted image; None: it was not deleted, or a higher version came since.

        That of a forgotten image names it by its pseudonym, by which it is found too.
        """

    @abstractmethod
    def pseudonyms(self) -> Pseudonyms | None:
        """The names of forgotten images; None: no image was forgotten yet."""

    @abstractmethod
    def erasures(self) -> Iterator[Erasure]:
        """All images that were forgotten, by pseudonym."""

    @abstractmethod
    def erasure(self, pseudonym: ImageId) -> Erasure | None:
        """How far a forgotten image is erased."""

    @abstractmethod
    def erase_cursor(self) -> EraseCursor | None:
        """How far the images are erased that are erased at present; None: none are."""

    @abstractmethod
    def tombstones(self) -> Iterator[Tombstone]:
        """All tombstones, in the order of their ids' bytes."""

    @abstractmethod
    def embedding(self, place: int) -> EmbeddingRecord | None:
        """The embeddings of the image version with this place, if that is the image's latest."""

    @abstractmethod
    def images(self) -> Iterator[ImageRecord]:
        """All images, in the order of their ids' bytes."""

    def images_from(self, after: ImageId) -> Iterator[ImageRecord]:
        """The images whose ids' bytes come after those of `after`, in order. A large store should find that by key."""
        return (image for image in self.images() if image.image_id.encode() > after.encode())

    @abstractmethod
    def clusters(self) -> Iterator[ClusterRecord]:
        """All clusters, in the order of their heads' bytes."""

    @abstractmethod
    def edges(self) -> Iterator[Edge]:
        """All edges: those of one head together, by sequence."""

    @abstractmethod
    def edges_of(self, head: ImageId, after: int) -> Iterator[Edge]:
        """The edges of one head with a sequence above `after`, in order."""

    @abstractmethod
    def edges_back(self, head: ImageId, before: int) -> Iterator[Edge]:
        """The edges of one head with a sequence below `before`, the last first."""

    @abstractmethod
    def embeddings(self) -> Iterator[EmbeddingRecord]:
        """All embeddings, by place, which is the order in which an index is rebuilt."""

    @abstractmethod
    def history_from(self, after: int) -> Iterator[HistoryEntry]:
        """The history entries with numbers above `after`, in order."""

    @abstractmethod
    def ended_clusters(self, head: ImageId, after: int) -> Iterator[EndedCluster]:
        """The clusters of a head that entries with numbers above `after` have ended, in order."""

    @abstractmethod
    def ended(self) -> Iterator[tuple[ImageId, EndedCluster]]:
        """All clusters that have ended and are kept, with their heads: those of one head together, in order."""

    @abstractmethod
    def moment(self, second: int) -> int | None:
        """The number of the last history entry that was written in a second or before, in seconds since the epoch.

        None: there is none, or it was written before the store kept moments.
        """

    @abstractmethod
    def first_moment(self) -> int | None:
        """The number of the last history entry of the first second that is kept; None: no second is."""

    @abstractmethod
    def seconds_from(self, second: int) -> Iterator[tuple[int, int]]:
        """Each second from this one on in which history was written, with the number of its last entry, in order."""

    @abstractmethod
    def swept_unscored(self, after: int) -> Iterator[tuple[int, int]]:
        """Of the unscored images that swept history entries tell of, offset and place, by offset, above `after`."""

    def history_entry(self, number: int) -> HistoryEntry | None:
        """One history entry; None: there is none of that number."""
        entry = next(self.history_from(number - 1), None)
        return entry if entry is not None and entry.number == number else None

    def history_numbers_of(self, image_id: ImageId, after: int) -> Iterator[int]:
        """The numbers above `after` of one image's history entries, in order.

        This reads the whole history. A store that keeps much of it should know it by image.
        """
        return (entry.number for entry in self.history_from(after) if entry.image_id == image_id)

    def history_of(self, image_id: ImageId, after: int = 0) -> Iterator[HistoryEntry]:
        """The history entries of one image with numbers above `after`, in order."""
        # `verify` reports one that is not there.
        entries = map(self.history_entry, self.history_numbers_of(image_id, after))
        return (entry for entry in entries if entry is not None)

    def changes(self, image_id: ImageId, limit: int, token: str | None = None) -> Page[HistoryEntry]:
        """A page of the history entries of one image, oldest first.

        Raises:
            BadInputError: The limit is below 1, or the token belongs to no page of this image.
        """
        if limit < 1:
            raise BadInputError(f"a page holds at least 1 change, not {limit}")
        after = 0 if token is None else decode_token(image_id, token)
        entries = list(islice(self.history_of(image_id, after), limit + 1))
        last = encode_token(image_id, entries[limit - 1].number) if len(entries) > limit else None
        return Page(tuple(entries[:limit]), last)

    @abstractmethod
    def dead_letters(self, after: int = -1) -> Iterator[tuple[int, DeadLetterRecord]]:
        """The dead letters that were not removed yet, by the offset of the rejected record, above `after`."""

    def history(self, after: int, limit: int) -> Sequence[HistoryEntry]:
        """At most `limit` entries with numbers above `after`, in order."""
        return tuple(islice(self.history_from(after), limit))

    def members(
        self, head: ImageId, limit: int, token: str | None = None, *, newest_first: bool = False
    ) -> Page[ImageId]:
        """A page of a cluster's members in the order in which they joined, the head first, unless it came back.

        Args:
            head: The cluster; an unknown one has no members.
            limit: The largest number of members, from 1.
            token: `next_token` of the page before; None: from the start.
            newest_first: The other way round: those that joined last come first.

        Raises:
            OtherIdError: The token belongs to another cluster.
            BadInputError: The limit is below 1, or the token belongs to no page, or to one of the other order.
        """
        if limit < 1:
            raise BadInputError(f"a page holds at least 1 member, not {limit}")
        start = _AFTER_ALL if newest_first else 0
        seen = start if token is None else decode_token(head, token, newest_first=newest_first)
        listed = self.edges_back(head, seen) if newest_first else self.edges_of(head, seen)
        edges = list(islice(listed, limit + 1))
        more = len(edges) > limit
        last = encode_token(head, edges[limit - 1].sequence, newest_first=newest_first) if more else None
        return Page(tuple(edge.member for edge in edges[:limit]), last)

    def look_up(self, ids: Iterable[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """What the cluster rule needs to know of images: see `core.types.Lookup`.

        Args:
            ids: The images.
            verdicts_of: Those whose last verdicts are wanted too.
        """
        state = self.state()
        memberships: dict[ImageId, Membership] = {}
        clusters: dict[ImageId, Cluster] = {}
        tombstones: dict[ImageId, Tombstone] = {}
        for image_id in dict.fromkeys(ids):
            image = self.image(image_id)
            head = image_id
            if image is not None:
                memberships[image_id] = Membership(image_id, image.version, image.place, image.head)
                head = image.head
            elif (tombstone := self.tombstone(image_id)) is not None:
                tombstones[image_id] = replace(tombstone, image_id=image_id)
            else:
                continue
            cluster = None if head in clusters else self.cluster(head)
            if cluster is not None:  # law 2 says that it is there; `verify` reports it where it is not
                clusters[head] = Cluster(head, cluster.count, cluster.founding_code, cluster.head_deleted)
        return Lookup(
            state.position,
            state.revision,
            memberships,
            clusters,
            tombstones,
            last_verdicts(map(self.image, verdicts_of)),
            state.requests,
        )

    def heads(self, ids: Iterable[ImageId]) -> Heads:
        """The heads of images, and nothing else of them: what most readers want."""
        state = self.state()
        heads: dict[ImageId, ImageId] = {}
        tombstones: dict[ImageId, Tombstone] = {}
        for image_id in ids:
            image = self.image(image_id)
            if image is not None:
                heads[image_id] = image.head
            elif (tombstone := self.tombstone(image_id)) is not None:
                tombstones[image_id] = replace(tombstone, image_id=image_id)
        return Heads(state.position, state.revision, heads, tombstones)


def last_verdicts(images: Iterable[ImageRecord | None]) -> dict[ImageId, LastVerdict]:
    """What a replay compares with, of each image that is known."""
    return {
        image.image_id: LastVerdict(image.cause, image.score, image.matched, image.versions, image.unscored)
        for image in images
        if image is not None
    }


class ClusterStore(ABC):
    """The only writer of heads, members, embeddings and history.

    Thread-safe: any number of readers beside one writer at a time. The storage server calls the class of a store with a
    folder and an identity (`storage.opening`).
    """

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[StoreView]:
        """The store as of now, until the block ends.

        Raises:
            UnavailableError: The store is closed or being reopened.
        """

    @abstractmethod
    def apply(
        self, log_id: str, decisions: Sequence[Decision], offset: int, revision: int, kinds: Collection[str] = ()
    ) -> LogPosition:
        """Writes what the decisions say, all of it or nothing, and syncs. It keeps the kinds.

        A forget that moves more images than one write can carry is applied by itself. So if there is one, those before
        it may be written and the others not.

        Args:
            log_id: The log (Kafka's topic id) that the decisions come from. The first call fixes it, until `renew`.
            decisions: Decisions with consecutive offsets from `offset` + 1. Without any, only the kinds are kept.
            offset: The store's offset that the decisions rest on.
            revision: The revision that they rest on.
            kinds: The kinds of records of the order that the job knows.

        Returns:
            The position after the last decision.

        Raises:
            MismatchError: A kind of record is required that the job does not know; nothing is written.
            StaleError: The store has another offset or revision; the error carries them. So it is too where an override
                was applied first within the decisions: those before it are written then.
            LogGapError: The offsets are not consecutive, or the log is another one.
            RefusedError: A decision is malformed (an id too long, a time out of range); the error carries its offset.
            ContradictionError: A decision does not fit what the store holds.
            WriteError: The disk refuses the write.
        """

    @abstractmethod
    def renew(self, log_id: str, base: int) -> LogPosition:
        """Goes on with another log, whose offset 0 is the position `base`, and syncs. A repeated call does nothing.

        Args:
            log_id: The new log (Kafka's topic id).
            base: One after the last position applied.

        Returns:
            The position, which is that of the last record applied, in the new log.

        Raises:
            MismatchError: The base is another one; the message has both values.
            RefusedError: The log id is malformed.
            WriteError: The disk refuses the write.
        """

    @abstractmethod
    def require_kinds(self, kinds: Collection[str]) -> None:
        """From now on refuses jobs that do not know these kinds of records, and syncs. A repeated call does nothing.

        Raises:
            MismatchError: The job that wrote last does not know them; nothing is written.
            WriteError: The disk refuses the write.
        """

    @abstractmethod
    def put_delta(self, progress: DeltaProgress) -> None:
        """Keeps what the writer of a manifest's rows says of it, and syncs. What became of rows is the store's own.

        So `applied`, `counts` and `examples` stay as they are, and a manifest whose last row was applied is live.

        Raises:
            BadInputError: A text is too long, or the id is none.
            WriteError: The disk refuses the write.
        """

    @abstractmethod
    def set_published(self, number: int, mark: PublishedMark | None = None) -> None:
        """Stores that all history entries up to `number` were published to Kafka, and syncs.

        Args:
            number: It may be below the stored one: the topic lost messages.
            mark: Where the message of this entry lies; None: it is not known.

        Raises:
            BadInputError: The number is above that of the last entry, or the entry after it is not kept.
            WriteError: The disk refuses the write.
        """

    @abstractmethod
    def begin_epoch(self, epoch: StoreEpoch) -> None:
        """Keeps a new epoch, and that history is published in it from its first number on, in one synced write.

        Raises:
            BadInputError: The first number is not between the first kept entry and one after the last entry.
            WriteError: The disk refuses the write.
        """

    @abstractmethod
    def sweep_history(self, before: int, limit: int) -> int:
        """Removes the oldest history entries, and what is kept of them, in one synced write (`storage.sweeping`).

        The last entry that was published stays, and so do those after it.

        Args:
            before: Only entries with lower numbers.
            limit: Entries at most, from 1.

        Returns:
            How many went.

        Raises:
            BadInputError: The limit is below 1.
            WriteError: The disk refuses the write.
        """

    @abstractmethod
    def remove_dead_letters(self, offsets: Collection[int]) -> None:
        """Removes the dead letters of these offsets, because they were published to Kafka.

        Raises:
            WriteError: The disk refuses the write.
        """

    @abstractmethod
    def mend(self, mends: Collection[Mend]) -> None:
        """Makes records say what the images say (`storage.mending`), all in one synced write that raises the revision.

        Raises:
            WriteError: The disk refuses the write.
        """

    @abstractmethod
    def erase(self, step: EraseStep) -> None:
        """Writes what one step of erasing has found (`storage.erasing`), all of it or nothing, and syncs.

        Raises:
            WriteError: The disk refuses the write.
        """

    def scrub(self, touched: Touched | None) -> None:  # noqa: B027 - a store without files has nothing to scrub
        """Makes sure that the files of the store hold no old versions of records.

        Args:
            touched: Whose; None: of all that may have named an image.

        Raises:
            UnavailableError: The store is closed.
            WriteError: The disk refuses the write.
        """

    @abstractmethod
    def override(self, request: OverrideRequest, at_ms: int, *, dry_run: bool = False) -> OverrideOutcome:
        """Keeps an override for ever and moves what it says, in one write that raises the revision. Syncs.

        Saying again what stands already writes nothing.

        Args:
            request: What somebody says.
            at_ms: The time, in milliseconds since the epoch.
            dry_run: Write nothing, and tell what would move.

        Raises:
            BadInputError: It is malformed, or the target of a pin, split or merge is unknown.
            ConflictError: Another override says the contrary; the message names it.
            MismatchError: The job that wrote last does not know overrides.
            WriteError: The disk refuses the write.
        """

    @abstractmethod
    def set_requeued(self, number: int) -> None:
        """Stores that the images of all undos up to this number were sent to be decided again, and syncs.

        Raises:
            BadInputError: There is no override of this number.
            WriteError: The disk refuses the write.
        """

    @abstractmethod
    def overrides(self, after: int, limit: int, image_id: ImageId | None = None) -> Sequence[ListedOverride]:
        """At most `limit` overrides with numbers above `after`, in order; of one image those that name it."""

    def operations(self, after: int, limit: int) -> Sequence[Operation]:
        """At most `limit` bulk moves with numbers above `after`, in order. A store that moves all at once has none."""
        return ()

    def settle(self, limit: int) -> bool:
        """Rewrites at most `limit` records of the bulk move that is under way, in one synced write.

        Returns:
            Whether more is left. So it is called until it returns False.

        Raises:
            BadInputError: The limit is below 1.
            WriteError: The disk refuses the write.
        """
        return False

    def pause(self, number: int, *, rests: bool) -> None:
        """A bulk move rests, or goes on. Everybody sees it as a whole all the same.

        Raises:
            BadInputError: It is not under way.
        """
        raise BadInputError(f"no bulk move {number} is under way")

    def cancel(self, number: int) -> None:
        """Ends the planning of a bulk move, of which nobody has seen anything.

        Raises:
            BadInputError: It is not being planned.
        """
        raise BadInputError(f"no bulk move {number} is being planned")

    @abstractmethod
    def on_apply(self, listener: Callable[[StoreState], None]) -> None:
        """Calls `listener` with the new state after each `apply` that wrote something.

        It is called on the writer's thread, so it must return at once and must not raise.
        """

    @abstractmethod
    def on_rename(self, listener: Callable[[int], None]) -> None:
        """Calls `listener` with how many images got another head because theirs was forgotten, after each such write.

        It is called as that of `on_apply`, and once for a bulk move: when all readers see it.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the store; a second call does nothing."""

    def image_at_once(self, image_id: ImageId) -> ImageRecord | None:
        """The last verdict on an image, if it takes some microseconds. The HTTP API asks for it on its event loop.

        Returns:
            None: there is none, or to read it may take longer, as by default. Then a thread asks for it.

        Raises:
            UnavailableError: The store is closed or being reopened.
        """
        return None

    def look_up(self, ids: Iterable[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """Memberships and clusters of `ids`, all of one moment; see `StoreView.look_up`."""
        with self.snapshot() as view:
            return view.look_up(ids, verdicts_of)

    def heads(self, ids: Iterable[ImageId]) -> Heads:
        """The heads of images, all of one moment; see `StoreView.heads`."""
        with self.snapshot() as view:
            return view.heads(ids)

    def position(self) -> LogPosition:
        """How far the store has applied the order."""
        return self.state().position

    def state(self) -> StoreState:
        """Position, revision and counts."""
        with self.snapshot() as view:
            return view.state()

    def published(self) -> int:
        """The number of the last history entry that was published to Kafka; 0: none."""
        with self.snapshot() as view:
            return view.published()

    def published_mark(self) -> PublishedMark | None:
        """Where the message of that entry lies; None: it is not known."""
        with self.snapshot() as view:
            return view.published_mark()

    def epoch(self) -> StoreEpoch | None:
        """The epoch of its history numbers; None: none began yet."""
        with self.snapshot() as view:
            return view.epoch()

    def first_load(self) -> FirstLoad | None:
        """The manifest that the store began with; None: it began empty."""
        with self.snapshot() as view:
            return view.first_load()

    def delta(self, manifest_id: str) -> DeltaProgress | None:
        """How far the manifest of this id is whose rows go through the order; None: unknown."""
        with self.snapshot() as view:
            return view.delta(manifest_id)

    def deltas(self) -> Sequence[DeltaProgress]:
        """All such manifests, by when they were started."""
        with self.snapshot() as view:
            return view.deltas()

    def image(self, image_id: ImageId) -> ImageRecord | None:
        """The last verdict on an image; None: unknown."""
        with self.snapshot() as view:
            return view.image(image_id)

    def tombstone(self, image_id: ImageId) -> Tombstone | None:
        """What is left of a deleted image; None: it was not deleted, or a higher version came since."""
        with self.snapshot() as view:
            return view.tombstone(image_id)

    def cluster(self, head: ImageId) -> ClusterRecord | None:
        """A cluster by its head; None: no image of that id is a head."""
        with self.snapshot() as view:
            return view.cluster(head)

    def members(
        self, head: ImageId, limit: int, token: str | None = None, *, newest_first: bool = False
    ) -> Page[ImageId]:
        """A page of a cluster's members; see `StoreView.members`."""
        with self.snapshot() as view:
            return view.members(head, limit, token, newest_first=newest_first)

    def history(self, after: int, limit: int) -> Sequence[HistoryEntry]:
        """At most `limit` history entries with numbers above `after`, in order."""
        with self.snapshot() as view:
            return view.history(after, limit)
