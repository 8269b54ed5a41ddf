"""Which pairs are labelled."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import BadInputError
from search.hashing.terms import TermSettings
from search.ranking import Order, Ranking
from training.labelling import pair_list
from training.labelling.pair_list import all_pairs, listed_pairs, pictures_of, proposed_pairs

TERMS = TermSettings(dimension=16, seed=1, bits=64, groups=16, bits_per_group=4)
RANKING = Ranking(5, order=Order.OVERLAP, min_overlap=8)


def test_pictures_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert pictures_of(tmp_path) == {"a": tmp_path / "a.png", "b": tmp_path / "b.JPG"}
    (tmp_path / "a.webp").touch()
    with pytest.raises(BadInputError, match=r"a\.png and a\.webp in .* would have the same image id a"):
        pictures_of(tmp_path)


def test_folders_that_are_none_or_empty(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no folder"):
        pictures_of(tmp_path / "gone")
    with pytest.raises(BadInputError, match="has no picture"):
        pictures_of(tmp_path)


def test_all_pairs_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(all_pairs(["a", "b", "c"])) == [("a", "b"), ("a", "c"), ("b", "c")]
    monkeypatch.setattr(pair_list, "MAX_ALL_PAIRS", 2)
    with pytest.raises(BadInputError, match="3 pictures have 3 pairs, more than 2"):
        all_pairs(["a", "b", "c"])


def test_the_term_search_proposes_the_alike(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    vectors = random.normal(size=(20, 16)).astype(np.float32)
    vectors[10:] = vectors[:10] + 0.02 * random.normal(size=(10, 16)).astype(np.float32)
    images = [f"i{number:02}" for number in range(20)]
    file = tmp_path / "embeddings.parquet"
    pq.write_table(
        pa.table({"image_id": [*images[::-1], "more"], "search": [*vectors[::-1].tolist(), [0.0] * 16]}), file
    )
    pairs = proposed_pairs(images, file, TERMS, RANKING)
    assert {(f"i{number:02}", f"i{number + 10:02}") for number in range(10)} <= set(pairs)
    assert len(pairs) == len(set(pairs)) < 190
    with pytest.raises(BadInputError, match="lacks 1 of 21 pictures, the first is new"):
        proposed_pairs([*images, "new"], file, TERMS, RANKING)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_listed_pairs(tmp_path: Path, ending: str) -> None:
    images = {name: Path(name) for name in "abc"}
    file = tmp_path / f"pairs.{ending}"

    def write(columns: dict[str, list[str]]) -> None:
        if ending == "parquet":
            pq.write_table(pa.table(columns), file)
        else:
            rows = zip(*columns.values(), strict=True)
            file.write_text("\n".join([",".join(columns), *(",".join(row) for row in rows)]) + "\n")

    write({"image_a": ["a", "b"], "image_b": ["c", "a"], "other": ["x", "y"]})
    assert listed_pairs(file, images) == ([("a", "c"), ("b", "a")], images)
    write({"image_a": ["a", "b"], "image_b": ["c", "d"]})
    with pytest.raises(BadInputError, match=r"pair 2 of .* names 'd', which is neither a picture's id nor its path"):
        listed_pairs(file, images)
    write({"image_a": ["a"], "other": ["b"]})
    with pytest.raises(BadInputError, match="lacks the column 'image_b'; it has image_a, other"):
        listed_pairs(file, images)


def test_a_list_may_name_paths(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("x.png", "sub/y.JPG", "sub/x.png", "note.txt"):
        (tmp_path / name).touch()
    file = tmp_path / "pairs.csv"
    absolute = tmp_path / "sub" / "y.JPG"
    file.write_text(f"image_a,image_b\nx.png,{absolute}\nsub/y.JPG,known\nx,known\n")
    with pytest.raises(BadInputError, match=r"pair 3 of .* names 'x', which is neither"):
        listed_pairs(file, {"known": Path("k.png")})
    file.write_text(f"image_a,image_b\nx.png,{absolute}\nsub/y.JPG,known\n")
    pairs, images = listed_pairs(file, {"known": Path("k.png")})
    assert pairs == [("x", "y"), ("y", "known")]
    assert images == {"known": Path("k.png"), "x": tmp_path / "x.png", "y": absolute}
    for entry, message in (("sub/x.png", "has the same image id x"), ("note.txt", "neither a picture's id nor its")):
        file.write_text(f"image_a,image_b\nx.png,{entry}\n")
        with pytest.raises(BadInputError, match=message):
            listed_pairs(file, {})


def test_lists_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_text("no parquet")
    for name in ("bad.parquet", "gone.csv", "gone.parquet"):
        with pytest.raises(BadInputError, match="cannot be read"):
            listed_pairs(tmp_path / name, {})


def test_a_picture_whose_name_is_not_utf8_is_named_and_skipped(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    for name in ("one.png", odd, "two.png"):
        (tmp_path / name).write_bytes(b"a picture")
    skipped: list[Path] = []
    assert list(pictures_of(tmp_path, skipped.append)) == ["one", "two"]
    assert [path.name for path in skipped] == [odd]
