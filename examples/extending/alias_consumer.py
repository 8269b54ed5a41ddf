"""A consumer that follows an alias: keeps the heads of the signal that it names, and switches when it moves.

python alias_consumer.py localhost:19092 neardup.aliases live
"""

import json
import sys

from kafka import KafkaConsumer, TopicPartition

from neardup.events import Assignment
from neardup.heads import apply_change


def read(bootstrap, topic):
    """Records as they come, and whether those are read that were there at first. A topic of one partition."""
    with KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([part := TopicPartition(topic, 0)])
        end = consumer.end_offsets([part])[part]
        while True:
            yield consumer.poll(timeout_ms=200).get(part, []), consumer.position(part) >= end


def heads_of(bootstrap, topic):
    """The heads of one signal as they change, and whether all that was there at first is in them."""
    heads, seen = {}, (0, 0)
    for records, caught_up in read(bootstrap, topic):
        for change in (Assignment.from_json(each.value) for each in records):
            if change.order > seen:  # records may come again after a restart
                seen = change.order
                apply_change(heads, change)  # of a first load, with the heads in the files of its manifest
        yield heads, caught_up


def follow(bootstrap, aliases, name):
    """The heads of the signal that the alias names; of the one before until the new ones have caught up."""
    current = coming = None
    for records, _ in read(bootstrap, aliases):
        for value in [each.value for each in records if each.key == name.encode() and each.value]:  # no value: dropped
            coming = heads_of(bootstrap, json.loads(value)["topics"]["assignments"])
        current, coming = (coming, None) if coming and next(coming)[1] else (current, coming)
        yield next(current)[0] if current else {}


if __name__ == "__main__":
    for heads in follow(*sys.argv[1:]):
        print(len(heads), "images,", len(set(heads.values())), "clusters")
