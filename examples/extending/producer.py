"""A producer: sends the two embeddings of one image, with kafka-python and `neardup.events` alone.

python producer.py localhost:19092 neardup.photos.
"""

import sys

import numpy as np
from kafka import KafkaProducer

from neardup.events import notification, record_headers, record_key


def send(producer: KafkaProducer, prefix: str, image_id: str, search: np.ndarray, score: np.ndarray) -> None:
    halves = {
        "embeddings.search": notification(image_id, search, embedding="mobilenet_v2_1.0_224", model_version="1"),
        "embeddings.score": notification(image_id, score, embedding="mobilenet_v1_0.75_192", model_version="1"),
    }
    for topic, value in halves.items():
        producer.send(prefix + topic, value=value, key=record_key(image_id), headers=record_headers())
    producer.flush()  # returns when the broker has both


if __name__ == "__main__":
    bootstrap, prefix = sys.argv[1:]
    random = np.random.default_rng()
    with KafkaProducer(bootstrap_servers=bootstrap, acks="all") as kafka:
        send(kafka, prefix, "my-first-image", random.standard_normal(1280, "f4"), random.standard_normal(768, "f4"))
