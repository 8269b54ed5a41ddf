"""Faults of replays, deletes and dead letters; see `benchmarks.chaos.faults`."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from kafka import KafkaProducer
from kafka.errors import KafkaError

from benchmarks.chaos.world import World
from core.errors import NeardupError
from core.replay_requests import MAX_REQUEST_BYTES, Lane, ReplayRequest, encode_request
from core.types import ImageId
from stream.data_folders import with_data
from stream.settings import Settings

__all__ = [
    "broken_requests",
    "killed_clients",
    "killed_settlement",
    "remade_requests",
    "replay_outage",
    "replays_in_search",
    "traced_share",
    "under_requests",
]


def replays_in_search(world: World) -> None:
    """The search server dies, several times, a moment after replays and deletes were sent to it."""
    for _ in range(3):
        world.requests.replay_unseen(12)
        if world.chance.random() < 0.5:
            world.requests.delete_and_replay(2)
        time.sleep(world.chance.uniform(0.0, 0.6))
        world.kill("photos-search")
        time.sleep(world.chance.uniform(1.0, 4.0))


def replay_outage(world: World) -> None:
    """While nothing can be scored, scored and unscored images are replayed; then some of them again."""
    world.switch.touch()
    try:
        for _ in range(3):
            world.requests.replay_unseen(20)
            world.requests.replay_unscored()
            time.sleep(world.chance.uniform(1.0, 8.0))
        world.requests.delete_and_replay(2)
        if world.chance.random() < 0.5:
            world.kill(world.chance.choice(["taskmanager", "photos-storage", "photos-search"]))
            time.sleep(world.chance.uniform(0.0, 10.0))
    finally:
        world.switch.unlink()
    world.requests.replay_unscored()


def broken_requests(world: World) -> None:
    """Records of `replay` that are no requests, in both lanes, with good ones between them."""
    image = ImageId("nobody-knows-it")
    known = encode_request(ReplayRequest(f"chaos-{time.time_ns()}", image))
    values = [
        None,
        b"",
        b"\x00\xff" * 40,
        b"[" * 10_000,
        b'{"request":"r"}',
        b'{"request":"","image_id":"x"}',
        b'{"request":"r","image_id":"x","force":"yes"}',
        b'{"request":"r","image_id":"\\ud800"}',
        b"x" * (MAX_REQUEST_BYTES + 1),
        known,
    ]
    access, topic = world.stack.settings.kafka_access("chaos"), world.stack.signal.topic("replay")
    with suppress(KafkaError, NeardupError):  # Kafka is down
        producer = KafkaProducer(**access.python_options(), max_block_ms=3_000)
        for value in world.chance.sample(values, len(values)):
            producer.send(topic, key=b"broken", value=value, partition=int(world.chance.choice(list(Lane))))
        producer.flush(timeout=10)
        producer.close(timeout=0)
        world.requests.replay_unseen(3)


def killed_settlement(world: World) -> None:
    """`dead-letters settle` is killed somewhere in its work."""
    program = world.program("dead-letters", "settle", "--reason", "unparsable", "--because", "chaos")
    _killed(program, world.chance.uniform(0.3, 4.0))


def killed_clients(world: World) -> None:
    """`replay` and `delete` are killed somewhere in their work, and given again: the replay goes on where it was."""
    ids = [row.image_id for _, row in world.flow.sent] or ["nobody"]
    chosen = list(dict.fromkeys(world.chance.choices(ids, k=40)))
    request = f"killed-{time.time_ns()}"
    named = [word for each in chosen for word in ("--id", each)]
    replay = world.program("replay", *named, "--force", "--request", request)
    _killed(replay, world.chance.uniform(0.5, 5.0))
    _killed(world.program("delete", *chosen[:5], "--reason", "chaos"), world.chance.uniform(0.5, 4.0))
    subprocess.run(replay, capture_output=True, check=False, timeout=400)


def _killed(program: list[str], after_s: float) -> None:
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        with suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
        process.kill()


def remade_requests(world: World) -> None:
    """The topic `replay` is deleted and made anew, with the job stopped or while it runs."""
    topic = world.stack.signal.topic("replay")
    if world.chance.random() < 0.5:
        world.neardup("job", "stop")
        world.stack.remake(topic)
        world.neardup("job", "start")
    else:
        world.stack.remake(topic)
    world.requests.replay_unseen(10)


def traced_share(world: World) -> None:
    """All images are traced from now on, or only those that ask for it."""
    world.traced.everyone = not world.traced.everyone
    world.traced.topic_lost()
    world.use(_with_share(world.stack.settings, 1.0 if world.traced.everyone else 0.0))


def _with_share(settings: Settings, share: float) -> Settings:
    name, signal = settings.signal()
    signal = signal.model_copy(update={"traces": replace(signal.traces, share=share)})
    changed = settings.model_copy(update={"signals": {**settings.signals, name: signal}})
    return with_data(changed, settings.data_dir)


@contextmanager
def under_requests(world: World, seconds: float = 1.0) -> Iterator[None]:
    """Inside, replays and deletes are asked for all the while; at the end the last one is answered."""
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            world.requests.delete_and_replay(3)
            world.requests.replay_unseen(3)
            time.sleep(seconds)

    thread = threading.Thread(target=ask, name="requests-beside", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
