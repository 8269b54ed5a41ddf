"""The faults, each a function of the world. Most return at once; what they broke comes back by itself, or it does not.

Which kinds there are:

    kill:PART        SIGKILL
    pause:PART       SIGSTOP for some seconds: a part that hangs
    supervisor       the supervisor is killed, then everything is started again
    broker-power     the broker is killed, its files are cut to what is durable
    power            all processes are killed, all files are cut to what is durable, or lose pages after that
    checkpoint       the newest checkpoint is damaged, the task manager killed
    isolation        some images cannot be scored: they are written so, or storage hangs and the task manager is killed
    submission       the job is cancelled, and the runner killed while it submits the next one
    marks            one bit of the file of read marks is turned
    junk             2,000 notifications that cannot be read
    replay-search    the search server is killed, three times, a moment after replays and deletes were sent
    replay-outage    images are replayed and deleted while nothing can be scored
    broken-requests  records of `replay` that cannot be read
    settlement       `dead-letters settle` is killed
    clients          `replay` and `delete` are killed, then given again
    renewed-log      the topic `joined` is deleted and made anew, the job goes on with the next log epoch
    gone-backlog     the job stops, retention removes what it has not read
    remade-topic     an embedding topic is deleted and made anew, while the job runs
    restored-index   an earlier snapshot takes the place of the index
    rebuilt-index    the folder of the index is lost, and built again from storage or from `joined`
    remade-replay    the topic `replay` is deleted and made anew, with the job stopped or while it runs
    traced-share     all parts start again with settings by which all images are traced, or no longer
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
from kafka import KafkaAdminClient, TopicPartition

from benchmarks.chaos.lane_faults import (
    broken_requests,
    killed_clients,
    killed_settlement,
    remade_requests,
    replay_outage,
    replays_in_search,
    traced_share,
    under_requests,
)
from benchmarks.chaos.world import PARTS, RESEND_S, World
from core.errors import ServiceError
from manifests.image_files import ImageRow
from stream.broker import Broker
from stream.local.processes import marked_processes
from tests.support.power_cut import kill_everything
from tests.support.stack import sample_rows
from tests.support.unscored import unscored_images

__all__ = ["CALM_FAULTS", "FAULTS", "Fault", "kill_supervisor"]

Fault = Callable[[World], None]


def _kill(part: str, world: World) -> None:
    world.kill(part)


def _pause(part: str, world: World) -> None:
    world.send_signal(part, signal.SIGSTOP)
    time.sleep(world.chance.uniform(1.0, 6.0))
    world.send_signal(part, signal.SIGCONT)


def kill_supervisor(world: World) -> None:
    """Kills it, and starts everything again."""
    supervisor = _supervisor_process(world)
    if supervisor is not None:
        supervisor.kill()
    time.sleep(world.chance.uniform(0.0, 3.0))
    world.up()


def _broker_power(world: World) -> None:
    """The supervisor is held, so that it does not start the broker on files that are still whole."""
    supervisor = _supervisor_process(world)
    broker = next((each.pid for each in world.stack.deployment.status() if each.name == "broker"), None)
    if supervisor is None or broker is None:
        return
    supervisor.send_signal(signal.SIGSTOP)
    try:
        process = psutil.Process(broker)
        process.kill()
        moment = time.monotonic()
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        world.durable.cut(world.data / "kafka", _zeroing(world))
    finally:
        supervisor.send_signal(signal.SIGCONT)
    world.flow.send_again(moment - RESEND_S)


def _power(world: World) -> None:
    moment = time.monotonic()
    kill_everything(world.data)
    world.durable.cut(zeroing=_zeroing(world))
    world.flow.send_again(moment - RESEND_S)
    world.up()


def _zeroing(world: World) -> random.Random | None:
    """Every other power cut leaves pages of zeros."""
    return world.chance if world.chance.random() < 0.5 else None


def _checkpoint(world: World) -> None:
    """Cuts a file of the newest checkpoint, or one that checkpoints share, to a half."""
    newest = world.job.snapshots.newest()
    if newest is None:
        return
    folder = newest.parent / "shared" if world.chance.random() < 0.5 else newest
    files = sorted(file for file in folder.glob("*") if file.is_file() and file.stat().st_size > 0)
    if files:
        _cut_to_half(world.chance.choice(files))
    world.kill(world.chance.choice(["taskmanager", "jobmanager"]))


def _cut_to_half(file: Path) -> None:
    try:
        os.truncate(file, file.stat().st_size // 2)
    except FileNotFoundError:
        return  # a newer checkpoint has replaced it


def _isolation(world: World) -> None:
    """Some images cannot be scored for a while: until one was written unscored, or until the job dies before that."""
    world.switch.touch()
    hanging = world.chance.choice([None, None, "photos-storage", "photos-search"])
    if hanging is not None:
        world.send_signal(hanging, signal.SIGSTOP)
        time.sleep(world.chance.uniform(5.0, 20.0))
        world.kill("taskmanager")
        world.send_signal(hanging, signal.SIGCONT)
    else:
        _await_unscored(world)
        world.kill(world.chance.choice(["taskmanager", "photos-search", "photos-storage"]))
    world.switch.unlink()


def _await_unscored(world: World) -> None:
    """Returns when one more image was written unscored, or after a minute, if too much else is broken."""
    before, until = _unscored(world), time.monotonic() + 60.0
    while time.monotonic() < until:
        now = _unscored(world)
        if before is None:
            before = now
        elif now is not None and now > before:
            return
        time.sleep(0.5)


def _unscored(world: World) -> int | None:
    """How many images storage has written unscored; None while it does not answer."""
    with world.stack.storage() as storage:
        try:
            return len(unscored_images(storage))
        except ServiceError:
            return None


def _submission(world: World) -> None:
    """The runner is killed somewhere in a submission, which goes on without it."""
    with suppress(ServiceError):  # without a job manager there is no job, and soon a submission
        state = world.job.state()
        if state is not None and state.live:
            world.job.flink.cancel(state.job_id)
    time.sleep(world.chance.uniform(1.0, 20.0))
    world.kill("photos-job")


def _marks(world: World) -> None:
    """The disk returns the file of read marks with one other byte."""
    file = world.stack.settings.signal_dir("photos", "job") / "read-marks"
    content = bytearray(file.read_bytes()) if file.exists() else bytearray()
    if content:
        content[world.chance.randrange(len(content))] ^= 1 << world.chance.randrange(8)
        file.write_bytes(content)
    world.kill(world.chance.choice(["photos-job", "taskmanager"]))


def _junk(world: World) -> None:
    """Notifications that cannot be read, at once."""
    junk = [(world.chance.randbytes(8), world.chance.randbytes(world.chance.randrange(200))) for _ in range(1000)]
    try:
        for side in ("search", "score"):
            world.stack.send_raw(world.stack.signal.topic(side), junk)
    except ServiceError:
        return  # Kafka is down


def _renewed_log(world: World) -> None:
    joined = world.stack.signal.topic("joined")
    world.neardup("job", "stop")
    world.calm.logs.append(world.stack.records(joined))
    world.stack.remake(joined)
    world.neardup("job", "start", refused=True)
    renewal = json.loads(world.neardup("log", "renew", "--json"))
    assert renewal["base"] == sum(len(log) for log in world.calm.logs)
    world.neardup("job", "start")


def _remade_topic(world: World) -> None:
    world.stack.remake(world.stack.signal.topic(world.chance.choice(["search", "score"])))


def _restored_index(world: World) -> None:
    """What came after the snapshot is read again from `joined`, replays and deletes among it."""
    world.note_unscored()
    name = f"chaos-{time.time_ns()}"
    world.neardup("index", "snapshot", name)
    rows = _new_rows()
    world.stack.publish(rows)
    with under_requests(world):
        world.stack.await_heads([row.image_id for row in rows])
        time.sleep(world.chance.uniform(0.0, 5.0))
    world.stack.deployment.down()
    world.neardup("index", "restore", name)
    world.up()


def _rebuilt_index(world: World) -> None:
    """The whole folder is gone, so the server begins with an empty index, until another is built."""
    world.note_unscored()
    # A log that was renewed has only the end of the order.
    source = "storage" if world.calm.logs else world.chance.choice(["storage", "joined"])
    shutil.rmtree(world.stack.settings.signal_dir("photos", "index"))
    world.kill("photos-search")
    time.sleep(world.chance.uniform(0.0, 10.0))
    with under_requests(world):
        world.neardup("index", "build", "--from", source)


def _gone_backlog(world: World) -> None:
    """What retention removes are these images, and the sender sends them again."""
    rows = _new_rows()
    world.neardup("job", "stop")
    world.stack.publish(rows)
    admin = KafkaAdminClient(bootstrap_servers=world.stack.settings.kafka.servers)
    with Broker(world.stack.settings.kafka_access("chaos")) as broker:
        for side in ("search", "score"):
            topic = world.stack.signal.topic(side)
            ends = broker.ends(topic)
            admin.delete_records({TopicPartition(topic, part): each.end for part, each in ends.items()})
    admin.close()
    world.neardup("job", "start", refused=True)
    world.neardup("job", "start", "--accept-loss")
    world.stack.publish(rows)


def _new_rows() -> list[ImageRow]:
    return [replace(row, image_id=f"{row.image_id}@{time.time_ns()}") for row in sample_rows(20)]


def _supervisor_process(world: World) -> psutil.Process | None:
    for process in marked_processes(world.data):
        if "supervisor.supervisord" in process.cmdline():
            return process
    return None


FAULTS: Mapping[str, tuple[int, Fault]] = {
    **{f"kill:{part}": (20, partial(_kill, part)) for part in PARTS},
    **{f"pause:{part}": (10, partial(_pause, part)) for part in PARTS},
    "supervisor": (8, kill_supervisor),
    "broker-power": (14, _broker_power),
    "power": (14, _power),
    "checkpoint": (28, _checkpoint),
    "isolation": (20, _isolation),
    "submission": (14, _submission),
    "marks": (6, _marks),
    "junk": (4, _junk),
    "replay-search": (14, replays_in_search),
    "replay-outage": (10, replay_outage),
    "broken-requests": (6, broken_requests),
    "settlement": (5, killed_settlement),
    "clients": (8, killed_clients),
}
"""For each kind: its share of a whole run, and what it does."""

CALM_FAULTS: Mapping[str, tuple[int, Fault]] = {
    "renewed-log": (4, _renewed_log),
    "gone-backlog": (4, _gone_backlog),
    "remade-topic": (4, _remade_topic),
    "restored-index": (4, _restored_index),
    "rebuilt-index": (4, _rebuilt_index),
    "remade-replay": (4, remade_requests),
    "traced-share": (4, traced_share),
}
"""Faults for when everything else has settled and nothing flows, because they stop parts by hand."""
