"""The three servers in memory, as their clients show them: small, exact, and failing when a test wants it.

An image's search vector gives its terms (the signs of its numbers), its score vector gives its code (packed signs).
Two images are candidates of each other if they share at least `MIN_OVERLAP` terms; a score is the share of equal bits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.errors import LogGapError, RefusedError, UnavailableError
from core.protos.joined_pb2 import JoinedImage
from core.types import Decision, ImageId, Lookup, Written
from scoring.serving import scorer_pb2
from search.serving import search_pb2
from storage.memory import MemoryStore
from storage.serving import storage_pb2
from storage.serving.messages import describe_message
from storage.unscored import unscored_after
from storage.written import written_at

MIN_OVERLAP = 11
"""Of 16 terms."""

ACCEPT = 0.7


@dataclass
class FakeServer:
    """Instance id, outages, and a hook that runs before and after each call."""

    instances: int = 1
    known_instance: str | None = None
    down: bool = False
    closed: bool = False
    before: Callable[[str], None] = lambda method: None
    after: Callable[[str], None] = lambda method: None
    """Whatever these raise, the caller sees; what `after` raises comes when the effects are there."""

    @property
    def instance_id(self) -> str | None:
        return self.known_instance

    def enter(self, method: str) -> None:
        if self.down:
            raise UnavailableError("connection refused")
        self.known_instance = f"instance-{self.instances}"
        self.before(method)

    def close(self) -> None:
        self.closed = True


def signs(vector: bytes) -> np.ndarray:
    return np.frombuffer(vector, "<f2") > 0


def code_of(image: JoinedImage) -> bytes:
    return np.packbits(signs(image.score_vector)).tobytes()


def distance(one: bytes, other: bytes) -> int:
    """How many bits of two codes differ."""
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


@dataclass
class Entry:
    """An image version in the index."""

    place: int
    image_id: str
    version: int
    terms: np.ndarray
    code: bytes
    hidden_from: float = float("inf")


@dataclass
class FakeSearch(FakeServer):
    """The search server."""

    k: int = 5
    nearest: bool = False
    """Whether candidates are ordered by the distance of their codes."""
    truncates: bool = False
    """Whether every search reaches its bound."""
    log_id: str = ""
    offset: int = -1
    entries: list[Entry] = field(default_factory=list)
    placed: dict[tuple[str, int], int] = field(default_factory=dict)
    latest: dict[str, int] = field(default_factory=dict)
    deletes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By image: the last version deleted, and the position of the delete."""
    replays: dict[int, search_pb2.Answer] = field(default_factory=dict)
    """By position: place and version that a replay found."""
    calls: list[list[search_pb2.LogEntry]] = field(default_factory=list)
    hidden: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    refuses: set[int] = field(default_factory=set)
    """Offsets of images that it will not insert."""

    def describe(self) -> search_pb2.DescribeResponse:
        self.enter("describe")
        return search_pb2.DescribeResponse(
            log_id=self.log_id,
            offset=self.offset,
            index_version="terms-1",
            code_fingerprint="codes-1",
            code_bytes=1,
            released=max(self.released, default=-1),
        )

    def insert_and_search(
        self, log_id: str, entries: Sequence[search_pb2.LogEntry], base: int | None = None
    ) -> search_pb2.InsertAndSearchResponse:
        self.enter("insert_and_search")
        if not entries:
            return search_pb2.InsertAndSearchResponse(index_version="terms-1")
        self.calls.append(list(entries))
        if entries[0].offset > self.offset + 1 or (self.log_id and log_id != self.log_id):
            raise LogGapError(f"expected offset {self.offset + 1}", self.offset + 1)
        for entry in entries:
            if entry.WhichOneof("action") == "insert" and entry.offset in self.refuses:
                raise RefusedError("its vector is bad", entry.offset)
        self.log_id = log_id
        for entry in entries:
            if entry.offset > self.offset:
                self._apply(entry)
        response = search_pb2.InsertAndSearchResponse(
            answers=[self._answer(entry) for entry in entries], index_version="terms-1"
        )
        self.after("insert_and_search")
        return response

    def search_more(self, queries: Sequence[search_pb2.MoreQuery]) -> search_pb2.SearchMoreResponse:
        self.enter("search_more")
        for query in queries:
            as_of = query.as_of if query.HasField("as_of") else query.place
            assert as_of > max(self.released, default=-1), "asked as of a released position"
        by_place = {entry.place: entry for entry in self.entries}
        return search_pb2.SearchMoreResponse(
            answers=[
                self._candidates(
                    by_place[query.place], query.as_of if query.HasField("as_of") else query.place, query.after
                )
                for query in queries
            ]
        )

    def hide(self, place: int) -> None:
        self.enter("hide")
        entry = next((entry for entry in self.entries if entry.place == place), None)
        if entry is None:
            raise RefusedError(f"nothing lies at place {place}")
        self.hidden.append(place)
        entry.hidden_from = min(entry.hidden_from, self.offset + 1)
        self.after("hide")

    def release(self, log_id: str, offset: int, deadline_s: float | None = None) -> None:
        self.enter("release")
        self.released.append(offset)

    def in_sight(self) -> set[tuple[str, int]]:
        """Id and version of what a search from the next place can find."""
        return {(entry.image_id, entry.version) for entry in self.entries if entry.hidden_from > self.offset + 1}

    def _apply(self, entry: search_pb2.LogEntry) -> None:
        self.offset = entry.offset
        match entry.WhichOneof("action"):
            case "remove":
                self._remove(entry.offset, entry.remove)
            case "replay":
                self.replays[entry.offset] = self._replay(entry.offset, entry.replay)
            case "skip":
                self._place(entry.offset, entry.skip.image_id, entry.skip.image_version, None)
            case _:
                self._place(entry.offset, entry.insert.image_id, entry.insert.image_version, entry.insert)

    def _place(self, offset: int, image_id: str, version: int, image: JoinedImage | None) -> None:
        if not image_id or version <= self.latest.get(image_id, -1):
            return
        self._leave(image_id, offset)
        self.latest[image_id] = version
        self.placed[image_id, version] = -1 if image is None else offset
        if image is not None:
            self.entries.append(Entry(offset, image_id, version, signs(image.search_vector), code_of(image)))

    def _leave(self, image_id: str, offset: int) -> None:
        for older in self.entries:
            if older.image_id == image_id:
                older.hidden_from = min(older.hidden_from, offset)

    def _remove(self, offset: int, remove: search_pb2.Remove) -> None:
        latest = self.latest.get(remove.image_id, -1)
        version = remove.image_version if remove.HasField("image_version") else latest
        if version < max(latest, 0) or (self.deletes.get(remove.image_id, (-1, 0))[0] == version):
            return
        self._leave(remove.image_id, offset)
        self.latest[remove.image_id] = version
        self.deletes[remove.image_id] = version, offset

    def _replay(self, offset: int, replay: search_pb2.Replay) -> search_pb2.Answer:
        version = self.latest.get(replay.image_id, -1)
        known = search_pb2.Answer(offset=offset, place=-1, image_version=max(version, 0))
        if version >= 0 and self.deletes.get(replay.image_id, (-1, 0))[0] == version:
            known.deleted = True
            return known
        own = [each for each in self.entries if each.image_id == replay.image_id and each.hidden_from > offset]
        if own:
            known.place = own[-1].place
        elif replay.HasField("image") and version in (-1, replay.image.image_version):
            self.latest.pop(replay.image_id, None)
            self._place(offset, replay.image_id, replay.image.image_version, replay.image)
            known.place, known.image_version = offset, replay.image.image_version
        return known

    def _answer(self, entry: search_pb2.LogEntry) -> search_pb2.Answer:
        action = entry.WhichOneof("action")
        if action == "remove":
            return search_pb2.Answer(offset=entry.offset, place=-1)
        if action == "replay":
            answer = search_pb2.Answer()
            answer.CopyFrom(self.replays.get(entry.offset, search_pb2.Answer(offset=entry.offset, place=-1)))
            return self._searched(answer, entry.offset, entry.trace)
        image = entry.skip if action == "skip" else entry.insert
        place = self.placed.get((image.image_id, image.image_version))
        version, deleted_at = self.deletes.get(image.image_id, (-1, -1))
        if deleted_at < entry.offset and image.image_version == version:
            return search_pb2.Answer(offset=entry.offset, place=deleted_at, deleted=True)
        if image.image_id and (place is None or (deleted_at < entry.offset and image.image_version < version)):
            return search_pb2.Answer(offset=entry.offset, place=-1, superseded=True)
        unplaced = place is None or place > entry.offset or action == "skip"
        answer = search_pb2.Answer(offset=entry.offset, place=-1 if unplaced else place)
        if entry.unsearched:
            answer.score_code = next((each.code for each in self.entries if each.place == answer.place), b"")
            return answer
        return self._searched(answer, answer.place, entry.trace)

    def _searched(self, answer: search_pb2.Answer, as_of: int, trace: bool) -> search_pb2.Answer:
        if answer.place >= 0:
            own = next(each for each in self.entries if each.place == answer.place)
            answer.score_code = own.code
            answer.candidates.CopyFrom(self._candidates(own, as_of, 0))
            if trace:
                answer.terms.values = own.terms.astype("<u4").tobytes()
        return answer

    def _candidates(self, own: Entry, as_of: int, after: int) -> search_pb2.Candidates:
        visible = [e for e in self.entries if e.place < as_of < e.hidden_from and e.image_id != own.image_id]
        overlaps = [(int((e.terms == own.terms).sum()), e) for e in visible]
        found = [(overlap, e) for overlap, e in overlaps if overlap >= MIN_OVERLAP]
        found.sort(key=lambda one: (distance(one[1].code, own.code) if self.nearest else 0, -one[0], one[1].place))
        page = found[after : after + self.k]
        distances = [distance(e.code, own.code) for _, e in page] if self.nearest else []
        return search_pb2.Candidates(
            image_ids=[e.image_id for _, e in page],
            overlaps=np.array([overlap for overlap, _ in page], "<u2").tobytes(),
            places=np.array([e.place for _, e in page], "<i8").tobytes(),
            score_codes=b"".join(e.code for _, e in page),
            exhausted=len(found) <= after + self.k,
            truncated=self.truncates,
            distances=np.array(distances, "<u2").tobytes(),
        )


@dataclass
class FakeScorer(FakeServer):
    """The scorer."""

    calls: list[tuple[str, list[scorer_pb2.PairBlock]]] = field(default_factory=list)
    model_version: str = "model-1"
    code_fingerprint: str = "codes-1"
    code_bytes: int = 1
    gate: int | None = None
    breaks_on: set[bytes] = field(default_factory=set)
    """Query codes that it refuses without saying which."""

    def describe(self) -> scorer_pb2.DescribeResponse:
        self.enter("describe")
        return scorer_pb2.DescribeResponse(
            model_version=self.model_version,
            code_fingerprint=self.code_fingerprint,
            code_bytes=self.code_bytes,
            gate=self.gate,
        )

    def score(self, blocks: Sequence[scorer_pb2.PairBlock], model_version: str = "") -> scorer_pb2.ScoreResponse:
        self.enter("score")
        self.calls.append((model_version, list(blocks)))
        if self.breaks_on & {block.query_code for block in blocks}:
            raise RefusedError("a code is bad")
        return scorer_pb2.ScoreResponse(
            model_version=model_version or self.model_version,
            accept=ACCEPT,
            head_accept=ACCEPT,
            adopt=ACCEPT,
            scores=[self._scores(block) for block in blocks],
            gate=self.gate,
        )

    def _scores(self, block: scorer_pb2.PairBlock) -> bytes:
        query = np.unpackbits(np.frombuffer(block.query_code, np.uint8))
        codes = np.frombuffer(block.candidate_codes, np.uint8).reshape(-1, len(block.query_code))
        return (np.unpackbits(codes, axis=1) == query).mean(axis=1).astype("<f4").tobytes()


@dataclass
class FakeStorage(FakeServer):
    """The storage server."""

    store: MemoryStore = field(default_factory=MemoryStore)
    written: list[Decision] = field(default_factory=list)
    history_number: int = 0

    def describe(self) -> storage_pb2.DescribeResponse:
        self.enter("describe")
        return describe_message(self.store.state(), self.store.published())

    def unscored(self, after: int) -> storage_pb2.UnscoredResponse:
        self.enter("unscored")
        with self.store.snapshot() as view:
            found = unscored_after(view, after, max_entries=7)
        return storage_pb2.UnscoredResponse(places=found.places, through=found.through, complete=found.complete)

    def written_at(self, image_id: ImageId, offset: int, others: Collection[ImageId] = ()) -> Written:
        self.enter("written_at")
        with self.store.snapshot() as view:
            return written_at(view, image_id, offset, others)

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        self.enter("look_up")
        return self.store.look_up(ids, verdicts_of)

    def apply(
        self, log_id: str, decisions: Sequence[Decision], offset: int, revision: int, kinds: Collection[str] = ()
    ) -> int:
        self.enter("apply")
        position = self.store.apply(log_id, decisions, offset, revision, kinds)
        self.written += decisions
        self.history_number = self.store.state().history_number
        self.after("apply")
        return position.offset
