"""The sequence without Flink: the same steps over records of `joined`, against servers of their own.

What a job leaves behind after crashes must equal what this leaves behind (law 9): one order of `joined`, one answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crc32c import crc32c

from core.access import Right
from core.dead_letters import BadRecord, Reason
from core.protos.joined_pb2 import JoinedImage, JoinedRecord
from manifests.image_files import ImageRow
from neardup.events_pb2 import FLOAT16
from operators.assign import AssignStep
from operators.clients import open_scorer, open_search, open_storage
from operators.in_flight_pb2 import InFlight
from operators.score import ScoreStep
from operators.search import LogEpoch, SearchStep
from operators.step import ServerAddress, StepResult
from stream.access import credentials
from stream.local.parts import signal_parts
from stream.local.processes import end_processes, marked_processes
from stream.local.supervisor import Deployment
from stream.settings import ServerSettings, Settings
from tests.support.in_flight import handed_on
from tests.support.stack import Stack, stack_settings


def _ignore(reason: Reason) -> None: ...


def joined(row: ImageRow) -> bytes:
    """The record of the order for an image of the sample."""
    image = JoinedImage(
        image_id=row.image_id,
        image_version=row.version,
        search_type=FLOAT16,
        search_vector=row.search.data,
        score_type=FLOAT16,
        score_vector=row.score.data,
        arrived_at_ms=5,
    )
    return JoinedRecord(image=image).SerializeToString()


@contextmanager
def servers(data: Path, signals: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[Stack]:
    """The three servers of one signal, with empty folders, and nothing else.

    Args:
        data: The data folder.
        signals: The settings of the signal, without addresses; by default those of the sample's photos.
    """
    settings = stack_settings(data, signals)
    parts = [part for part in signal_parts(settings, *settings.signal()) if "job" not in part.name]
    stack = Stack(settings, Deployment(settings, parts))
    try:
        stack.deployment.up()
        yield stack
    finally:  # at once: a stop in good order takes seconds, and what they leave is not read again
        end_processes(marked_processes(settings.data_dir), grace_s=5.0)


def run_sequence(
    records: Sequence[bytes],
    log_id: str,
    stack: Stack,
    batch: int,
    base: int = 0,
    unscored: Mapping[int, int] | None = None,
) -> None:
    """Searches, scores and assigns records of `joined` from the position `base` on, in batches of one size.

    Args:
        records: Their values.
        log_id: Topic id of `joined`.
        stack: The servers.
        batch: Records in a call.
        base: The position of the first record.
        unscored: For each position that is written without scores: the last position whose search finds its image.
    """
    sequence = Sequenced(log_id, stack, batch, base)
    try:
        sequence.take(records, unscored or {})
    finally:
        sequence.close()


class Sequenced:
    """The three steps on an order that grows. Search may run ahead of the others."""

    def __init__(self, log_id: str, stack: Stack, batch: int, base: int = 0, epoch: int = 0) -> None:
        """Connects to the servers.

        Args:
            log_id: Topic id of `joined`.
            stack: The servers.
            batch: Records in a call.
            base: The position of the first record.
            epoch: The position of the offset 0 of `joined`.
        """
        settings, signal = stack.settings, stack.signal
        search, scorer, storage = (_address(settings, each) for each in (signal.search, signal.scorer, signal.storage))
        self._search = SearchStep(open_search(search), log_id, _ignore, base=epoch)
        self._score = ScoreStep(open_scorer(scorer), open_search(search), _ignore)
        clients = open_search(search), open_scorer(scorer), open_storage(storage)
        self._assign = AssignStep(*clients, LogEpoch(log_id, epoch, signal.topic("joined")), _ignore)
        self._batch = batch
        self._base = base
        self._items: list[bytes] = []
        self._found: list[bytes] = []
        self._assigned = 0

    @property
    def taken(self) -> int:
        """How many records were decided."""
        return self._assigned

    def take(self, records: Sequence[bytes], unscored: Mapping[int, int]) -> None:
        """Decides the next records.

        Args:
            records: Their values.
            unscored: For each position among them that is written without scores: the last position whose search
                finds the image that it hides.
        """
        first = len(self._items)
        self._items += [
            InFlight(offset=self._base + at, kafka_offset=at, checksum=crc32c(value), record=value).SerializeToString()
            for at, value in enumerate(records, first)
        ]
        for position, last in sorted(unscored.items()):
            self.assign_to(position - self._base)
            self.search_to(last + 1 - self._base)
            self.assign_unscored()
        self.assign_to(len(self._items))

    def search_to(self, end: int) -> None:
        """Searches for all records before the index `end`."""
        while len(self._found) < end:
            start = len(self._found)
            self._found += _handed_on(self._search.call(self._items[start : min(end, start + self._batch)]))

    def assign_to(self, end: int) -> None:
        """Scores and assigns all records before the index `end`."""
        while self._assigned < end:
            stop = min(end, self._assigned + self._batch)
            self.search_to(stop)
            self._write(_handed_on(self._score.call(self._found[self._assigned : stop])))

    def assign_unscored(self) -> None:
        """Assigns the next record without its scores."""
        faulted = BadRecord(Reason.FAULTED, "as in the run before")
        self._write(_handed_on(self._score.isolate(self._found[self._assigned], faulted)))

    def close(self) -> None:
        """Closes the clients."""
        for step in (self._search, self._score, self._assign):
            step.close()

    def _write(self, scored: list[bytes]) -> None:
        self._assigned += len(scored)
        while scored:
            scored = scored[self._assign.call(scored).count :]


def _handed_on(result: StepResult) -> list[bytes]:
    return [one.SerializeToString() for one in handed_on(result.outputs)]


def _address(settings: Settings, server: ServerSettings) -> ServerAddress:
    return ServerAddress(server.address, 30.0, server.max_message_bytes, credentials(settings, Right.STREAM))
