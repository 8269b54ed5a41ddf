"""Index and storage agree on every place, whatever fails: the steps of the sequence on the real index and a real store.

Images, deletes and replays come in one order. The scorer fails on some images, the index refuses some, calls fail after
they had their effect, and the job dies and begins again where storage stands.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from crc32c import crc32c

from core.dead_letters import BadRecord, Reason
from core.errors import RefusedError
from core.notifications import RECORD_KINDS
from core.protos.joined_pb2 import JoinedDelete, JoinedImage, JoinedRecord, JoinedReplay, Origin
from core.types import ImageId
from operators.assign import AssignStep
from operators.in_flight_pb2 import InFlight, InFlightBatch
from operators.score import ScoreStep
from operators.search import LogEpoch, SearchStep
from operators.step import Step
from search.index.interface import TermIndex
from search.index.opening import open_term_index
from search.serving import search_pb2 as pb
from search.serving.messages import fill_answer, fill_candidates, stored_message
from search.serving.queries import more_query
from search.serving.request_parser import RequestParser
from search.serving.server import index_settings, open_index
from storage.memory import MemoryStore
from storage.verify import verify
from stream.index_comparison import Side
from tests.search.serving.search_setup import image, server_settings
from tests.support.comparing import compared
from tests.support.events import some_as_members
from tests.support.fake_servers import FakeScorer, FakeServer, FakeStorage

LOG = "topic-id-1"
RECORDS = 120
COPY = "copy"
"""The folder of a copy of the index as it was at some moment."""

IMAGES = 12


@dataclass
class IndexServer(FakeServer):
    """The search server without a wire."""

    index: TermIndex = field(kw_only=True)
    parser: RequestParser = field(kw_only=True)

    def describe(self) -> pb.DescribeResponse:
        self.enter("describe")
        position, coder = self.index.position, self.parser.coder
        return pb.DescribeResponse(
            log_id=position.log_id,
            offset=position.offset,
            index_version="terms-1",
            code_fingerprint=coder.fingerprint,
            code_bytes=coder.code_bytes,
            released=self.index.released,
        )

    def insert_and_search(
        self, log_id: str, entries: Sequence[pb.LogEntry], base: int | None = None
    ) -> pb.InsertAndSearchResponse:
        self.enter("insert_and_search")
        response = pb.InsertAndSearchResponse(index_version="terms-1")
        for answer in self.index.insert_and_search(log_id, self.parser.records(entries)):
            fill_answer(response.answers.add(), answer)
        self.after("insert_and_search")
        return response

    def search_more(self, queries: Sequence[pb.MoreQuery]) -> pb.SearchMoreResponse:
        response = pb.SearchMoreResponse()
        for found in self.index.search_more([more_query(query) for query in queries]):
            fill_candidates(response.answers.add(), found)
        return response

    def get(self, image_ids: Sequence[str]) -> pb.GetResponse:
        found = self.index.get([ImageId(each) for each in image_ids])
        return pb.GetResponse(images=[stored_message(each) for each in found if each is not None])

    def hide(self, place: int) -> None:
        self.enter("hide")
        self.index.hide(place)

    def release(self, log_id: str, offset: int, deadline_s: float | None = None) -> None:
        self.index.release(min(offset, self.index.position.offset))


def some_order(chosen: random.Random) -> list[bytes]:
    """Images, refused ones, deletes, replays with the image that storage may have had, and repeated requests."""
    records: list[JoinedRecord] = []
    latest: dict[str, JoinedImage] = {}
    for offset in range(RECORDS):
        image_id, kind = f"i{chosen.randrange(IMAGES)}", chosen.random()
        if latest and chosen.random() < 0.5:  # the image that came last is still under way
            image_id = list(latest)[-1]
        if kind < 0.4 or image_id not in latest:
            made = image(image_id, chosen.randrange(5), chosen.randrange(20) / 200, chosen.choice((1, 1, 2, 3)))
            if chosen.random() < 0.2:
                made.search_vector = made.search_vector[:6]
            latest.pop(image_id, None)
            latest[image_id] = made
            records.append(JoinedRecord(image=made))
        elif kind < 0.5:
            version = chosen.choice((None, None, 1, 2, 9))
            forget = chosen.random() < 0.3
            records.append(JoinedRecord(delete=JoinedDelete(image_id=image_id, image_version=version, forget=forget)))
        elif kind < 0.6 and any(each.HasField("replay") for each in records):
            records.append(chosen.choice([each for each in records if each.HasField("replay")]))
        else:
            carried = latest[image_id] if chosen.random() < 0.8 else None
            if carried is not None and len(carried.search_vector) == 6:
                carried = image(image_id, chosen.randrange(5), version=carried.image_version)
            replay = JoinedReplay(
                origin=Origin(topic_id="requests", offset=offset),
                image_id=image_id,
                image=carried,
                force=chosen.random() < 0.5,
                dry_run=chosen.random() < 0.1,
            )
            records.append(JoinedRecord(replay=replay))
    made = [each.SerializeToString(deterministic=True) for each in records]
    return some_as_members(made, chosen.randrange(10**6))


class Job:
    """The three steps, with what lies between them; whatever it holds is lost when it dies."""

    def __init__(self, search: IndexServer, scorer: FakeScorer, storage: FakeStorage, order: list[bytes]) -> None:
        self._order = order
        self._at = min(storage.store.position().offset, search.index.position.offset) + 1
        self._between: list[list[bytes]] = [[], []]
        reasons: list[Reason] = []
        self._steps: tuple[Step, ...] = (
            SearchStep(search, LOG, reasons.append, storage=storage),
            ScoreStep(scorer, search, reasons.append),
            AssignStep(search, scorer, storage, LogEpoch(LOG), reasons.append),
        )

    @property
    def idle(self) -> bool:
        """Whether every record has passed."""
        return self._at == len(self._order) and not any(self._between)

    def run(self, step: int, count: int) -> None:
        """Lets a step take up to so many records, one by one if they fail."""
        if step == 0:
            positions = range(self._at, min(self._at + count, len(self._order)))
            items = [
                InFlight(offset=at, checksum=crc32c(self._order[at]), record=self._order[at]).SerializeToString()
                for at in positions
            ]
        else:
            items = self._between[step - 1][:count]
        if not items:
            return
        try:
            settled = self._take(step, items)
        except RefusedError:
            settled = self._alone(step, items[0])
        if step == 0:
            self._at += settled
        else:
            del self._between[step - 1][:settled]

    def _take(self, step: int, items: list[bytes]) -> int:
        result = self._steps[step].call(items)
        self._hand_on(step, result.outputs)
        return result.count

    def _alone(self, step: int, item: bytes) -> int:
        try:
            return self._take(step, [item])
        except RefusedError as error:
            with suppress(RefusedError):  # it is tried again
                result = self._steps[step].isolate(item, BadRecord(Reason.REFUSED, str(error)))
                self._hand_on(step, result.outputs)
                return result.count
            return 0

    def _hand_on(self, step: int, outputs: Sequence[object]) -> None:
        if step < 2:
            for row in outputs:
                batch = InFlightBatch.FromString(row[1])  # type: ignore[index]
                self._between[step] += batch.records


def live(
    folder: Path, seed: int, seen: Callable[[FakeStorage], None] = lambda storage: None
) -> tuple[TermIndex, FakeStorage, list[bytes]]:
    """Lets a job and its successors pass a whole order; index, storage and order. `seen` is called meanwhile."""
    chosen = random.Random(seed)
    settings = server_settings(folder)
    extractor, coder = settings.terms.build(), settings.code.build()
    index = open_index(settings, extractor, coder).index
    search = IndexServer(index=index, parser=RequestParser(extractor, coder))
    scorer = FakeScorer(code_fingerprint=coder.fingerprint, code_bytes=coder.code_bytes)
    storage = FakeStorage()
    order = some_order(chosen)
    storage.store.apply(LOG, (), -1, 0, RECORD_KINDS)

    def hiccup(method: str) -> None:
        if chosen.random() < 0.1:
            raise RefusedError(f"{method} failed after it had its effect")

    def bad_code(method: str) -> None:
        if method == "score" and chosen.random() < 0.3:
            raise RefusedError("a code is bad")

    search.after, scorer.before = hiccup, bad_code
    copy_at = chosen.randrange(RECORDS)
    job = Job(search, scorer, storage, order)
    while not job.idle:
        for step in chosen.sample(range(3), 3):
            job.run(step, chosen.randint(1, 9))
        seen(storage)
        if index.position.offset >= copy_at and not (folder / COPY).exists():
            index.snapshot(folder / COPY)
        if chosen.random() < 0.03:
            job = Job(search, scorer, storage, order)
    storage.after = storage.before = scorer.before = lambda method: None
    return index, storage, order


@pytest.mark.parametrize("seed", range(25))
def test_index_and_storage_agree_on_every_place(tmp_path: Path, seed: int) -> None:
    index, storage, _ = live(tmp_path, seed)
    check_places(index, storage.store)
    index.close()


@pytest.mark.parametrize("seed", range(300, 315))
def test_an_index_that_was_put_back_gets_the_places_that_storage_has(tmp_path: Path, seed: int) -> None:
    """It hides less than it did, so what a replay found at first is not what a replay finds now."""
    index, storage, order = live(tmp_path, seed)
    index.close()
    settings = server_settings(tmp_path)
    extractor, coder = settings.terms.build(), settings.code.build()
    index = open_term_index(tmp_path / COPY, index_settings(settings, extractor, coder))
    search = IndexServer(index=index, parser=RequestParser(extractor, coder))
    more = [*order, JoinedRecord(image=image("last", 1)).SerializeToString()]
    job = Job(search, FakeScorer(code_fingerprint=coder.fingerprint, code_bytes=coder.code_bytes), storage, more)
    chosen = random.Random(seed)
    while not job.idle:
        job.run(chosen.randrange(3), chosen.randint(1, 9))
    check_places(index, storage.store)
    index.close()


def check_places(index: TermIndex, store: MemoryStore) -> None:
    ids = [ImageId(f"i{number}") for number in range(IMAGES)]
    for image_id, found in zip(ids, index.get(ids), strict=True):
        record, tombstone = store.image(image_id), store.tombstone(image_id)
        if record is not None:
            assert found is not None
            assert (found.version, found.deleted) == (record.version, False), image_id
            assert found.hidden == record.unscored, image_id
            assert found.hidden or found.place == record.place, image_id
        elif tombstone is not None:
            assert found is not None
            assert (found.version, found.place, found.deleted) == (tombstone.version, tombstone.position, True)
        else:
            assert found is None
    with store.snapshot() as view:
        assert [progress.problem_count for progress in verify(view)][-1] == 0
    found = compared(index, store)
    assert found.problems == {}
    assert found.compared[Side.DELETES] == store.state().tombstones > 0
    assert found.compared[Side.INDEX] == found.compared[Side.DELETES] + index.images
