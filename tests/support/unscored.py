"""The images that a deployment wrote unscored: where they stand in the order, and who could still find them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate

from core.access import Right
from core.dead_letters import Reason
from search.index.engine import SegmentedIndex
from search.serving.client import SearchClient
from search.serving.server import index_settings
from storage.serving.client import StorageClient
from stream.access import credentials
from stream.servers import search_server_settings
from tests.support.stack import Stack

__all__ = ["last_seen_by", "unscored_images", "unscored_places"]


def unscored_places(stack: Stack, logs: Sequence[Sequence[bytes]]) -> list[int]:
    """Positions of the records that were written unscored, ascending, from their dead letters.

    Args:
        stack: At rest.
        logs: The records of each topic `joined` that there was, the newest last.

    Raises:
        AssertionError: A dead letter is not a record of the order, or storage names an image that has none.
    """
    bases = [0, *accumulate(len(log) for log in logs)][: len(logs)]
    places = set()
    for dead in stack.dead_letters():
        if dead.source.topic != stack.signal.topic("joined") or dead.reason is not Reason.FAULTED:
            continue
        offset = dead.source.offset
        found = [
            base + offset for base, log in zip(bases, logs, strict=True) if log[offset : offset + 1] == [dead.payload]
        ]
        assert found, f"the dead letter of offset {offset} is not a record of `joined`"
        places.update(found)
    with stack.storage() as storage:
        assert set(unscored_images(storage)) <= places
    return sorted(places)


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
            seen[place] = last
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
