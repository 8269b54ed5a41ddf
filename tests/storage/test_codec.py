"""Bytes come back as the records they were, keys sort as the records do, and damage never goes unseen as a crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInputError
from core.first_loads import LoadRequest, LoadState
from core.manifest_rows import RowResult
from core.types import (
    NO_HEAD,
    Cause,
    Cluster,
    DeadLetterRecord,
    ImageId,
    LogPosition,
    Membership,
    RequestSource,
    Tombstone,
    Trigger,
    Versions,
)
from storage import codec, state_codec
from storage.bulk.deltas import ClusterDelta
from storage.errors import CorruptedError
from storage.records import (
    ClusterRecord,
    DeltaProgress,
    Edge,
    EmbeddingRecord,
    EndedCluster,
    EraseCursor,
    Erasure,
    ErasureState,
    HistoryEntry,
    ImageRecord,
    PublishedMark,
    RowExample,
    StoreEpoch,
    StoreState,
)

ids = (
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=256)
    .filter(lambda t: len(t.encode()) <= 256)
    .map(ImageId)
)
u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
scores = st.none() | st.floats(allow_nan=False)
versions = st.builds(Versions, st.text(st.characters(codec="utf-8"), max_size=40), st.just("i"))
causes = st.sampled_from(Cause)
blobs = st.binary(max_size=70)

images = st.builds(
    ImageRecord,
    ids,
    u64,
    i64,
    ids,
    scores,
    st.none() | ids,
    causes,
    i64,
    i64,
    i64,
    versions,
    u64,
    st.booleans(),
    st.booleans(),
).map(lambda image: replace(image, unscored=image.unscored or image.cause is Cause.UNSCORED))
dead_letters = st.builds(DeadLetterRecord, blobs, blobs, blobs)
clusters = st.builds(ClusterRecord, ids, st.integers(0, 2**63 - 1), blobs, i64, st.booleans())
embeddings = st.builds(EmbeddingRecord, i64, ids, u64, blobs, blobs, blobs)
entries = st.builds(
    HistoryEntry,
    u64,
    ids,
    st.none() | ids,
    ids,
    causes,
    scores,
    st.none() | ids,
    i64,
    i64,
    u64,
    i64,
    i64,
    i64,
    versions,
    st.booleans(),
    st.sampled_from(Trigger),
    u64,
    i64,
).map(
    lambda entry: replace(
        entry,
        new_head=NO_HEAD if entry.cause in (Cause.DELETED, Cause.FORGOTTEN) else entry.new_head,
        reference=0 if entry.trigger in (Trigger.STREAM, Trigger.MANIFEST) else entry.reference,
    )
)
kinds = st.frozensets(st.text(max_size=20), max_size=3)
requests = st.dictionaries(st.builds(RequestSource, st.text(max_size=30), st.integers(0, 2**31 - 1)), u64, max_size=3)
positions = st.builds(LogPosition, st.text(max_size=30), i64, u32, i64)
numbers = st.tuples(*[u64] * 6)
states = st.builds(
    lambda position, numbers, counts, requests, kinds, required, rest: StoreState(
        position, *numbers, *counts, requests, kinds, required, *rest
    ),
    positions,
    numbers,
    st.tuples(*[u64] * 3),
    requests,
    kinds,
    kinds,
    st.tuples(*[u64] * 4),
)
tombstones = st.builds(Tombstone, ids, u64, i64, i64, st.text(max_size=30), st.text(max_size=30))


@given(positions, numbers)
def test_a_state_of_an_older_format_has_fewer_parts(position: LogPosition, numbers: tuple[int, ...]) -> None:
    state = StoreState(position, *numbers)  # type: ignore[arg-type]
    of_format_2 = state_codec.encode_state(state)[: -(3 * 8 + 3 * 2 + 2 * 8 + 2 * 8)]
    assert state_codec.decode_state(of_format_2) == state
    assert state_codec.decode_state(of_format_2[:-8]) == replace(state, position=replace(position, base=0))


@given(tombstones)
def test_tombstones_come_back(tombstone: Tombstone) -> None:
    key, value = codec.image_key(tombstone.image_id), codec.encode_tombstone(tombstone)
    assert codec.decode_tombstone(key, value) == tombstone


@given(st.builds(Erasure, ids, ids | st.just(NO_HEAD), u64, i64, i64, st.sampled_from(ErasureState), i64))
def test_erasures_come_back(erasure: Erasure) -> None:
    assert codec.decode_erasure(codec.image_key(erasure.pseudonym), codec.encode_erasure(erasure)) == erasure


@given(st.builds(EraseCursor, st.sampled_from(["own", "history", "images"]), u64, ids | st.just("")))
def test_how_far_erasing_is_comes_back(cursor: EraseCursor) -> None:
    assert state_codec.decode_erase_cursor(state_codec.encode_erase_cursor(cursor)) == cursor


def test_a_key_of_another_length_is_damaged() -> None:
    with pytest.raises(CorruptedError, match="32 bytes"):
        state_codec.decode_pseudonyms(b"short")


@given(images)
def test_images_come_back(image: ImageRecord) -> None:
    value = codec.encode_image(image)
    assert codec.decode_image(codec.image_key(image.image_id), value) == image
    membership = Membership(image.image_id, image.version, image.place, image.head)
    assert codec.decode_membership(image.image_id, value) == membership
    assert codec.decode_head(image.image_id, value) == image.head


@given(u64, dead_letters)
def test_dead_letters_come_back(offset: int, record: DeadLetterRecord) -> None:
    assert codec.decode_dead_letter(codec.encode_number(offset), codec.encode_dead_letter(record)) == (offset, record)


@given(clusters, u64)
def test_ended_clusters_come_back(cluster: ClusterRecord, number: int) -> None:
    key, value = codec.edge_key(cluster.head, number), codec.encode_cluster(cluster)
    assert codec.decode_ended(key, value) == EndedCluster(number, cluster)


@given(
    st.builds(
        DeltaProgress,
        st.builds(LoadRequest, *[st.text(max_size=30)] * 4),
        st.sampled_from(LoadState),
        st.text(max_size=30),
        i64,
        i64,
        st.dictionaries(st.sampled_from(RowResult), i64),
        st.lists(st.builds(RowExample, i64, ids, st.sampled_from(RowResult)), max_size=3).map(tuple),
        i64,
        i64,
    )
)
def test_how_far_manifests_are_comes_back(progress: DeltaProgress) -> None:
    assert state_codec.decode_delta_progress(state_codec.encode_delta_progress(progress)) == progress


@pytest.mark.parametrize("damaged", [b"", b"[]", b"{}", b'{"request": {}}', b"\xff"])
def test_damage_of_how_far_a_manifest_is_is_named(damaged: bytes) -> None:
    with pytest.raises(CorruptedError, match="how far a manifest is"):
        state_codec.decode_delta_progress(damaged)


@given(st.none() | clusters, i64)
def test_deltas_come_back(founding: ClusterRecord | None, by: int) -> None:
    delta = ClusterDelta(by, None if founding is None else replace(founding, count=0))
    key = b"any" if founding is None else codec.image_key(founding.head)
    assert codec.decode_delta(key, codec.encode_delta(delta)) == delta


@given(images)
def test_the_edge_of_an_image_is_known(image: ImageRecord) -> None:
    assert codec.decode_edge_key(codec.encode_image(image)) == codec.edge_key(image.head, image.edge_sequence)


@given(clusters)
def test_clusters_come_back(cluster: ClusterRecord) -> None:
    value = codec.encode_cluster(cluster)
    assert codec.decode_cluster(codec.image_key(cluster.head), value) == cluster
    front = Cluster(cluster.head, cluster.count, cluster.founding_code, cluster.head_deleted)
    assert codec.decode_cluster_front(cluster.head, value) == front


@given(st.builds(Edge, ids, u64, ids))
def test_edges_come_back(edge: Edge) -> None:
    assert codec.decode_edge(codec.edge_key(edge.head, edge.sequence), codec.image_key(edge.member)) == edge


@given(embeddings)
def test_embeddings_come_back(embedding: EmbeddingRecord) -> None:
    assert codec.decode_embedding(codec.place_key(embedding.place), codec.encode_embedding(embedding)) == embedding


@given(entries)
def test_history_comes_back(entry: HistoryEntry) -> None:
    assert codec.decode_history(codec.encode_number(entry.number), codec.encode_history(entry)) == entry


@pytest.mark.parametrize("truncated", [False, True])
def test_verdicts_are_kept_in_the_bytes_of_release_0_1_0_and_a_flag_for_a_search_that_was_cut(truncated: bool) -> None:
    image = ImageRecord(
        ImageId("a"), 3, 5, ImageId("h"), 0.5, ImageId("m"), Cause.MATCHED, 9, 7, 8, Versions("m1", "i1"), 4, truncated
    )
    entry = HistoryEntry(
        2, ImageId("a"), ImageId("o"), ImageId("h"), Cause.ADOPTED, 0.5, ImageId("m"), 5, 6, 3, 9, 7, 8,
        Versions("m1", "i1"), truncated,
    )  # fmt: skip
    image_bytes = bytes.fromhex(
        "000000000000000300000000000000050000000000000004000168"
        "00000000000000090000000000000007000000000000000802" + ("0b" if truncated else "03") + "3fe0000000000000"
        "00016d00026d3100026931"
    )
    entry_bytes = bytes.fromhex(
        "000000000000000300000000000000050000000000000006"
        "00000000000000090000000000000007000000000000000803" + ("0f" if truncated else "07") + "3fe0000000000000"
        "00016100016800016f00016d00026d3100026931"
    )
    assert codec.encode_image(image) == image_bytes
    assert codec.decode_image(b"a", image_bytes) == image
    assert codec.encode_history(entry) == entry_bytes
    assert codec.decode_history(codec.encode_number(2), entry_bytes) == entry


@given(states)
def test_the_state_comes_back(state: StoreState) -> None:
    assert state_codec.decode_state(state_codec.encode_state(state)) == state


@given(st.lists(i64))
def test_places_sort_as_numbers(places: list[int]) -> None:
    assert sorted(places, key=codec.place_key) == sorted(places)


@given(st.lists(u64))
def test_numbers_sort_as_numbers(numbers: list[int]) -> None:
    assert sorted(numbers, key=codec.encode_number) == sorted(numbers)


@given(ids, ids, st.lists(u64, min_size=2))
def test_edges_of_a_head_lie_together_by_sequence(head: ImageId, other: ImageId, sequences: list[int]) -> None:
    keys = [codec.edge_key(head, sequence) for sequence in sorted(sequences)]
    assert keys == sorted(keys)
    assert all(key.startswith(codec.edge_prefix(head)) for key in keys)
    if other != head:
        assert not codec.edge_key(other, sequences[0]).startswith(codec.edge_prefix(head))


@pytest.mark.parametrize("bad", ["", "x" * 257, "ä" * 129, "\ud800"])
def test_only_ids_are_keys(bad: str) -> None:
    with pytest.raises(BadInputError):
        codec.image_key(ImageId(bad))


Decode = Callable[[bytes, bytes], Any]

SAMPLES: dict[str, tuple[Decode, bytes, bytes]] = {
    "image": (
        codec.decode_image,
        b"a",
        codec.encode_image(
            ImageRecord(
                ImageId("a"), 1, 2, ImageId("h"), 0.5, ImageId("m"), Cause.MATCHED, 1, 2, 3, Versions("m", "i"), 9
            )
        ),
    ),
    "head": (
        lambda key, value: codec.decode_head(ImageId(key.decode()), value),
        b"a",
        codec.encode_image(
            ImageRecord(ImageId("a"), 1, 2, ImageId("head"), None, None, Cause.FOUNDED, 1, 2, 3, Versions(), 9)
        )[: 24 + 2 + 4],
    ),
    "membership": (
        lambda key, value: codec.decode_membership(ImageId(key.decode()), value),
        b"a",
        codec.encode_image(
            ImageRecord(ImageId("a"), 1, 2, ImageId("head"), None, None, Cause.FOUNDED, 1, 2, 3, Versions(), 9)
        )[: 24 + 2 + 4],
    ),
    "cluster": (
        codec.decode_cluster,
        b"a",
        codec.encode_cluster(ClusterRecord(ImageId("a"), 1, b"", 0)),
    ),
    "cluster front": (
        lambda key, value: codec.decode_cluster_front(ImageId(key.decode()), value),
        b"a",
        codec.encode_cluster(ClusterRecord(ImageId("a"), 1, b"", 0)),
    ),
    "edge": (lambda key, value: codec.decode_edge(value, key), b"m", codec.edge_key(ImageId("h"), 5)),
    "embedding": (
        codec.decode_embedding,
        codec.place_key(3),
        codec.encode_embedding(EmbeddingRecord(3, ImageId("a"), 1, b"code", b"search", b"score")),
    ),
    "history": (
        codec.decode_history,
        codec.encode_number(7),
        codec.encode_history(
            HistoryEntry(
                7, ImageId("a"), ImageId("o"), ImageId("n"), Cause.KEPT, 0.5, ImageId("m"), 1, 2, 3, 4, 5, 6, Versions()
            )
        ),
    ),
    "state": (
        lambda _, value: state_codec.decode_state(value),
        b"",
        state_codec.encode_state(
            StoreState(
                LogPosition("log", 3, 4), requests={RequestSource("topic", 1): 7}, kinds=frozenset({"image", "delete"})
            )
        ),
    ),
    "tombstone": (codec.decode_tombstone, b"a", codec.encode_tombstone(Tombstone(ImageId("a"), 1, 2, 3, "me", "why"))),
    "delta": (codec.decode_delta, b"a", codec.encode_delta(ClusterDelta(-2))),
    "epoch": (lambda _, value: state_codec.decode_epoch(value), b"", state_codec.encode_epoch(StoreEpoch(5, "id", 2))),
    "mark": (
        lambda _, value: state_codec.decode_mark(value),
        b"",
        state_codec.encode_mark(PublishedMark("id", 9, 8, 7, 6, -1)),
    ),
    "number": (lambda _, value: codec.decode_number("history", value), b"", codec.encode_number(9)),
}


OLD_STATE_BYTES = 8 + 4 + 6 * 8 + 2 + len("log")


@pytest.mark.parametrize("name", SAMPLES)
def test_cut_values_are_damaged(name: str) -> None:
    decode, key, value = SAMPLES[name]
    decode(key, value)
    # A state that ends before its base is one of format 1, behind it of format 2, before its overrides of format 4,
    # and before what it has of history of format 5.
    whole = {OLD_STATE_BYTES, OLD_STATE_BYTES + 8, len(value) - 32, len(value) - 16} if name == "state" else set()
    for length in set(range(len(value))) - whole:
        with pytest.raises(CorruptedError):
            decode(key, value[:length])


@pytest.mark.parametrize("name", sorted(SAMPLES.keys() - {"head", "membership", "cluster", "cluster front"}))
def test_values_with_more_at_the_end_are_damaged(name: str) -> None:
    decode, key, value = SAMPLES[name]
    with pytest.raises(CorruptedError):
        decode(key, value + b"x")


@pytest.mark.parametrize("name", SAMPLES)
@given(damage=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=4), more=st.binary(max_size=5))
def test_any_damage_is_a_record_or_an_error(name: str, damage: list[tuple[int, int]], more: bytes) -> None:
    decode, key, value = SAMPLES[name]
    changed = bytearray(value + more)
    for at, byte in damage:
        changed[at % len(changed)] = byte
    try:
        decode(key, bytes(changed))
    except CorruptedError as error:
        assert "damaged" in str(error)  # noqa: PT017 - either outcome is fine, a crash is not


@pytest.mark.parametrize("key", [b"", b"\xff", b"x" * 257])
def test_keys_that_are_no_ids_are_damaged(key: bytes) -> None:
    with pytest.raises(CorruptedError, match="not an id"):
        codec.decode_image(key, SAMPLES["image"][2])
    with pytest.raises(CorruptedError, match="not an id"):
        codec.decode_cluster(key, SAMPLES["cluster"][2])
    with pytest.raises(CorruptedError, match="not an id"):
        codec.decode_tombstone(key, SAMPLES["tombstone"][2])
    with pytest.raises(CorruptedError, match="not an id"):
        codec.decode_edge(codec.edge_key(ImageId("h"), 1), key)
