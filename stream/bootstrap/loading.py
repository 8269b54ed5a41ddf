"""Loads of a signal, driven from outside of the job: begun, and followed until they are live."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from core.access import Right
from core.errors import MismatchError, ServiceError, UnavailableError
from core.first_loads import LoadReport, LoadRequest, LoadState
from manifests.asked import asked_manifest
from manifests.folder import open_folder
from manifests.manifest import SUFFIX, Kind
from operators.first_load import FirstLoad, LoadingSearch, LoadingStorage, begin, look
from search.serving.admission import Caller
from search.serving.client import SearchClient
from storage.loading.delta_report import DeltaReport
from storage.serving.client import StorageClient
from stream.access import credentials
from stream.broker import Broker
from stream.names import client_id
from stream.settings import Settings
from stream.start_plan import only_partition

__all__ = ["LOOK_S", "Servers", "load_request", "servers", "until_all_entered", "until_live"]

T = TypeVar("T")

LOOK_S = 0.5
"""Between two looks at a load."""

CALL_S = 10.0
"""The deadline of one call."""

PATIENCE_S = 120.0
"""How long a server may be away: after the swap both start again."""


class Servers:
    """The two servers of a signal, with a key."""

    def __init__(
        self, settings: Settings, signal_name: str | None, right: Right, caller: Caller = Caller.INTERACTIVE
    ) -> None:
        """Connects with the first call; `caller` is the class of what search is asked."""
        signal, proof = settings.signal(signal_name)[1], credentials(settings, right)
        at_search, at_storage = signal.search, signal.storage
        self.search = SearchClient(at_search.address, CALL_S, at_search.max_message_bytes, caller, proof)
        self.storage = StorageClient(at_storage.address, CALL_S, at_storage.max_message_bytes, proof)

    def close(self) -> None:
        """Ends the connections."""
        self.search.close()
        self.storage.close()


@contextmanager
def servers(
    settings: Settings, signal_name: str | None, right: Right, caller: Caller = Caller.INTERACTIVE
) -> Iterator[Servers]:
    """The two servers of a signal, until the end of the block."""
    with closing(Servers(settings, signal_name, right, caller)) as found:
        yield found


def load_request(settings: Settings, signal_name: str | None, folder: str, name: str) -> LoadRequest:
    """What is to be loaded: a first load, or a delta.

    Raises:
        BadInputError: There is no such manifest, it is damaged, or it is a snapshot without rows.
        UnavailableError: The folder or Kafka does not answer.
        MismatchError: The order has lost records already.
    """
    # The servers work elsewhere.
    opened = open_folder(folder if "://" in folder else str(Path(folder).absolute()))
    manifest = asked_manifest(opened, f"{name}{SUFFIX}")
    if manifest.kind is Kind.DELTA:
        return LoadRequest(opened.uri, f"{name}{SUFFIX}", manifest.id, "")
    known, signal = settings.signal(signal_name)
    with Broker(settings.kafka_access(client_id(known, "bootstrap"))) as broker:
        topic = signal.topic("joined")
        topic_id, first = broker.topic_id(topic), only_partition(topic, broker.ends(topic)).first
    if first > 0:
        raise MismatchError(
            f"the first {first} records of {topic} are gone, and a service that begins must decide all of them: delete "
            "the topic and run `neardup topics create`"
        )
    return LoadRequest(opened.uri, f"{name}{SUFFIX}", manifest.id, topic_id)


def until_live(
    request: LoadRequest,
    storage: LoadingStorage,
    search: LoadingSearch,
    on_look: Callable[[FirstLoad], None],
    sleep: Callable[[float], None] = time.sleep,
) -> FirstLoad:
    """Begins a load and follows it until both servers are live.

    A server that is away is waited for: both start again after the swap.

    Raises:
        MismatchError: Something was applied already, or another load is under way or live.
        ServiceError: The load has failed or was aborted; nothing of it is left.
        UnavailableError: A server does not answer for two minutes.
    """
    looks = _looks(lambda: begin(request, storage, search), lambda: look(request, storage, search), sleep)
    for found in looks:
        on_look(found)
        if found.state is LoadState.LIVE:
            return found
        if found.storage is None or found.state in (LoadState.FAILED, LoadState.ABORTED):
            raise ServiceError(_why(found))
    raise AssertionError


class DeltaStorage(Protocol):
    """What is asked of the storage server about deltas. Its errors are those of its client."""

    def load(self, request: LoadRequest) -> LoadReport:
        """Begins, or goes on."""
        ...

    def deltas(self, manifest_id: str) -> Sequence[DeltaReport]:
        """How far it is; empty: nobody has asked for it."""
        ...


def until_all_entered(
    request: LoadRequest,
    storage: DeltaStorage,
    on_look: Callable[[DeltaReport], None],
    sleep: Callable[[float], None] = time.sleep,
) -> DeltaReport:
    """Asks for a delta and follows it until all of its rows have entered. A server that is away is waited for.

    Raises:
        ServiceError: It has failed or was aborted; the message says how many rows have entered.
        UnavailableError: No first load is live, or the server does not answer for two minutes.
    """

    def begun() -> Sequence[DeltaReport]:
        storage.load(request)
        return looked()

    def looked() -> Sequence[DeltaReport]:
        return storage.deltas(request.manifest_id)

    for found in _looks(begun, looked, sleep):
        if not found:
            raise ServiceError("storage knows nothing of this delta any more: give the command again")
        (report,) = found
        on_look(report)
        if report.load.state is LoadState.LIVE:
            return report
        if report.load.state in (LoadState.FAILED, LoadState.ABORTED):
            ended = "has failed" if report.load.state is LoadState.FAILED else "was aborted"
            raise ServiceError(f"the delta {ended}: {report.load.detail}")
    raise AssertionError


def _looks(first: Callable[[], T], others: Callable[[], T], sleep: Callable[[float], None]) -> Iterator[T]:
    """Looks now and then, for ever. Once the first look has succeeded, a server may be away for a while."""
    look, away_s = first, 0.0
    while True:
        try:
            found = look()
        except UnavailableError:
            if look is first or away_s >= PATIENCE_S:
                raise
            away_s += LOOK_S
        else:
            look, away_s = others, 0.0
            yield found
        sleep(LOOK_S)


def _why(found: FirstLoad) -> str:
    if found.storage is None:
        return "storage knows nothing of this load any more: give the command again"
    parts = (("storage", found.storage), ("search", found.search))
    told = [f"{name}: {each.detail}" for name, each in parts if each is not None and each.state is LoadState.FAILED]
    ended = "has failed" if told else "was aborted"
    if found.storage.state is LoadState.LIVE:
        return f"storage is live, and the load of search {ended}: {'; '.join(told)}. Give the command again"
    return f"the first load {ended}, and nothing of it is left{': ' if told else ''}{'; '.join(told)}"
