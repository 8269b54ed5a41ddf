"""A manifest beside the real store and index that began with it: damages are found, and what came since explained."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.errors import BadInputError, MismatchError, UnavailableError
from core.first_loads import LoadReport, LoadRequest, LoadState
from core.overrides import OverrideKind
from core.types import Cause, ImageId, Move, Trigger
from manifests.folder import LocalFolder
from storage import codec
from storage.loading.delta_report import DeltaReport
from storage.records import ImageRecord
from storage.testing.decisions import deletes, forgets, founds, joins, replays
from storage.testing.overrides import say
from stream import index_comparison
from stream.bootstrap import verification
from stream.bootstrap.row_differences import Explained, ManifestRow
from stream.bootstrap.signal import load_signal
from stream.bootstrap.verification import ManifestSource, Totals, VerifiedManifest, verify_manifest
from stream.index_comparison import Side
from tests.support.loaded_service import LoadedService, ServedLoad, ServiceRow, loaded_service, write_service_rows

HEADS = 20


def rows() -> list[ServiceRow]:
    """Clusters of four, and two images that have several rows."""
    found = [ServiceRow(f"i{number}", f"i{number - number % 4}") for number in range(4 * HEADS)]
    found[10:10] = [ServiceRow("i41", None), ServiceRow("i62", "i1", 3)]
    last = {"i41": 2, "i62": 4}
    return [
        row._replace(version=last[row.image_id]) if row.image_id in last and at > 11 else row
        for at, row in enumerate(found)
    ]


ROWS, IMAGES = len(rows()), 4 * HEADS


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedService]:
    with loaded_service(tmp_path_factory.mktemp("service"), rows()) as found:
        yield found


@pytest.fixture
def world(service: LoadedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedLoad]:
    monkeypatch.setattr(index_comparison, "WAIT_S", 0.0)
    with service.served(tmp_path / "store") as found:
        yield found


@pytest.fixture
def verified(service: LoadedService, world: ServedLoad, tmp_path: Path) -> Callable[..., VerifiedManifest]:
    def verified(sample: int | None = None, manifest: Any = None, **options: Any) -> VerifiedManifest:
        signal = load_signal(service.settings)
        source = ManifestSource(LocalFolder(service.root), manifest or service.manifest, signal, tmp_path)
        return verify_manifest(source, world.storage, world.index, sample, **options)

    return verified


Verified = Callable[..., VerifiedManifest]


def faults(found: VerifiedManifest) -> list[str]:
    return [f"{each.row}: {each.problem}" for each in found.faults.listed]


def row_of(image_id: str) -> tuple[int, int]:
    """The number of its last row in the manifest, and in its file."""
    number = max(at for at, row in enumerate(rows()) if row.image_id == image_id)
    return number, number % 25


def test_what_was_loaded_is_sound(verified: Verified, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    found = verified(on_progress=lambda *each: told.append(each))
    assert (found.problems, found.explained) == (0, {})
    assert (found.rows, found.embeddings, found.superseded) == (IMAGES, IMAGES, 2)
    totals = Totals(ROWS, IMAGES, HEADS)
    assert found.totals == {"manifest": totals, "storage": totals, "search": replace(totals, clusters=None)}
    assert found.index is not None
    assert found.index.compared == {Side.IMAGES: IMAGES, Side.DELETES: 0, Side.INDEX: IMAGES}
    assert {step for step, _, _ in told} == set(verification.STEPS)
    for step in ("ids", "rows", "embeddings"):
        assert [each[1:] for each in told if each[0] == step][-1] == (ROWS, ROWS)
    assert [each.name for each in tmp_path.iterdir()] == ["store"]


def test_a_sample_of_embeddings_is_always_the_same(verified: Verified, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_STRETCH_ROWS", 4)
    asked: list[list[str]] = []
    real = verification.of_embeddings

    def noting(row: ManifestRow, *rest: Any, **options: Any) -> Any:
        asked[-1].append(row.image_id)
        return real(row, *rest, **options)

    monkeypatch.setattr(verification, "of_embeddings", noting)
    for _ in range(2):
        asked.append([])
        found = verified(12)
        assert found.problems == 0
        assert found.rows == IMAGES
        assert found.embeddings == len(asked[-1])
    assert asked[0] == asked[1]
    assert 3 <= len(asked[0]) <= 12


def change(world: ServedLoad, image_id: str, **fields: Any) -> ImageRecord:
    """Damages the record of an image; returns it as it was."""
    image = world.store.image(ImageId(image_id))
    assert image is not None
    changed = replace(image, **fields)
    world.damage("images", codec.image_key(image.image_id), codec.encode_image(changed))
    return image


def test_each_damage_of_the_store_is_found(verified: Verified, world: ServedLoad) -> None:
    change(world, "i5", head=ImageId("i8"))
    change(world, "i6", version=0)
    change(world, "i7", place=3)
    change(world, "i21", place=ROWS - 1)
    world.damage("images", codec.image_key(ImageId("i9")), None)
    image = world.store.image(ImageId("i13"))
    assert image is not None
    world.damage("embeddings", codec.place_key(image.place), None)
    with world.store.snapshot() as view:
        stored = view.embedding(row_of("i14")[0])
    assert stored is not None
    other = replace(stored, score_vector=stored.score_vector[:-1] + bytes([stored.score_vector[-1] ^ 1]))
    world.damage("embeddings", codec.place_key(stored.place), codec.encode_embedding(other))
    found = verified()
    assert sorted(faults(found)) == sorted(
        f"{row_of(image_id)[1]}: image {image_id!r}: {text}"
        for image_id, text in (
            ("i5", "it names the head 'i4', and storage has 'i8', where nothing has moved it"),
            ("i6", "it has version 1, and storage has version 0"),
            ("i7", "storage has it at place 3"),
            ("i7", "storage has other embeddings"),
            ("i21", f"storage has it at place {ROWS - 1}"),
            ("i21", "storage has other embeddings"),
            ("i9", "storage does not have it"),
            ("i13", "storage has no embeddings"),
            ("i14", "storage has other embeddings"),
        )
    )
    assert found.explained == {}
    assert found.index is not None
    assert {"i6", "i7", "i9"} <= set(found.index.problems)
    assert found.problems == found.faults.count + len(found.index.problems)


def test_a_damage_of_the_index_is_found(verified: Verified, world: ServedLoad) -> None:
    """The store has another code, which is the same difference seen from the other side."""
    with world.store.snapshot() as view:
        stored = view.embedding(row_of("i14")[0])
    assert stored is not None
    code = bytes([stored.score_code[0] ^ 1]) + stored.score_code[1:]
    world.damage("embeddings", codec.place_key(stored.place), codec.encode_embedding(replace(stored, score_code=code)))
    found = verified()
    assert found.faults.count == 0
    assert found.index is not None
    assert {name: each.text for name, each in found.index.problems.items()} == {
        "i14": "its score code in the index is another one"
    }


def test_what_came_since_is_explained(verified: Verified, world: ServedLoad) -> None:
    ids = {number: ImageId(f"i{number}") for number in range(IMAGES)}
    world.apply(lambda at: founds(at, ids[5], ids[4], version=9))
    alone = Move(ids[6], ids[4], ids[6], Cause.FOUNDED)
    world.apply(lambda at: replace(replays(at, ids[6], alone), place=row_of("i6")[0]))
    world.apply(lambda at: deletes(at, ids[7], ids[4]))
    world.apply(lambda at: forgets(at, ids[8], ids[8]))
    world.apply(lambda at: founds(at, ImageId("new")))
    say(world.store, OverrideKind.SPLIT, ids[13], target=ids[12])
    say(world.store, OverrideKind.MERGE, ids[16], target=ids[20])
    found = verified()
    assert faults(found) == []
    assert found.explained == {
        Explained.HIGHER_VERSION: 1,
        Explained.STREAM: 1,
        Explained.DELETED: 1,
        Explained.FORGOTTEN: 1,
        Explained.HEAD_FORGOTTEN: 3,
        Explained.OVERRIDE: 5,
    }
    assert [image_id for image_id, _ in found.examples[Explained.OVERRIDE]] == ["i13", "i16", "i17", "i18", "i19"]
    assert found.examples[Explained.DELETED][0][1].text == f"deleted by the record at position {ROWS + 2}"


def test_examples_are_few(verified: Verified, world: ServedLoad) -> None:
    world.apply(lambda at: founds(at, ImageId("new")))
    say(world.store, OverrideKind.MERGE, *(ImageId(f"i{number}") for number in (0, 4, 8)), target=ImageId("i12"))
    found = verified()
    assert found.explained[Explained.OVERRIDE] == 12
    assert len(found.examples[Explained.OVERRIDE]) == verification.MOST_EXAMPLES


def test_other_totals_are_a_fault(verified: Verified, world: ServedLoad, monkeypatch: pytest.MonkeyPatch) -> None:
    real = world.storage.load_status()
    assert real is not None
    other = replace(real, images=IMAGES - 1, clusters=1)
    monkeypatch.setattr(type(world.storage), "load_status", lambda _: other)
    assert [str(each) for each in verified().faults.listed] == [
        f"storage: it has loaded {IMAGES - 1} images, the manifest has {IMAGES}",
        f"storage: it has loaded 1 clusters, the manifest has {HEADS}",
    ]


def test_another_manifest_and_one_that_is_loading_are_refused(
    verified: Verified, service: LoadedService, world: ServedLoad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_service_rows(service.settings, tmp_path / "other", "first", rows()[:8])
    with pytest.raises(MismatchError, match=f"storage began with manifest {service.manifest.id}"):
        verified(manifest=other)
    real = world.storage.load_status()
    assert real is not None
    loading = replace(real, state=LoadState.LOADING)
    monkeypatch.setattr(type(world.storage), "load_status", lambda _: loading)
    with pytest.raises(UnavailableError, match="the load is loading, not live"):
        verified()


def delta(service: LoadedService, new: list[ServiceRow]) -> Any:
    return write_service_rows(service.settings, service.root, "second", new, previous=service.manifest.id)


def test_a_delta(verified: Verified, service: LoadedService, world: ServedLoad) -> None:
    """Its rows came by the order; the first one is head of the second, and the others name heads of before."""
    new = [
        ServiceRow("n0", "n0"),
        ServiceRow("n1", "n0"),
        ServiceRow("n2", "i0"),
        ServiceRow("i3", "i0"),
        ServiceRow("n4", "i4"),
    ]
    for row in new[:3]:
        image_id, head = ImageId(row.image_id), ImageId(row.head or "")
        search, score = (each.tobytes() for each in row.vectors)
        vectors = {"search_vector": search, "score_vector": score}
        if head == image_id:
            world.apply(lambda at, image_id=image_id, vectors=vectors: founds(at, image_id, **vectors))
        else:
            world.apply(lambda at, image_id=image_id, head=head, vectors=vectors: joins(at, image_id, head, **vectors))
    found = verified(manifest=delta(service, new))
    assert found.totals == {"manifest": Totals(5, 5, None)}
    assert faults(found) == ["4: image 'n4': storage does not have it"]
    assert found.explained == {}
    say(world.store, OverrideKind.SPLIT, ImageId("n2"), target=ImageId("i0"))
    world.damage("embeddings", codec.place_key(row_of("i3")[0]), None)
    again = verified(manifest=delta(service, new))
    assert again.explained == {Explained.OVERRIDE: 1}
    assert "3: image 'i3': storage has no embeddings" in faults(again)


def test_embeddings_of_a_delta_are_excused_if_its_row_did_not_bring_them(
    verified: Verified, service: LoadedService, world: ServedLoad, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All images of a delta arrive as it begins, at 5 here; storage has other embeddings of each than its row."""
    asked: list[str] = []

    def deltas(_: object, manifest_id: str) -> list[DeltaReport]:
        asked.append(manifest_id)
        return [DeltaReport(LoadReport(LoadRequest("", "", manifest_id, ""), LoadState.LIVE, started_ms=5), {}, [])]

    monkeypatch.setattr(type(world.storage), "deltas", deltas)
    names = ("by row", "by row, then moved", "by the stream", "lost")
    new = [ServiceRow(name, name) for name in names] + [ServiceRow("i4", "i4")]
    for name, arrived_ms in zip(names, (5, 5, 6, 6), strict=True):
        vectors = {"search_vector": b"other", "score_vector": b"other"}
        image_id = ImageId(name)
        world.apply(lambda at, i=image_id, ms=arrived_ms, v=vectors: founds(at, i, arrived_at_ms=ms, **v))
    say(world.store, OverrideKind.MERGE, ImageId("by row, then moved"), target=ImageId("i0"))
    lost = world.store.image(ImageId("lost"))
    assert lost is not None
    world.damage("embeddings", codec.place_key(lost.place), None)
    world.damage("embeddings", codec.place_key(row_of("i4")[0]), None)
    manifest = delta(service, new)
    found = verified(manifest=manifest)
    assert faults(found) == [
        "0: image 'by row': storage has other embeddings",
        "1: image 'by row, then moved': storage has other embeddings",
        "3: image 'lost': storage has no embeddings",
        "4: image 'i4': storage has no embeddings",
    ]
    assert found.explained == {Explained.OVERRIDE: 1, Explained.KEPT: 1}
    assert [image_id for image_id, _ in found.examples[Explained.KEPT]] == ["by the stream"]
    assert asked == [manifest.id]


def test_rows_that_do_not_fit_together_are_told(verified: Verified, service: LoadedService) -> None:
    wrong = delta(service, [ServiceRow("n0", "n0", 2), ServiceRow("n0", "n0", 1)])
    with pytest.raises(BadInputError, match="1 rows of the manifest do not fit together"):
        verified(manifest=wrong)


def test_a_changed_file_is_told(service: LoadedService, verified: Verified) -> None:
    path = service.root / service.manifest.files[1].path
    before = path.read_bytes()
    path.write_bytes(before[:-1] + b"x")
    try:
        with pytest.raises(MismatchError, match=path.name):
            verified()
    finally:
        path.write_bytes(before)


def test_seeded_damages_are_all_found(verified: Verified, world: ServedLoad) -> None:
    """Any of several damages to some images at once: as many faults as damages."""
    dice = random.Random(5)
    chosen = dice.sample([number for number in range(IMAGES) if number not in (41, 62)], 12)
    for number in chosen:
        image_id = f"i{number}"
        match dice.randrange(3):
            case 0:
                change(world, image_id, head=ImageId("i77"), cause=Cause.MATCHED)
            case 1:
                world.damage("images", codec.image_key(ImageId(image_id)), None)
            case _:
                world.damage("embeddings", codec.place_key(row_of(image_id)[0]), None)
    found = verified()
    assert sorted(each.problem.split("'")[1] for each in found.faults.listed) == sorted(f"i{each}" for each in chosen)
    assert Trigger.MANIFEST not in found.explained
