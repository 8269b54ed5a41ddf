"""Erases images that were forgotten from the records of a store, a few records at a time, and then from its files.

    waiting    their last changes are published first, or readers of `assignments` would never hear of the delete
    running    own       each history entry of such an image becomes a blank: a number, a position and a time
               history   where another entry mentions one (old head, new head, match), it says the pseudonym instead
               images    where the last verdict on another image names one as its match, it says the pseudonym
               (each step also drops the examples of manifests' rows that name one)
    cleared    no record has the id any more; old versions of records may lie in the files
    done       the files were compacted where such versions lay

All that wait begin together, so the history is read once for all of them. Each step keeps how far it came in the write
that it makes, so a kill loses nothing but the list of what to compact; then whole families are compacted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from core.pseudonyms import NOBODY
from core.types import NO_HEAD, Cause, ImageId, Versions
from storage.bulk.operations import OperationState
from storage.delta_progress import without
from storage.interfaces import ClusterStore, StoreView
from storage.moving import Changes, Erased
from storage.records import EraseCursor, EraseStep, Erasure, ErasureState, HistoryEntry, StoreState, Touched

__all__ = ["AsErased", "Eraser", "erased", "is_blank"]

RECORDS_AT_ONCE = 2_000
"""Records that one step looks at: about 40 ms."""

OPERATIONS_AT_ONCE = 1_000
"""Bulk moves that are listed in one call."""

IMAGES_AT_ONCE = 1_000
"""Images that are erased together."""


def is_blank(entry: HistoryEntry) -> bool:
    """Whether nothing but its number is left of a history entry, since its image was forgotten."""
    return entry.cause is Cause.FORGOTTEN


def erased(view: StoreView, state: StoreState, step: EraseStep) -> Changes:
    """What a step writes."""
    changes = Changes(state, erased=Erased(cursor=step.cursor))
    gone = changes.erased
    assert gone is not None
    for number in step.blanks:
        entry = view.history_entry(number)
        if entry is not None and entry.image_id in step.running:
            gone.entries.append(_blank(entry))
            gone.unlisted.append((entry.image_id, number))
    for number in step.mentions:
        entry = view.history_entry(number)
        if entry is not None:
            gone.entries.append(_renamed(entry, step.running))
    for image_id in step.images:
        image = view.image(image_id)
        erasure = None if image is None or image.matched is None else step.running.get(image.matched)
        if image is not None and erasure is not None and _last_number(view, image_id) <= erasure.through:
            changes.images[image_id] = replace(image, matched=erasure.pseudonym)
    if changes.images:  # a verdict rests on what a look-up said of the last one
        changes.state = replace(state, revision=state.revision + 1)
    for progress in view.deltas() if step.running else ():
        kept = without(progress, step.running)
        if kept is not progress:
            changes.deltas[progress.request.manifest_id] = kept
    gone.ended += step.ended
    gone.dead_letters += step.dead_letters
    for erasure in step.erasures:
        now = view.erasure(erasure.pseudonym)
        if now is not None and now.position == erasure.position:  # else the image was forgotten once more
            changes.erasures[erasure.pseudonym] = erasure
    return changes


class AsErased:
    """The history of a view as it is once all that was forgotten is erased: what rests on it must not change then."""

    def __init__(self, view: StoreView) -> None:
        """Reads what is not erased yet."""
        self._view = view
        self._forgotten = {each.image_id: each for each in view.erasures() if each.image_id}

    def history_from(self, after: int) -> Iterator[HistoryEntry]:
        """See `StoreView.history_from`."""
        return map(self._left, self._view.history_from(after))

    def history_of(self, image_id: ImageId, after: int = 0) -> Iterator[HistoryEntry]:
        """See `StoreView.history_of`."""
        return (left for each in self._view.history_of(image_id, after) if not is_blank(left := self._left(each)))

    def _left(self, entry: HistoryEntry) -> HistoryEntry:
        if not self._forgotten:
            return entry
        return _blank(entry) if _means(entry, entry.image_id, self._forgotten) else _renamed(entry, self._forgotten)


def _blank(entry: HistoryEntry) -> HistoryEntry:
    """What is left of an entry: when and by which record of the order, or by which override, it was written."""
    return HistoryEntry(
        number=entry.number,
        image_id=NOBODY,
        old_head=None,
        new_head=NO_HEAD,
        cause=Cause.FORGOTTEN,
        score=None,
        matched=None,
        place=0,
        offset=entry.offset,
        version=0,
        decided_at_ms=entry.decided_at_ms,
        created_at_ms=0,
        arrived_at_ms=0,
        versions=Versions(),
        trigger=entry.trigger,
        reference=entry.reference,
        ahead=entry.ahead,
    )


def _renamed(entry: HistoryEntry, by_id: Mapping[ImageId, Erasure]) -> HistoryEntry:
    """An entry that mentions forgotten images, with their pseudonyms."""

    def name(image_id: ImageId) -> ImageId:
        return by_id[image_id].pseudonym if _means(entry, image_id, by_id) else image_id

    return replace(
        entry,
        old_head=None if entry.old_head is None else name(entry.old_head),
        new_head=name(entry.new_head),
        matched=None if entry.matched is None else name(entry.matched),
    )


def _means(entry: HistoryEntry, image_id: ImageId | None, by_id: Mapping[ImageId, Erasure]) -> bool:
    """Whether an id in an entry means an image that was forgotten, and not a new life of it."""
    erasure = None if image_id is None else by_id.get(image_id)
    return erasure is not None and entry.number <= erasure.through


def _last_number(view: StoreView, image_id: ImageId) -> int:
    return max(view.history_numbers_of(image_id, 0), default=0)


class Eraser:
    """Erases what was forgotten in one store. Not thread-safe."""

    def __init__(
        self,
        store: ClusterStore,
        waits_for_publisher: bool = True,
        records_at_once: int = RECORDS_AT_ONCE,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6,
    ) -> None:
        """Takes the store.

        Args:
            store: The store.
            waits_for_publisher: Whether somebody publishes the history, so that it is only changed after that.
            records_at_once: Records that one step looks at.
            now_ms: The clock, in milliseconds since the epoch.
        """
        self._store = store
        self._waits = waits_for_publisher
        self._most = records_at_once
        self._now_ms = now_ms
        self._touched: Touched | None = None
        """None: not all of it is known, since another process began."""
        self._bulk_moves = -1
        """The number of the last bulk move with late history when the erasing began; -1: it is not known."""
        self._calm: int | None = None
        """The number of the last history entry when it was first seen that no bulk move is under way."""
        self.oldest_ms: int | None = None
        """When the image was forgotten that had waited longest as the last step began; None: none waited."""

    def step(self) -> bool:
        """Does one step; says whether there was any.

        Raises:
            UnavailableError: The store cannot be read or written now. Try again later.
        """
        with self._store.snapshot() as view:
            unfinished = [each for each in view.erasures() if each.state is not ErasureState.DONE]
            self.oldest_ms = min((each.forgotten_at_ms for each in unfinished), default=None)
            if not unfinished:
                return False
            cleared = [each for each in unfinished if each.state is ErasureState.CLEARED]
            running = [each for each in unfinished if each.state is ErasureState.RUNNING]
            if cleared:
                step = None
            elif running:
                step = self._run(view, running)
            else:
                step = self._begin(view, unfinished)
        if cleared:
            self._scrub(cleared)
        elif step is None:
            return False
        else:
            self._store.erase(step)
        return True

    def _begin(self, view: StoreView, waiting: list[Erasure]) -> EraseStep | None:
        """Begins with all images whose last changes are published.

        The entries of a bulk move by an override are written late. So they are waited for, and erased from too.
        """
        last, under_way = self._last_bulk_move()
        if under_way:
            self._calm = None
            return None
        if last:
            self._calm = self._calm or view.state().history_number
        published = self._published(view)
        ready = [each for each in waiting if max(each.through, self._calm or 0) <= published][:IMAGES_AT_ONCE]
        if not ready:
            return None
        self._touched, self._bulk_moves, self._calm = Touched(), last, None
        begun = [replace(each, state=ErasureState.RUNNING) for each in ready]
        return EraseStep({}, EraseCursor("own", 0), erasures=self._raised(view, begun) if last else tuple(begun))

    def _published(self, view: StoreView) -> int:
        return view.published() if self._waits else view.state().history_number

    def _raised(self, view: StoreView, erasures: Sequence[Erasure]) -> tuple[Erasure, ...]:
        """The erasures through all entries that are published, unless the image has begun a new life."""
        through = self._published(view)
        return tuple(
            each if view.image(each.image_id) is not None else replace(each, through=max(each.through, through))
            for each in erasures
        )

    def _last_bulk_move(self) -> tuple[int, bool]:
        """The number of the last bulk move with late history, 0 if there was none, and whether any is not over.

        That of a forget has all its history from its first step on.
        """
        seen, last, under_way = 0, 0, False
        while found := self._store.operations(seen, OPERATIONS_AT_ONCE):
            seen = found[-1].number
            last = max((each.number for each in found if each.override is not None), default=last)
            under_way |= any(each.state is not OperationState.DONE for each in found)
        return last, under_way

    def _run(self, view: StoreView, running: list[Erasure]) -> EraseStep | None:
        by_id = {each.image_id: each for each in running}
        cursor = view.erase_cursor() or EraseCursor("own", 0)
        match cursor.step:
            case "own":
                return self._own(view, running, by_id)
            case "history":
                return self._history(view, running, by_id, cursor)
            case "images":
                return self._images(view, running, by_id, cursor)

    def _own(self, view: StoreView, running: list[Erasure], by_id: Mapping[ImageId, Erasure]) -> EraseStep:
        """The entries of the images, their ended clusters and their dead letters."""
        touched = self._touched or Touched()
        touched.ids.update(by_id)
        blanks: list[int] = []
        ended: list[tuple[ImageId, int]] = []
        for erasure in running:
            for entry in islice(_own_entries(view, erasure), self._most - len(blanks)):
                blanks.append(entry.number)
                touched.places.add(entry.place)
                touched.edges.add((entry.new_head, entry.sequence))
            clusters = view.ended_clusters(erasure.image_id, 0)
            ended += [(erasure.image_id, each.number) for each in clusters if each.number <= erasure.through]
            if len(blanks) >= self._most:
                break
        touched.numbers.update(blanks)
        keys = {image_id.encode() for image_id in by_id}
        letters = tuple(at for at, letter in islice(view.dead_letters(), self._most) if letter.key in keys)
        nothing = not (blanks or ended or letters)
        cursor = EraseCursor("history", 0) if nothing else EraseCursor("own", 0)
        return EraseStep(by_id, cursor, blanks=tuple(blanks), ended=tuple(ended), dead_letters=letters)

    def _history(
        self, view: StoreView, running: list[Erasure], by_id: Mapping[ImageId, Erasure], cursor: EraseCursor
    ) -> EraseStep:
        through = max(each.through for each in running)
        entries = list(islice(view.history_from(cursor.number), self._most))
        touched = self._touched or Touched()
        mentions = []
        for entry in entries:
            if not any(_means(entry, each, by_id) for each in (entry.old_head, entry.new_head, entry.matched)):
                continue
            mentions.append(entry.number)
            touched.numbers.add(entry.number)
            touched.images.add(entry.image_id)
            touched.edges.add((entry.new_head, entry.sequence))
        last = entries[-1].number if entries else through
        after = EraseCursor("images", 0) if last >= through else EraseCursor("history", last)
        return EraseStep(by_id, after, mentions=tuple(mentions))

    def _images(
        self, view: StoreView, running: list[Erasure], by_id: Mapping[ImageId, Erasure], cursor: EraseCursor
    ) -> EraseStep | None:
        images = list(islice(view.images_from(ImageId(cursor.image_id)), self._most))
        found = tuple(image.image_id for image in images if image.matched in by_id)
        touched = self._touched or Touched()
        touched.images.update(found)
        if len(images) == self._most:
            return EraseStep(by_id, EraseCursor("images", 0, images[-1].image_id), images=found)
        last, under_way = self._last_bulk_move()
        if under_way:
            return None
        if last != self._bulk_moves and last:  # it may have told again what it had read before
            self._bulk_moves = last
            return EraseStep(by_id, EraseCursor("own", 0), images=found, erasures=self._raised(view, running))
        done = tuple(replace(each, state=ErasureState.CLEARED, image_id=NO_HEAD) for each in running)
        return EraseStep(by_id, None, images=found, erasures=done)

    def _scrub(self, cleared: list[Erasure]) -> None:
        if self._touched is not None:
            self._touched.kept_from = self._store.state().history_first
        self._store.scrub(self._touched)
        self._touched = None
        now = self._now_ms()
        done = tuple(replace(each, state=ErasureState.DONE, erased_at_ms=now) for each in cleared)
        self._store.erase(EraseStep({}, None, erasures=done))


def _own_entries(view: StoreView, erasure: Erasure) -> Iterator[HistoryEntry]:
    for entry in view.history_of(erasure.image_id):
        if entry.number > erasure.through:
            return
        yield entry
