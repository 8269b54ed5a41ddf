"""The images among the dead letters: a server refused or failed on them, so they have their place and no score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from core.dead_letters import parse_dead_letter
from core.errors import BadInputError
from core.settlements import Kind, Settlement, ranges_of
from core.types import ImageId
from stream.dead_letters.choice import DeadLetterChoice, Settlements
from stream.dead_letters.halves import OF_IMAGES
from stream.topic_reader import TopicRecord

__all__ = ["CHUNK", "open_images", "settlements_of"]

CHUNK = 1_000
"""Dead letters that one settlement names, at most."""


def open_images(
    records: Iterable[TopicRecord], choice: DeadLetterChoice, settled: Settlements, joined_topic: str
) -> dict[ImageId, list[int]]:
    """The images with open dead letters of the order, and the offsets of these.

    Args:
        records: Of `dead-letter`, in order.
        choice: Which dead letters.
        settled: What is settled already.
        joined_topic: The order; an image of another topic has no place.
    """
    found: dict[ImageId, list[int]] = {}
    for record in records:
        try:
            dead = parse_dead_letter(record.value)
            image_id = ImageId(record.key.decode())
        except (BadInputError, UnicodeDecodeError):
            continue
        is_open = dead.reason in OF_IMAGES and record.offset not in settled
        if image_id and is_open and dead.source.topic == joined_topic and choice.takes(record, dead):
            found.setdefault(image_id, []).append(record.offset)
    return found


def settlements_of(
    images: Mapping[ImageId, Iterable[int]], decided: Iterable[ImageId], request: str
) -> Iterator[Settlement]:
    """What settles the dead letters of images that were decided again.

    Args:
        images: With the offsets of their dead letters.
        decided: Those that have a score now, or are gone.
        request: The id of the replay.
    """
    offsets = sorted(offset for image_id in decided for offset in images[image_id])
    for at in range(0, len(offsets), CHUNK):
        chunk = offsets[at : at + CHUNK]
        yield Settlement(Kind.REPLAYED, f"decided again by {request}", tuple(ranges_of(chunk)))
