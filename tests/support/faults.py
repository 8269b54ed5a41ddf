"""Images flow while parts are killed; afterwards everything must be as if nothing had happened."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from core.access import Right
from core.delete_requests import DeleteRequest
from core.errors import NeardupError
from core.replay_requests import ReplayRequest
from core.types import ImageId
from manifests.image_files import ImageRow
from storage.serving.order_writer import OrderWriter
from storage.serving.publisher import KafkaSender
from stream.broker import Broker
from stream.deletes import DeleteFate, DeleteReport, check_log, delete_images
from stream.replay.choice import ReplaySelection
from stream.replay.service import ReplayService
from stream.settings import Settings
from tests.support.calm import Held, calm_service
from tests.support.stack import Stack

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


def check_calm(stack: Stack, folder: Path, sent: Collection[str] = ()) -> Held:
    """Checks a stack after its storms against a service without any: see `tests.support.calm`.

    Args:
        stack: At rest, with the topic `joined` that it began with.
        folder: For the servers of the calm run.
        sent: Images that must be there.

    Raises:
        AssertionError: Something is lost, or differs from the calm run.
    """
    with calm_service(folder) as calm:
        return calm.check(stack, sent)


def replay_and_delete(stack: Stack, replayed: Sequence[ImageId], doomed: Sequence[ImageId], rounds: int) -> None:
    """Replays images by force and deletes others, whatever fails meanwhile: what fails is asked for again.

    Args:
        stack: Whose parts may be killed.
        replayed: Images that are replayed in each round.
        doomed: Images of which each round deletes a part.
        rounds: How many.
    """
    settings, name = stack.settings, stack.signal_name
    for number in range(rounds):
        wanted = ReplayRequest(f"storm-{number}", ImageId(""), force=True, bulk=True)
        _insist(lambda wanted=wanted: _replay(settings, name, wanted, replayed))
        part = [DeleteRequest(each, f"storm-{number}", reason="storm") for each in doomed[number::rounds]]
        _insist(lambda part=part: _delete(settings, name, part))


def _replay(settings: Settings, name: str, wanted: ReplayRequest, ids: Sequence[ImageId]) -> None:
    with ReplayService(settings, name, Right.WRITE) as service:
        pages = service.images(ReplaySelection(ids), lambda done, total: None)
        done = service.send(pages, wanted, resumed=True, keep_old=False, on_look=lambda progress: None)
    assert done.sent == done.applied == len(ids)


def _delete(settings: Settings, name: str, requests: Sequence[DeleteRequest]) -> None:
    topic, access = settings.signal(name)[1].topic("joined"), settings.kafka_access("storm")
    report = DeleteReport()
    with (
        ReplayService(settings, name, Right.WRITE) as service,
        closing(OrderWriter(partial(KafkaSender, access.python_options(), topic), service.storage.require_kinds)) as to,
    ):
        with Broker(access) as broker:
            check_log(service.storage, topic, broker.topic_id(topic))
        delete_images(requests, to, service.storage, report)
    assert set(report.fates.values()) <= {DeleteFate.DELETED, DeleteFate.BEFORE}


def _insist(call: Callable[[], None], patience_s: float = 300.0) -> None:
    until = time.monotonic() + patience_s
    while True:
        try:
            return call()
        except NeardupError:
            if time.monotonic() > until:
                raise
            time.sleep(1.0)


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
