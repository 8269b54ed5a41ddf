"""A consumer: reads `assignments` from its beginning and keeps the head of every image.

python consumer.py localhost:19092 neardup.photos.assignments
"""

import sys
from collections.abc import Iterable

from kafka import KafkaConsumer

from neardup.events import Assignment


def newest_heads(values: Iterable[bytes]) -> dict[str, str]:
    heads: dict[str, str] = {}
    seen = (0, 0)
    for value in values:
        change = Assignment.from_json(value)
        if change.order <= seen:  # records may come again after a restart
            continue
        seen = change.order
        if change.load is None:  # of a first load, the heads are in the files of its manifest
            heads[change.image_id] = change.head
            if not change.head:  # the image was deleted
                del heads[change.image_id]
    return heads


if __name__ == "__main__":
    bootstrap, topic = sys.argv[1:]
    # Without a group, each run reads the whole topic; it ends when no record came for a while.
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=5_000
    )
    for image, head in newest_heads(record.value for record in consumer).items():
        print(image, head)
