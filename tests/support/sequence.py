"""The sequence without Flink: the same steps over records of `joined`, against servers of their own.

What a job leaves behind after crashes must equal what this leaves behind (law 9): one order of `joined`, one answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from crc32c import crc32c

from core.access import Right
from core.dead_letters import Reason
from operators.assign import AssignStep
from operators.clients import open_scorer, open_search, open_storage
from operators.in_flight_pb2 import InFlight
from operators.score import ScoreStep
from operators.search import SearchStep
from operators.step import ServerAddress
from stream.access import credentials
from stream.local.parts import signal_parts
from stream.local.processes import end_processes, marked_processes
from stream.local.supervisor import Deployment
from stream.settings import ServerSettings, Settings
from tests.support.in_flight import handed_on
from tests.support.stack import PHOTOS, Stack, stack_settings


def _ignore(reason: Reason) -> None: ...


@contextmanager
def servers(data: Path) -> Iterator[Stack]:
    """The three servers of the photo signal, with empty folders, and nothing else."""
    settings = stack_settings(data, {"photos": PHOTOS})
    parts = [part for part in signal_parts(settings, "photos", settings.signals["photos"]) if "job" not in part.name]
    stack = Stack(settings, Deployment(settings, parts))
    try:
        stack.deployment.up()
        yield stack
        stack.deployment.down()
    finally:
        end_processes(marked_processes(settings.data_dir), grace_s=5.0)


def run_sequence(records: Sequence[bytes], log_id: str, stack: Stack, batch: int, base: int = 0) -> None:
    """Searches, scores and assigns records of `joined` from the position `base` on, in batches of one size."""
    settings: Settings = stack.settings
    signal = settings.signals["photos"]
    topic = signal.topic("joined")
    search = SearchStep(open_search(_address(settings, signal.search)), log_id, _ignore)
    score = ScoreStep(
        open_scorer(_address(settings, signal.scorer)), open_search(_address(settings, signal.search)), _ignore
    )
    assign = AssignStep(
        open_search(_address(settings, signal.search)),
        open_scorer(_address(settings, signal.scorer)),
        open_storage(_address(settings, signal.storage)),
        log_id,
        topic,
        _ignore,
    )
    try:
        for start in range(0, len(records), batch):
            items = [
                InFlight(
                    offset=base + start + index, kafka_offset=start + index, checksum=crc32c(value), record=value
                ).SerializeToString()
                for index, value in enumerate(records[start : start + batch])
            ]
            found = [one.SerializeToString() for one in handed_on(search.call(items).outputs)]
            scored = [one.SerializeToString() for one in handed_on(score.call(found).outputs)]
            while scored:
                scored = scored[assign.call(scored).count :]
    finally:
        for step in (search, score, assign):
            step.close()


def _address(settings: Settings, server: ServerSettings) -> ServerAddress:
    return ServerAddress(server.address, 30.0, server.max_message_bytes, credentials(settings, Right.STREAM))
