"""The images that a deployment wrote unscored: where they stand in the order, and who could still find them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate

from core.access import Right
from core.types import Cause
from search.index.engine import SegmentedIndex
from search.serving.client import SearchClient
from search.serving.server import index_settings
from storage.serving.client import StorageClient
from stream.access import credentials
from stream.dead_letters.halves import OF_IMAGES
from stream.servers import search_server_settings
from tests.support.stack import Stack

__all__ = ["last_seen_by", "unscored_images", "unscored_records"]


def unscored_records(stack: Stack, logs: Sequence[Sequence[bytes]], base: int = 0) -> dict[int, int]:
    """The positions of the records that were decided without scores, and the place that each has hidden.

    That is the place of the image: of a replay an earlier one, unless the index could not find the image there. A
    replay that has changed nothing has hidden nothing, and counts as its own place.

    Args:
        stack: At rest; its dead letters and changes are published.
        logs: The records of each topic `joined` that there was, the newest last.
        base: The position of the first of them.

    Raises:
        AssertionError: A dead letter is not a record of the order, or an image that was written unscored has none.
    """
    bases = list(accumulate((len(log) for log in logs[:-1]), initial=base))
    positions = set()
    for dead in stack.dead_letters():
        if dead.source.topic != stack.signal.topic("joined") or dead.reason not in OF_IMAGES:
            continue
        offset = dead.source.offset
        found = [
            start + offset for start, log in zip(bases, logs, strict=True) if log[offset : offset + 1] == [dead.payload]
        ]
        assert found, f"the dead letter of offset {offset} is not a record of `joined`"
        positions.update(found)
    hidden = {each["offset"]: each["place"] for each in stack.assignments() if each["cause"] == Cause.UNSCORED}
    missing = sorted(hidden.keys() - positions)
    assert not missing, f"{len(missing)} unscored images have no dead letter, such as those of {missing[:5]}"
    with stack.storage() as storage:
        assert set(unscored_images(storage)) <= set(hidden.values())
    return {position: hidden.get(position, position) for position in sorted(positions)}


def last_seen_by(stack: Stack, places: Collection[int], name: str) -> dict[int, int]:
    """For each place: the last position of the order whose search could still find what was placed there.

    Places that no search ever found are left out: their record was superseded, or the index was built from storage.

    Args:
        stack: Its index is copied.
        places: All of them must be hidden.
        name: Of the copy.
    """
    server = search_server_settings(stack.settings, stack.signal_name)
    part = stack.signal.search
    proof = credentials(stack.settings, Right.WRITE)
    client = SearchClient(part.address, 60.0, part.max_message_bytes, credentials=proof)
    try:
        client.snapshot(name, 600.0)
    finally:
        client.close()
    settings = index_settings(server, server.terms.build(), server.code.build())
    index = SegmentedIndex(server.snapshots / name, settings, background=False)
    try:
        state, seen = index._store.state, {}
        for place in places:
            at = state.place_of(place)
            if at is None or not state.sources[at[0]].is_searchable(at[1]):
                continue
            last = state.sources[at[0]].last_seen_by(at[1])
            assert last is not None, f"the unscored image at place {place} can be found"
            # An index that was put back hides an image as soon as it has placed it.
            seen[place] = max(last, place)
        return seen
    finally:
        index.close()


def unscored_images(storage: StorageClient) -> list[int]:
    """Where storage says that an unscored image was placed, ascending."""
    places: list[int] = []
    after, complete = -1, False
    while not complete:
        answer = storage.unscored(after)
        places += answer.places
        after, complete = answer.through, answer.complete
    return places
