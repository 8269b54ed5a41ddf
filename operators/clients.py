"""The clients of the three servers: what the steps ask of them, and how they are opened."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from core.errors import DeadlineError, FaultError, RefusedError, UnavailableError
from core.types import Decision, ImageId, Lookup, Written
from operators.step import Client, ServerAddress
from scoring.serving import scorer_pb2
from scoring.serving.client import ScorerClient
from search.serving import search_pb2
from search.serving.admission import Caller
from search.serving.client import SearchClient
from storage.serving import storage_pb2
from storage.serving.client import StorageClient

__all__ = ["Scorer", "Search", "Storage", "open_scorer", "open_search", "open_storage", "storage_waited_for"]


class Search(Client, Protocol):
    """What the steps ask of the search server."""

    def insert_and_search(
        self, log_id: str, entries: Sequence[search_pb2.LogEntry], base: int | None = None
    ) -> search_pb2.InsertAndSearchResponse:
        """Applies records of the order and searches for each."""
        ...

    def search_more(self, queries: Sequence[search_pb2.MoreQuery]) -> search_pb2.SearchMoreResponse:
        """The next candidates of images already inserted."""
        ...

    def describe(self) -> search_pb2.DescribeResponse:
        """Position, versions and codes of the index."""
        ...

    def hide(self, place: int) -> object:
        """Hides an inserted image from all later places."""
        ...

    def release(self, log_id: str, offset: int, deadline_s: float | None = None) -> None:
        """Tells the index that storage has committed up to an offset."""
        ...


class Scorer(Client, Protocol):
    """What the steps ask of the scorer."""

    def score(self, blocks: Sequence[scorer_pb2.PairBlock], model_version: str = "") -> scorer_pb2.ScoreResponse:
        """Scores of pairs of codes."""
        ...

    def describe(self) -> scorer_pb2.DescribeResponse:
        """The served model and the codes that it compares."""
        ...


class Storage(Client, Protocol):
    """What assign asks of the storage server."""

    @property
    def history_number(self) -> int:
        """Of the last change that `apply` wrote."""
        ...

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """Memberships and clusters of images, and the last verdicts on some, as of one moment."""
        ...

    def apply(
        self, log_id: str, decisions: Sequence[Decision], offset: int, revision: int, kinds: Collection[str] = ()
    ) -> int:
        """Writes decisions, all or none, and which kinds of records we know; returns the new offset."""
        ...

    def describe(self) -> storage_pb2.DescribeResponse:
        """Its position, and which kinds of records a job must know."""
        ...

    def written_at(self, image_id: ImageId, offset: int, others: Collection[ImageId] = ()) -> Written:
        """What the record of an image at a position wrote, and what storage held before it."""
        ...

    def unscored(self, after: int) -> storage_pb2.UnscoredResponse:
        """Places of the images that records after an offset placed unscored."""
        ...


@contextmanager
def storage_waited_for() -> Iterator[None]:
    """Makes every error of storage one that is waited out: no image causes it."""
    try:
        yield
    except (DeadlineError, FaultError, RefusedError) as error:
        raise UnavailableError(f"storage: {error}") from error


def open_search(server: ServerAddress) -> Search:
    """A client of the search server."""
    return SearchClient(server.address, server.deadline_s, server.max_message_bytes, Caller.STREAM, server.credentials)


def open_scorer(server: ServerAddress) -> Scorer:
    """A client of the scorer."""
    return ScorerClient(server.address, server.deadline_s, server.max_message_bytes, server.credentials)


def open_storage(server: ServerAddress) -> Storage:
    """A client of the storage server."""
    return StorageClient(server.address, server.deadline_s, server.max_message_bytes, server.credentials)
