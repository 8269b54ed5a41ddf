"""Checks a whole store: heads and members agree, counts are right, nothing dangles, history has no gap.

A problem says what to look at again, where the images alone can mend it (`storage.mending`).

Old history may be swept: then it begins at the first number that is kept, and nothing of what came before is left. An
image of which no change is kept has the head that its last one gave it, which nothing can be compared with.

A deleted image has a tombstone and nothing else. If it is a head that others still belong to, its cluster is flagged.

It reads one view record by record, so it needs the same memory for a thousand images and for a billion, and the store
can be written meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from core.types import ImageId, Tombstone
from storage.erasing import is_blank
from storage.errors import CorruptedError
from storage.interfaces import StoreView
from storage.records import ClusterRecord, Edge, EmbeddingRecord, HistoryEntry, ImageRecord, Mend, StoreState

__all__ = ["Problem", "VerifyProgress", "verify", "verify_image"]

MOST_PROBLEMS = 100
"""How many problems are reported in words; all are counted."""

REPORT_EVERY = 10_000
"""How many records are checked between two reports."""


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """How far a check is; `done` in the last report."""

    done: bool
    checked: int
    total: int
    """How many records there are to check, by the store's counts."""
    images: int
    clusters: int
    problems: tuple[str, ...]
    """The first hundred, in the last report only. A done report without problems: the store is sound."""
    problem_count: int


class Problem(NamedTuple):
    """What is wrong."""

    text: str
    mends: tuple[Mend, ...] = ()
    """What to look at again; none: the images do not tell what is right."""
    unread: str = ""
    """The kind of records of which this one cannot be read, so that those after it were not looked at."""


@dataclass(slots=True)
class _Findings:
    state: StoreState
    heed: Callable[[Problem], None]
    checked: int = 0
    images: int = 0
    clusters: int = 0
    tombstones: int = 0
    problem_count: int = 0
    problems: list[str] = field(default_factory=list)
    whole: set[str] = field(default_factory=set)
    """The passes that read all of their records."""

    def report(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.problem_count += 1
            self.heed(problem)
            if len(self.problems) < MOST_PROBLEMS:
                self.problems.append(problem.text)

    def progress(self, done: bool = False) -> VerifyProgress:
        state = self.state
        history = state.history_number - state.history_first + 1
        total = 3 * state.images + state.clusters + history + state.tombstones
        problems = tuple(self.problems) if done else ()
        return VerifyProgress(done, self.checked, total, self.images, self.clusters, problems, self.problem_count)


Problems = Iterator[Problem]


def verify(
    view: StoreView, report_every: int = REPORT_EVERY, heed: Callable[[Problem], None] = lambda problem: None
) -> Iterator[VerifyProgress]:
    """Checks everything that a view shows. The last report is `done` and has the problems.

    A record that cannot be read is a problem and ends its own pass (images, clusters, ...). The other passes continue.

    Args:
        view: The store.
        report_every: How many records are checked between two reports.
        heed: Is told each problem when it is found.
    """
    found = _Findings(view.state(), heed)
    for check in (_images, _clusters, _edges, _embeddings, _tombstones, _history, _seconds, _ended):
        try:
            for problems in check(view, found):
                found.report(problems)
                found.checked += 1
                if found.checked % report_every == 0:
                    yield found.progress()
        except CorruptedError as error:
            found.report([Problem(str(error), unread=_kind(check))])
        else:
            found.whole.add(_kind(check))
    found.report(_count_problems(view, found))
    yield found.progress(done=True)


def verify_image(view: StoreView, image_id: ImageId) -> Iterator[Problem]:
    """Checks one image that should be there, with its cluster, its edge, its embeddings and its history."""
    image = view.image(image_id)
    if image is None:
        yield Problem(f"image {image_id!r}: it is unknown", (Mend("image", image_id),))
        return
    yield from _image_problems(view, image, view.state().history_first)
    cluster = view.cluster(image.head)
    if cluster is not None:
        yield from _cluster_problems(view, cluster)
    yield from _edge_problems(view, Edge(image.head, image.edge_sequence, image_id))
    for entry in view.history_of(image_id):
        yield from _history_problems(view, entry, entry.number - 1)


def _kind(check: Callable[[StoreView, _Findings], Iterator[Problems]]) -> str:
    return check.__name__.lstrip("_")


def _images(view: StoreView, found: _Findings) -> Iterator[Problems]:
    for image in view.images():
        found.images += 1
        yield _image_problems(view, image, found.state.history_first)


def _image_problems(view: StoreView, image: ImageRecord, history_first: int) -> Problems:
    name, head, sequence = image.image_id, image.head, image.edge_sequence
    if view.cluster(head) is None:
        yield Problem(f"image {name!r}: its head {head!r} has no cluster", (Mend("cluster", head),))
    edge = next(view.edges_of(head, sequence - 1), None)
    if edge != Edge(head, sequence, name):
        yield Problem(
            f"image {name!r}: it is not listed under its head {head!r}", (Mend("image", name), Mend("cluster", head))
        )
    embedding = view.embedding(image.place)
    if embedding is None or (embedding.image_id, embedding.version) != (name, image.version):
        yield Problem(f"image {name!r}: the embeddings of version {image.version} are not at place {image.place}")
    last = deque(view.history_of(name), maxlen=1)
    wrong = last[0].new_head != head if last else history_first == 1
    if wrong and not view.is_moving(name):
        yield Problem(f"image {name!r}: its last history entry does not bring it to {head!r}")
    yield from _leftovers(view, name, history_first)


def _leftovers(view: StoreView, image_id: ImageId, history_first: int) -> Problems:
    """Numbers of swept entries that are still known as those of an image."""
    if history_first > 1:
        number = next(view.history_numbers_of(image_id, 0), history_first)
        if number < history_first:
            yield Problem(f"image {image_id!r}: history entry {number} is known as one of it, and was swept")


def _clusters(view: StoreView, found: _Findings) -> Iterator[Problems]:
    for cluster in view.clusters():
        found.clusters += 1
        yield _cluster_problems(view, cluster)


def _cluster_problems(view: StoreView, cluster: ClusterRecord) -> Problems:
    head, image = cluster.head, view.image(cluster.head)
    wrong = None
    if cluster.head_deleted:
        if image is not None or view.tombstone(head) is None:
            wrong = "it says that its head was deleted, which was not"
    elif image is None:
        wrong = "its head is unknown"
    elif image.head != head:
        wrong = f"its head has another head, {image.head!r}"
    if wrong is not None:
        yield Problem(f"cluster {head!r}: {wrong}", (Mend("cluster", head),))
    if cluster.count < 1:
        yield Problem(f"cluster {head!r}: it counts {cluster.count} members", (Mend("cluster", head),))
    if next(view.edges_of(head, 0), None) is None:
        yield Problem(f"cluster {head!r}: it lists no member", (Mend("cluster", head),))


def _edges(view: StoreView, found: _Findings) -> Iterator[Problems]:
    heads = 0
    for head, edges in groupby(view.edges(), key=lambda edge: edge.head):
        heads += 1
        listed = 0
        for edge in edges:
            listed += 1
            yield _edge_problems(view, edge)
        cluster = view.cluster(head)
        if cluster is None or cluster.count != listed:
            count = 0 if cluster is None else cluster.count
            found.report(
                [Problem(f"cluster {head!r}: it counts {count} members, {listed} are listed", (Mend("cluster", head),))]
            )
    if heads != found.clusters:
        found.report([Problem(f"{heads} heads have members, there are {found.clusters} clusters")])


def _edge_problems(view: StoreView, edge: Edge) -> Problems:
    image = view.image(edge.member)
    if image is None:
        wrong = f"it lists {edge.member!r}, which is unknown"
    elif (image.head, image.edge_sequence) != (edge.head, edge.sequence):
        wrong = f"it lists {edge.member!r} at {edge.sequence}, whose head is {image.head!r}"
    else:
        return
    yield Problem(f"cluster {edge.head!r}: {wrong}", (Mend("cluster", edge.head),))


def _embeddings(view: StoreView, found: _Findings) -> Iterator[Problems]:
    for embedding in view.embeddings():
        yield _embedding_problems(view, embedding)


def _embedding_problems(view: StoreView, embedding: EmbeddingRecord) -> Problems:
    image = view.image(embedding.image_id)
    if image is None or (image.place, image.version) != (embedding.place, embedding.version):
        yield Problem(
            f"embeddings at place {embedding.place}: {embedding.image_id!r} has no such place or version",
            (Mend("embeddings", number=embedding.place),),
        )


def _tombstones(view: StoreView, found: _Findings) -> Iterator[Problems]:
    for tombstone in view.tombstones():
        found.tombstones += 1
        yield _tombstone_problems(view, tombstone, found.state.history_first)


def _tombstone_problems(view: StoreView, tombstone: Tombstone, history_first: int) -> Problems:
    name = tombstone.image_id
    if view.image(name) is not None:
        yield Problem(f"tombstone of {name!r}: the image is there", (Mend("tombstone", name),))
    cluster = view.cluster(name)
    if cluster is not None and not cluster.head_deleted:
        yield Problem(
            f"tombstone of {name!r}: its cluster does not say that its head was deleted", (Mend("cluster", name),)
        )
    yield from _leftovers(view, name, history_first)


def _history(view: StoreView, found: _Findings) -> Iterator[Problems]:
    first = found.state.history_first
    last = first - 1
    for entry in view.history_from(0):
        if entry.number < first:
            yield iter([Problem(f"history: entry {entry.number} is there, and it begins at {first}")])
            continue
        yield _history_problems(view, entry, last)
        last = entry.number
    if last != found.state.history_number:
        found.report([Problem(f"history: it ends at {last}, the store counts {found.state.history_number}")])
    found.report(_second_problems(view, first))


def _history_problems(view: StoreView, entry: HistoryEntry, last: int) -> Problems:
    if entry.number != last + 1:
        yield Problem(f"history: no entry between {last} and {entry.number}")
    if is_blank(entry):
        return
    if next(view.history_numbers_of(entry.image_id, entry.number - 1), None) != entry.number:
        yield Problem(f"history: entry {entry.number} is not known as one of {entry.image_id!r}")


def _seconds(view: StoreView, found: _Findings) -> Iterator[Problems]:
    last = 0
    for second, number in view.seconds_from(0):
        if not last < number <= found.state.history_number:
            text = f"second {second}: it ends with change {number}, the one before with {last}"
            found.report([Problem(f"{text}, and the last change is {found.state.history_number}")])
        last = number
    yield from ()  # they are many, and no records of their own in the count


def _ended(view: StoreView, found: _Findings) -> Iterator[Problems]:
    first, last = found.state.history_first, found.state.history_number
    for head, ended in view.ended():
        if not first <= ended.number <= last:
            found.report([Problem(f"ended cluster {head!r}: change {ended.number} is not one of {first} to {last}")])
    yield from ()


def _second_problems(view: StoreView, history_first: int) -> Problems:
    second, number = next(view.seconds_from(0), (0, history_first))
    if number < history_first - 1:
        yield Problem(f"history: second {second} ends with entry {number}, and it begins at {history_first}")


def _count_problems(view: StoreView, found: _Findings) -> Problems:
    state = found.state
    for name in ("images", "clusters", "tombstones"):
        there, counted = getattr(found, name), getattr(state, name)
        if there != counted:
            mends = (Mend("count", name, there - counted),) if name in found.whole else ()
            yield Problem(f"{there} {name}, the store counts {counted}", mends)
    published = view.published()
    if published > state.history_number:
        yield Problem(f"history is published up to {published}, its last entry is {state.history_number}")
    if published < state.history_first - 1:
        yield Problem(f"history is published up to {published}, and begins at {state.history_first}")
