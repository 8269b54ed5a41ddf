"""kill -9 of a storage server in the middle of a delta, ten times: the store says in the end what it would anyway."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from core.errors import MismatchError, ServiceError
from core.first_loads import LoadRequest, LoadState
from core.manifest_rows import RowResult
from core.overrides import JOB_KINDS
from core.types import ImageId
from manifests.manifest import Manifest
from storage.loading.run import run_load
from storage.records import RowExample
from storage.rocks.store import RocksStore
from storage.serving.client import StorageClient
from storage.verify import verify
from tests.support.file_topic import read_topic
from tests.support.loadable import (
    LOADED_LOG,
    LoadableRow,
    Patient,
    kept_load,
    load_settings,
    random_rows,
    write_manifest,
)
from tests.support.member_job import decide
from tests.support.ports import free_ports
from tests.support.store_writer import SMALL

ROOT = Path(__file__).parents[3]
FIRST, ROWS, KILLS = 60, 600, 10

SERVE = """
import logging, sys
from pathlib import Path
from core.access import Access, Right
from core.errors import UnavailableError
from core.rpc import Listen
from storage.serving import delta_run, server
from tests.support.file_topic import FileSender
from tests.support.loadable import load_settings

folder, topic = map(Path, sys.argv[1:3])
port, page, api = map(int, sys.argv[3:])
logging.basicConfig(level=logging.INFO)
delta_run.WAIT_FIRST_S = 0.05


def sender(kafka, name, *partition):
    if name != "joined":
        raise UnavailableError("there is no such topic")
    return FileSender(topic)


server.KafkaSender = sender
server.serve(
    server.StorageServerSettings(
        listen=Listen("127.0.0.1", port, page, 1 << 22, access=Access(anyone=frozenset(Right))),
        folder=folder,
        api_host="127.0.0.1",
        api_port=api,
        max_page=100,
        kafka={"bootstrap_servers": "none"},
        assignments_topic="assignments",
        joined_topic="joined",
        replay_topic="replay",
        dead_letter_topic="dead-letter",
        max_message_bytes=1_048_576,
        identity="photos",
        load=load_settings,
    )
)
"""


class Deployment:
    """A store that began with a manifest, the processes that serve it, and a job that decides what is in the order."""

    def __init__(self, folder: Path, root: Path, first: Manifest) -> None:
        self.store, self.topic, self.log = folder / "store", folder / "joined", folder / "log"
        self.ports = free_ports(3)
        self.process: subprocess.Popen[bytes] | None = None
        self.client = StorageClient(f"127.0.0.1:{self.ports[0]}", 5.0, 1 << 22)
        folder.mkdir()
        with closing(RocksStore(self.store, "photos", SMALL)) as store:
            kept = kept_load(root, first)
            run_load(kept, store, load_settings(), Patient(kept))
            store.swap(LOADED_LOG)

    def start(self) -> None:
        """The next process; nobody waits until it answers."""
        command = [sys.executable, "-c", SERVE, str(self.store), str(self.topic), *map(str, self.ports)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=log)

    def kill(self) -> None:
        """It ends at once, whatever it does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def work(self, most: int) -> int:
        """The job decides what lies in the order, at most so many records; returns how many. A server may be away."""
        with suppress(ServiceError, MismatchError):
            at = self.client.describe()
            done = at.offset + 1 - FIRST
            fresh = list(read_topic(self.topic))[done : done + most]
            decisions = decide(fresh, at.offset + 1, self.known)
            self.client.apply(LOADED_LOG, decisions, at.offset, at.revision, JOB_KINDS)
            return len(fresh)
        return 0

    def known(self, image_id: ImageId) -> tuple[int, ImageId] | None:
        """Version and head of an image."""
        found = self.client.look_up([image_id]).memberships.get(image_id)
        return None if found is None else (found.version, found.head)

    def load(self, request: LoadRequest) -> None:
        """Asks for a delta until it is accepted."""
        end = time.monotonic() + 60
        while True:
            with suppress(ServiceError):
                self.client.load(request)
                return
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)

    def work_until(self, request: LoadRequest, rows: int, most: int) -> bool:
        """The job works until so many rows are applied; returns whether all are."""
        end = time.monotonic() + 120
        while True:
            assert time.monotonic() < end, self.log.read_text()
            if not self.work(most):
                time.sleep(0.01)
            with suppress(ServiceError):
                report = self.client.load_status(request.manifest_id)
                assert report is not None
                assert report.state in (LoadState.LOADING, LoadState.WAITING, LoadState.LIVE), report
                if report.state is LoadState.LIVE or report.rows_done >= rows:
                    return report.state is LoadState.LIVE

    def said(self, request: LoadRequest) -> Said:
        """What the store says at last. Where a row lies in the order depends on how often others were written."""
        with closing(RocksStore(self.store, "photos", SMALL)) as store, store.snapshot() as view:
            assert [progress.problems for progress in verify(view)][-1] == ()
            progress = view.delta(request.manifest_id)
            assert progress is not None
            images = {each.image_id: (each.version, each.head, each.cause, each.score) for each in view.images()}
            history = [(each.image_id, each.old_head, each.new_head, each.cause) for each in view.history_from(0)]
            return Said(images, history, progress.state, dict(progress.counts), progress.examples)


class Said(NamedTuple):
    images: dict[ImageId, tuple[object, ...]]
    history: list[tuple[object, ...]]
    state: LoadState
    counts: dict[RowResult, int]
    examples: tuple[RowExample, ...]


def delta_rows(first: list[LoadableRow]) -> list[LoadableRow]:
    """New images in old and new clusters, old ones again, newer versions, and some whose head is nowhere."""
    dice, fresh = random.Random(11), random_rows(12, ROWS, again=0.05)
    heads = [row.image_id for row in first if row.head == row.image_id]
    rows = [replace(row, image_id=name(row.image_id), head=row.head and name(row.head)) for row in fresh]
    rows = [
        replace(row, head=dice.choice(heads)) if row.matched is None and row.head != row.image_id else row
        for row in rows
    ]
    again = [row for row in first if row.head != row.image_id]
    for number, row in enumerate(dice.sample(again, 8)):
        rows.insert(dice.randrange(len(rows)), replace(row, version=row.version + number % 2))
    for number in range(6):
        rows.insert(dice.randrange(len(rows)), LoadableRow(ImageId(f"lost-{number}"), ImageId("nobody")))
    return rows


def name(image_id: ImageId) -> ImageId:
    return ImageId(f"new-{image_id}")


def test_ten_kills_change_nothing(tmp_path: Path) -> None:
    root, first_rows = tmp_path / "old", random_rows(1, FIRST, again=0)
    first = write_manifest(root, first_rows)
    manifest = write_manifest(root, delta_rows(first_rows), name="new.json", previous=first.id, per_file=150)
    request = LoadRequest(str(root), "new.json", manifest.id, "")
    dice = random.Random(7)
    said = []
    for folder, kills in (("calm", 0), ("killed", KILLS)):
        deployment = Deployment(tmp_path / folder, root, first)
        try:
            deployment.start()
            deployment.load(request)
            rows = 0
            for _ in range(kills):
                rows += dice.randrange(5, manifest.rows // KILLS)
                assert not deployment.work_until(request, rows, dice.choice([1, 5, 64]))
                time.sleep(dice.random() / 20)
                deployment.kill()
                deployment.start()
            assert deployment.work_until(request, manifest.rows, 64)
        finally:
            deployment.kill()
            deployment.client.close()
        said.append(deployment.said(request))
        written = len(list(read_topic(deployment.topic)))
        assert (written > sum(said[-1].counts.values())) is (kills > 0)  # a restart writes some rows again
    calm, killed = said
    assert calm == killed
    assert calm.state is LoadState.LIVE
    assert set(calm.counts) >= {RowResult.JOINED, RowResult.FOUNDED, RowResult.KEPT, RowResult.ELSEWHERE_HEAD_GONE}
    assert len(calm.examples) >= 10
