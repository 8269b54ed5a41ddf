"""A consumer: reads `assignments` from its beginning and keeps the head of every image.

python consumer.py localhost:19092 neardup.photos.assignments
"""

import sys
from collections.abc import Iterable

from kafka import KafkaConsumer

from neardup.events import Assignment
from neardup.heads import apply_change


def newest_heads(values: Iterable[bytes]) -> dict[str, str]:
    heads: dict[str, str] = {}
    seen = (0, 0)
    for value in values:
        change = Assignment.from_json(value)
        if change.order <= seen:  # records may come again after a restart
            continue
        seen = change.order
        apply_change(heads, change)  # of a first load, with the heads in the files of its manifest
    return heads


if __name__ == "__main__":
    bootstrap, topic = sys.argv[1:]
    # Without a group, each run reads the whole topic; it ends when no record came for a while.
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=5_000
    )
    for image, head in newest_heads(record.value for record in consumer).items():
        print(image, head)
