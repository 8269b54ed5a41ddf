"""Which pairs of pictures are labelled: those of a list, or all likely ones of a folder.

A folder of n pictures has n (n - 1) / 2 pairs. Up to a limit all of them are labelled. Above it, only candidates of the
term search are, which needs the pictures' search embeddings.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import BadInputError
from search.hashing.terms import TermSettings
from search.ranking import Ranking
from training.candidates import rank_candidates

__all__ = ["MAX_ALL_PAIRS", "all_pairs", "listed_pairs", "pictures_of", "proposed_pairs"]

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Files with other endings are ignored."""

MAX_ALL_PAIRS = 100_000
"""A folder with more pairs needs embeddings. This limit takes some tens of minutes on one core."""

MAX_LISTED_PAIRS = 20_000_000

PROPOSED = 100
"""Pictures that share the most terms with one, at most: there are no score codes yet whose distance could choose."""

Pair = tuple[str, str]


def pictures_of(folder: Path, skipped: Callable[[Path], None] = lambda path: None) -> dict[str, Path]:
    """The pictures directly in a folder by image id (the file name without its ending), sorted.

    Args:
        folder: Where they are.
        skipped: Called with each picture whose name is not UTF-8, and so is no image id.

    Raises:
        BadInputError: There is no such folder, it has no picture, or two pictures have one id.
    """
    if not folder.is_dir():
        raise BadInputError(f"there is no folder {folder}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        if not _is_text(path.stem):
            skipped(path)
            continue
        if path.stem in found:
            raise BadInputError(
                f"{found[path.stem].name} and {path.name} in {folder} would have the same image id {path.stem}"
            )
        found[path.stem] = path
    if not found:
        raise BadInputError(f"{folder} has no picture with one of the endings {', '.join(sorted(SUFFIXES))}")
    return found


def _is_text(name: str) -> bool:
    """Whether a file's name is UTF-8; Python keeps other bytes as lone surrogates."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def all_pairs(images: Sequence[str]) -> Iterator[Pair]:
    """Every pair once.

    Raises:
        BadInputError: There are more than `MAX_ALL_PAIRS`.
    """
    count = len(images) * (len(images) - 1) // 2
    if count > MAX_ALL_PAIRS:
        raise BadInputError(
            f"{len(images)} pictures have {count} pairs, more than {MAX_ALL_PAIRS}: give a Parquet file with their "
            "search embeddings, so that the term search finds the likely ones"
        )
    return combinations(images, 2)


def proposed_pairs(images: Sequence[str], embeddings: Path, terms: TermSettings, ranking: Ranking) -> list[Pair]:
    """Each picture with the `PROPOSED` others that share the most terms with it; each pair once, sorted.

    Args:
        images: Ids of the pictures.
        embeddings: Parquet with the columns `image_id` and `search`; other images in it are ignored.
        terms: How terms are made.
        ranking: Says how many terms a pair must share.

    Raises:
        BadInputError: The file cannot be read or lacks a column or an image.
    """
    table = _parquet(embeddings, ("image_id", "search"))
    rows = {image: row for row, image in enumerate(table["image_id"].to_pylist())}
    lacking = [image for image in images if image not in rows]
    if lacking:
        raise BadInputError(f"{embeddings} lacks {len(lacking)} of {len(images)} pictures, the first is {lacking[0]}")
    vectors = table["search"].take(pa.array([rows[image] for image in images])).to_pylist()
    if {len(vector or ()) for vector in vectors} != {terms.dimension}:
        raise BadInputError(
            f"vectors of the column 'search' of {embeddings} do not all have {terms.dimension} elements"
        )
    found = rank_candidates(terms.build().terms(np.array(vectors, dtype=np.float32)), None, ranking, PROPOSED)
    pairs = zip(found.images.tolist(), found.others.tolist(), strict=True)
    return [(images[one], images[other]) for one, other in sorted({(min(pair), max(pair)) for pair in pairs})]


def listed_pairs(file: Path, images: Mapping[str, Path]) -> tuple[list[Pair], dict[str, Path]]:
    """The pairs of a CSV or Parquet file with the columns `image_a` and `image_b`.

    Args:
        file: Its ending says which of the two it is. Each entry is the id of a picture, or its path: absolute, or
            relative to the folder of this file.
        images: The pictures with known ids.

    Returns:
        Pairs of ids, and all pictures, also those that the list names by path (id: the file name without its ending).

    Raises:
        BadInputError: The file cannot be read, lacks a column, is too long, or an entry is no picture or not unique.
    """
    pairs = _pairs_of_parquet(file) if file.suffix.lower() == ".parquet" else _pairs_of_csv(file)
    if len(pairs) > MAX_LISTED_PAIRS:
        raise BadInputError(f"{file} lists {len(pairs)} pairs, at most {MAX_LISTED_PAIRS} are possible")
    known, ids = dict(images), {image: image for image in images}
    for number, pair in enumerate(pairs, start=1):
        for entry in pair:
            if entry not in ids:
                ids[entry] = _named_by_path(entry, f"pair {number} of {file}", file.parent, known)
    return [(ids[one], ids[other]) for one, other in pairs], known


def _named_by_path(entry: str, where: str, folder: Path, known: dict[str, Path]) -> str:
    """The id of a picture that a list names by its path; the picture is added to `known`."""
    path = folder / entry
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise BadInputError(f"{where} names {entry!r}, which is neither a picture's id nor its path ({path})")
    before = known.setdefault(path.stem, path)
    if before.resolve() != path.resolve():
        raise BadInputError(f"{where} names {path}, but {before} has the same image id {path.stem}")
    return path.stem


def _pairs_of_csv(file: Path) -> list[Pair]:
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or []
            for name in ("image_a", "image_b"):
                if name not in columns:
                    raise BadInputError(f"{file} lacks the column {name!r}; it has {', '.join(columns) or 'none'}")
            return [(row["image_a"] or "", row["image_b"] or "") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"the list of pairs {file} cannot be read: {error}") from error


def _pairs_of_parquet(file: Path) -> list[Pair]:
    table = _parquet(file, ("image_a", "image_b"))
    left, right = (table[name].to_pylist() for name in ("image_a", "image_b"))
    return [(str(one or ""), str(other or "")) for one, other in zip(left, right, strict=True)]


def _parquet(file: Path, columns: Sequence[str]) -> pa.Table:
    try:
        names = pq.read_schema(file).names
        for name in columns:
            if name not in names:
                raise BadInputError(f"{file} lacks the column {name!r}; it has {', '.join(names)}")
        return pq.read_table(file, columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise BadInputError(f"{file} cannot be read as Parquet: {error}") from error
