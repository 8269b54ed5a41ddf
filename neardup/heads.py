"""The heads of all images, as a reader of `assignments` keeps them.

What a service began with, a first load, is one record there: its images and their heads are in the files of a manifest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping

import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from neardup.events import Assignment, LoadedManifest

__all__ = ["apply_change", "loaded_heads"]


def apply_change(heads: MutableMapping[str, str], change: Assignment, files: FileSystem | None = None) -> None:
    """Brings the heads by image up to date with a record, which must be above all before it (`Assignment.order`).

    Args:
        heads: Of the images that have one; a first load replaces all of them.
        change: The record.
        files: See `loaded_heads`.

    Raises:
        OSError: It is a first load, and a file of its manifest cannot be read.
    """
    if change.load is not None:
        heads.clear()
        heads.update(loaded_heads(change.load, files))
    elif change.head:
        heads[change.image_id] = change.head
    else:  # the image was deleted
        heads.pop(change.image_id, None)


def loaded_heads(load: LoadedManifest, files: FileSystem | None = None) -> Iterator[tuple[str, str]]:
    """Each image of a first load with its head, read as they are taken. Of an image that comes twice, the last counts.

    Args:
        load: The load, as the record names it.
        files: Where the folder of the load lies, for a store that needs more than its address; None: a path of this
            machine, or Amazon's S3 for `s3://BUCKET/PREFIX`, with credentials from the environment.

    Raises:
        OSError: A file is not there, or cannot be read. A path is one of the machine that loaded it.
    """
    if files is None:
        files, root = FileSystem.from_uri(load.folder)
    else:
        root = load.folder.rpartition("://")[2]
    with files.open_input_stream(f"{root}/manifests/{load.manifest}") as manifest:
        paths = [each["path"] for each in json.loads(manifest.read())["files"]]
    for path in paths:
        with pq.ParquetFile(f"{root}/{path}", filesystem=files) as rows:
            for batch in rows.iter_batches(columns=["image_id", "head"]):
                heads = zip(batch["image_id"].to_pylist(), batch["head"].to_pylist(), strict=True)
                # A row without a head is one of an image that comes again.
                yield from ((image_id, head) for image_id, head in heads if head is not None)
