"""Images flow while parts are killed; afterwards everything must be as if nothing had happened."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.protos.joined_pb2 import JoinedRecord
from stream.broker import Broker
from stream.image_files import ImageRow
from tests.support.sequence import run_sequence, servers
from tests.support.stack import Stack, eventually
from tests.support.unscored import last_seen_by, unscored_places

VICTIMS = ("photos-search", "photos-scorer", "photos-storage", "taskmanager", "broker", "jobmanager")
"""The parts that are killed; the job runner only watches."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: what, how long after the kill before, and how long until the part was ready again."""

    part: str
    pause_s: float
    back_s: float


def kill_while_flowing(
    stack: Stack,
    rows: Sequence[ImageRow],
    rate: float,
    rounds: int,
    seed: int,
    tell: Callable[[Kill], None] = lambda kill: None,
) -> list[Kill]:
    """Publishes rows at a rate, over and over under new ids if need be, until every part was killed `rounds` times.

    Returns when every published image has a head. Kills come in a seeded random order, at seeded random moments, the
    next one often before the part behind it has caught up.
    """
    chance = random.Random(seed)
    victims = [part for part in VICTIMS for _ in range(rounds)]
    chance.shuffle(victims)
    stop = threading.Event()
    published: list[ImageRow] = []
    flow = threading.Thread(target=_flow, args=(stack, rows, rate, stop, published))
    flow.start()
    kills = []
    try:
        for part in victims:
            pause_s = chance.uniform(1.0, 4.0)
            time.sleep(pause_s)
            started = time.monotonic()
            stack.deployment.kill(part)
            time.sleep(chance.uniform(0.5, 2.0))
            stack.deployment.wait_ready([part], timeout_s=180)
            kills.append(Kill(part, pause_s, time.monotonic() - started))
            tell(kills[-1])
    finally:
        stop.set()
        flow.join()
    stack.await_count(len(published), timeout_s=600)
    return kills


@dataclass(frozen=True, slots=True)
class Held:
    """What a stack holds after its storms."""

    images: int
    unscored: int


def check_calm(
    stack: Stack,
    folder: Path,
    earlier: Sequence[Sequence[bytes]] = (),
    sent: Collection[str] = (),
    seen: Mapping[int, int] | None = None,
) -> Held:
    """Checks a stack after its storms.

    Args:
        stack: At rest.
        folder: For the servers of the calm run.
        earlier: Records of earlier topics `joined`, the oldest first.
        sent: Images that must be there.
        seen: The last position that finds each unscored image, by its place, as far as it is known from before the
            index was replaced.

    Raises:
        AssertionError: A published image has no head, law 2 is broken, the published changes are out of order or
            incomplete, an unscored image has no dead letter or can be found, or heads differ from those of a run
            without kills on the same order of `joined`, in which the same images are unscored.
    """
    with Broker(stack.settings.kafka_access("test")) as broker:
        log_id = broker.topic_id(stack.signal.topic("joined"))
    logs = [*earlier, stack.records(stack.signal.topic("joined"))]
    order = [record for log in logs for record in log]
    ids = {JoinedRecord.FromString(value).image.image_id for value in order}
    assert ids >= set(sent)
    heads = stack.heads(ids)
    assert set(heads) == ids
    assert stack.problems() == []
    eventually(
        lambda: _published(stack) == heads or None, 30, lambda: "the published changes do not lead to the store's heads"
    )
    unscored = unscored_places(stack, logs)
    unseen = last_seen_by(stack, unscored, "calm-check")
    with servers(folder) as calm:
        run_sequence(
            order, log_id, calm, batch=64, unscored={place: place for place in unscored} | unseen | dict(seen or {})
        )
        assert calm.heads(ids) == heads
    return Held(len(ids), len(unscored))


def _published(stack: Stack) -> dict[str, str]:
    """The head of each image after all published changes, which may come twice, but not out of order.

    Numbers begin again with each epoch of the store, and what an earlier epoch said no longer counts.
    """
    epoch = seen = 0
    heads: dict[str, str] = {}
    for change in stack.assignments():
        if change["epoch"] > epoch:
            epoch, seen, heads = change["epoch"], 0, {}
        number = change["history_number"]
        assert number <= seen + 1, f"change {number} follows {seen}"
        if change["epoch"] == epoch and number == seen + 1:
            seen = number
            heads[change["image_id"]] = change["head"]
    return heads


def _flow(
    stack: Stack, rows: Sequence[ImageRow], rate: float, stop: threading.Event, published: list[ImageRow]
) -> None:
    def endless() -> Iterator[ImageRow]:
        while True:
            for row in rows:
                if stop.is_set():
                    return
                turn = len(published) // len(rows)
                fresh = row if turn == 0 else ImageRow(f"{row.image_id}~{turn}", 1, 0, row.search, row.score)
                published.append(fresh)
                yield fresh

    stack.publish(endless(), rate=rate)
