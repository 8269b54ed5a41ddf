"""What goes in and comes out on Kafka: notifications of embeddings, and the changes of heads in `assignments`.

A producer sends two records for each version of an image, one to each embedding topic:

>>> record = notification("cat-1", [0.5, -0.25], embedding="mobilenet_v2_1.0_224", model_version="1")
>>> EmbeddingNotification.FromString(record).image_id
'cat-1'
>>> record_key("cat-1")
b'cat-1'
>>> record_headers()
[('content-type', b'application/x-protobuf'), ('schema-version', b'1')]

A consumer of `assignments` reads one change of a head from each record. It drops a record whose history number it has
seen: a record may come again, but never out of order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from neardup.answers import VerdictVersions
from neardup.events_pb2 import FLOAT16, FLOAT32, ElementType, EmbeddingNotification
from neardup.records import known_values

__all__ = [
    "CONTENT_TYPE",
    "SCHEMA_VERSION",
    "Assignment",
    "ElementType",
    "EmbeddingNotification",
    "notification",
    "record_headers",
    "record_key",
]

CONTENT_TYPE = "application/x-protobuf"
"""Of a notification's bytes."""

SCHEMA_VERSION = 1
"""Of `neardup.events.v1`; within it fields are only added."""

MAX_ID_BYTES = 256
"""The longest image id, in bytes of UTF-8."""

MAX_IMAGE_VERSION = 2**53 - 1
"""The highest image version; readers of JSON that use float64 keep whole numbers up to here."""


def notification(
    image_id: str,
    vector: ArrayLike,
    *,
    embedding: str,
    model_version: str,
    image_version: int = 0,
    created_at_ms: int = 0,
    trace: bool = False,
) -> bytes:
    """One embedding of one image version, as the value of a Kafka record. Equal arguments give equal bytes.

    Whether the numbers are finite, and as many as the signal expects, is checked by the service: what fails goes to
    the topic `dead-letter`.

    Args:
        image_id: 1 to 256 bytes in UTF-8.
        vector: The numbers, in one dimension. A float16 array is sent as it is, all others as float32.
        embedding: The name of the embedding in the signal's settings.
        model_version: The version of the network that made it.
        image_version: Raised when the image changes; the same for both embeddings; 0 to 2^53 - 1.
        created_at_ms: When the image was made, in milliseconds since the epoch; 0: not known.
        trace: Asks for a trace: what the verdict rests on, in the topic `debug`.

    Raises:
        ValueError: The id is empty or too long, the version or a number is out of range, or the vector has no numbers
            or more than one dimension.
    """
    if not 0 < len(record_key(image_id)) <= MAX_ID_BYTES:
        raise ValueError(f"an image id has 1 to {MAX_ID_BYTES} bytes in UTF-8, this one has {len(image_id.encode())}")
    if not 0 <= image_version <= MAX_IMAGE_VERSION:
        raise ValueError(f"an image version is a number from 0 to {MAX_IMAGE_VERSION}, this one is {image_version}")
    numbers = np.asarray(vector)
    if numbers.ndim != 1 or numbers.size == 0:
        raise ValueError(f"a vector is one row of numbers, this one has the shape {numbers.shape}")
    half = numbers.dtype.kind == "f" and numbers.dtype.itemsize == 2
    return EmbeddingNotification(
        image_id=image_id,
        image_version=image_version,
        embedding=embedding,
        model_version=model_version,
        element_type=FLOAT16 if half else FLOAT32,
        vector=numbers.astype("<f2" if half else "<f4").tobytes(),
        created_at_ms=created_at_ms,
        trace=trace,
    ).SerializeToString(deterministic=True)


def record_key(image_id: str) -> bytes:
    """The key of every record about an image: all records of one image lie in one partition, in order."""
    return image_id.encode()


def record_headers(traceparent: str | None = None) -> list[tuple[str, bytes]]:
    """The headers of a notification.

    Args:
        traceparent: The W3C trace context, where the image is part of a trace.
    """
    headers = [("content-type", CONTENT_TYPE.encode()), ("schema-version", str(SCHEMA_VERSION).encode())]
    return headers if traceparent is None else [*headers, ("traceparent", traceparent.encode())]


@dataclass(frozen=True, slots=True)
class LoadedManifest:
    """What a store began with: the images and their heads are in the Parquet files of this manifest."""

    folder: str
    """Where it lies: a path or a URI."""
    manifest: str
    """Its name in the folder `manifests` there."""
    manifest_id: str
    """Its content id."""
    first_number: int
    """The first history number of the load; the number of the record is the last."""
    rows: int
    images: int
    """Rows that a later one of the same image takes the place of are none."""
    clusters: int

    @classmethod
    def from_json(cls, data: Any) -> LoadedManifest | None:
        """Reads the part of a record; None where there is none."""
        return None if data is None else cls(**known_values(cls, data))


@dataclass(frozen=True, slots=True)
class Assignment:
    """One change of a head: a record of the topic `assignments`. Times are milliseconds since the epoch."""

    epoch: int
    """Higher for each store that is new or restored: then numbers begin again. 0 in records of release 0.1."""
    store_id: str
    """A random id of the store's epoch; "" in records of release 0.1."""
    history_number: int
    """1, 2, 3, ... within an epoch. Order records by `order`."""
    image_id: str
    head: str
    """The image that names the cluster from now on; empty: the image was deleted."""
    old_head: str | None
    """The head before; None for a new image."""
    cause: str
    """founded, matched, adopted, kept, unscored, deleted, pinned, parted, renamed, bootstrapped or forgotten."""
    score: float | None
    """Of the match that decided, from 0 to 1; None without one."""
    matched: str | None
    """The image that it matched; None without one."""
    place: int
    """Position of the image version's first record in the order."""
    offset: int
    """Position of the record that caused the change."""
    version: int
    """Of the image."""
    created_at_ms: int
    """When the image was made; 0: not known."""
    arrived_at_ms: int
    """When its second half reached Kafka."""
    decided_at_ms: int
    versions: VerdictVersions
    truncated: bool
    """The search reached the bound on its work: younger images were no candidates."""
    override: int | None = None
    """The number of the override that made the change; None: a record of the order did."""
    load: LoadedManifest | None = None
    """A first load, which has all numbers up to this one; then `image_id` and `head` are empty. None: one change."""

    @property
    def order(self) -> tuple[int, int]:
        """Epoch and number. A record that is not above all before it came again, or is one of a store that is gone."""
        return self.epoch, self.history_number

    @classmethod
    def from_json(cls, value: bytes | str) -> Assignment:
        """Reads the value of a record. Unknown keys are ignored.

        >>> Assignment.from_json(b'{"image_id": "cat-2"}')
        Traceback (most recent call last):
        ValueError: no record of assignments: the key 'history_number' is missing

        Raises:
            ValueError: The value is no JSON object, or a key is missing or of another type.
        """
        try:
            return cls._of(json.loads(value))
        except KeyError as error:
            raise ValueError(f"no record of assignments: the key {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"no record of assignments: {error}") from error

    @classmethod
    def _of(cls, data: dict[str, Any]) -> Assignment:
        if "cut" in data:
            # Records of release 0.1 stay in the topic for a month, and call it so.
            data = {"truncated": data["cut"], **data}
        data = {"epoch": 0, "store_id": "", "override": None, "load": None, **data}
        return cls(
            **known_values(
                cls,
                data,
                epoch=int,
                history_number=int,
                versions=VerdictVersions.from_json,
                load=LoadedManifest.from_json,
            )
        )
