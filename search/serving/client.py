"""A client of the term search server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from core.access import ANONYMOUS, Credentials
from core.errors import RefusedError
from core.first_loads import LoadReport, LoadRequest
from core.load_messages import load_of, request_fields
from core.notifications import RECORD_KINDS
from core.rpc import CALLER, RpcClient
from search.serving import search_pb2 as pb
from search.serving.admission import Caller
from search.serving.search_pb2_grpc import TermSearchStub

__all__ = ["SearchClient"]

_OVERHEAD = 16
"""Bytes that a message needs for an entry, besides the entry's own."""


class SearchClient(RpcClient):
    """Calls `TermSearch`; all methods raise errors of `core.errors`."""

    def __init__(
        self,
        address: str,
        deadline_s: float,
        max_message_bytes: int,
        caller: Caller = Caller.INTERACTIVE,
        credentials: Credentials = ANONYMOUS,
    ) -> None:
        """Opens the channel; the server need not be up.

        Args:
            address: Host and port.
            deadline_s: The deadline of one call.
            max_message_bytes: The same as the server's.
            caller: The caller class of its calls.
            credentials: What it proves itself with. The class `stream` needs the token of our own parts.
        """
        super().__init__(address, deadline_s, max_message_bytes, credentials, [(CALLER, caller.value)])
        self._stub = TermSearchStub(self.channel)
        self._max_request_bytes = max_message_bytes - 1024

    def insert_and_search(
        self, log_id: str, entries: Sequence[pb.LogEntry], base: int | None = None
    ) -> pb.InsertAndSearchResponse:
        """Applies records of the order and searches for each; one answer per entry, in order.

        Entries that do not fit into one message are sent in several, one after the other. If one of them fails, the
        call fails. It is safe to repeat.

        Raises:
            RefusedError: An entry is refused; `offset` names it where the server could tell.
            LogGapError: The entries do not continue what the index has, or it counts the log from another position than
                `base`; `expected` is the offset that must come next.
            UnavailableError: The server is down, too slow or cannot write: wait and call again.
            FaultError: The server failed on this call.
        """
        response = pb.InsertAndSearchResponse()
        for part in self._parts(entries):
            request = pb.InsertAndSearchRequest(log_id=log_id, entries=part, kinds=RECORD_KINDS, base=base)
            answer: pb.InsertAndSearchResponse = self._call(self._stub.InsertAndSearch, request)
            response.MergeFrom(answer)
        return response

    def search_more(self, queries: Sequence[pb.MoreQuery]) -> pb.SearchMoreResponse:
        """The next candidates of images already inserted, one answer per query.

        Raises:
            RefusedError: There is no image at a place; `offset` names the record that asks.
            UnavailableError: The server is down or too slow.
            FaultError: The server failed on this call.
        """
        response: pb.SearchMoreResponse = self._call(self._stub.SearchMore, pb.SearchMoreRequest(queries=queries))
        return response

    def hide(self, place: int) -> None:
        """Hides an inserted image from all places after the last record applied.

        Raises:
            RefusedError: The place was not applied yet.
            DeniedError: The caller is not the stream, and has not the write key.
            UnavailableError: The server is down, too slow or cannot write.
            FaultError: The server failed on this call.
        """
        self._call(self._stub.Hide, pb.HideRequest(place=place))

    def describe(self) -> pb.DescribeResponse:
        """Position, versions and size of the index.

        Raises:
            UnavailableError: The server is down or too slow.
        """
        response: pb.DescribeResponse = self._call(self._stub.Describe, pb.DescribeRequest())
        return response

    def search(self, queries: Sequence[pb.SearchQuery]) -> pb.SearchResponse:
        """Searches that insert nothing; one answer per query.

        Raises:
            RefusedError: A query is wrong, or they ask for too much.
            BusyError: The caller class is over its limit: wait as long as the error says.
            UnavailableError: The server is down or too slow.
            FaultError: The server failed on this call.
        """
        response: pb.SearchResponse = self._call(self._stub.Search, pb.SearchRequest(queries=queries))
        return response

    def get(self, image_ids: Sequence[str], places: Sequence[int] = ()) -> pb.GetResponse:
        """Place, version and score code of the images, without those never placed; and what is listed at places.

        Raises the errors of `search`.
        """
        response: pb.GetResponse = self._call(self._stub.Get, pb.GetRequest(image_ids=image_ids, places=places))
        return response

    def list_page(self, after: int, limit: int = 0, share: int = 0) -> pb.ListResponse:
        """What the index holds now at places above `after`: see `List` in the proto. Raises the errors of `search`."""
        response: pb.ListResponse = self._call(self._stub.List, pb.ListRequest(after=after, limit=limit, share=share))
        return response

    def delete(self, image_ids: Sequence[str]) -> list[bool]:
        """Hides images until a higher version of them comes; says for each whether it could be found before.

        Only this index hides them. Storage keeps the image with its head and embeddings, so pages and reads still show
        it, and an index built from storage finds it again.

        Raises:
            DeniedError: The caller has not the write key.
            UnavailableError: The server is down, too slow or cannot write.
        """
        response: pb.DeleteResponse = self._call(self._stub.Delete, pb.DeleteRequest(image_ids=image_ids))
        return list(response.deleted)

    def stats(self) -> pb.StatsResponse:
        """What the index holds, and how dense it is.

        Raises:
            UnavailableError: The server is down or too slow.
        """
        response: pb.StatsResponse = self._call(self._stub.Stats, pb.StatsRequest())
        return response

    def snapshot(self, name: str, deadline_s: float) -> pb.SnapshotResponse:
        """Copies the index into a folder of that name, beside it.

        Raises:
            RefusedError: The name is taken, or is not valid.
            DeniedError: The caller has not the write key.
            UnavailableError: The server is down, too slow or cannot write.
        """
        response: pb.SnapshotResponse = self._call(self._stub.Snapshot, pb.SnapshotRequest(name=name), deadline_s)
        return response

    def release(self, log_id: str, offset: int, deadline_s: float | None = None) -> None:
        """Tells the index that storage has passed an offset.

        Raises:
            RefusedError: The index follows another log.
            UnavailableError: The server is down or too slow.
        """
        self._call(self._stub.Release, pb.ReleaseRequest(log_id=log_id, offset=offset), deadline_s)

    def renew(self, log_id: str, base: int) -> int:
        """Makes the index go on with another log, whose offset 0 is the position `base`.

        Returns:
            The last position applied.

        Raises:
            MismatchError: The log must begin one after the last position applied; the message has both values.
            DeniedError: The caller class is not the stream, and the call has not the server's token.
            UnavailableError: The server is down, too slow or cannot write.
        """
        response: pb.RenewResponse = self._call(self._stub.Renew, pb.RenewRequest(log_id=log_id, base=base))
        return response.offset

    def load(self, request: LoadRequest) -> LoadReport:
        """Begins an index with the images of a manifest, beside the live one; asked again, it says how far it is.

        Raises:
            MismatchError: Another load is under way or live.
            DeniedError: The caller has neither the write key nor the token of our own parts.
            UnavailableError: The server is down, too slow or cannot write.
        """
        return self._loaded(self._stub.Load, pb.LoadRequest(**request_fields(request)))

    def load_status(self) -> LoadReport | None:
        """How far the first load is; None: none was asked for.

        Raises:
            UnavailableError: The server is down or too slow.
        """
        answer: pb.LoadStatusResponse = self._call(self._stub.LoadStatus, pb.LoadStatusRequest())
        return load_of(answer) if answer.manifest_id else None

    def abort_load(self, manifest_id: str) -> LoadReport:
        """Ends a first load and removes what it built.

        Raises:
            MismatchError: It is live.
            RefusedError: No such load was asked for.
            DeniedError: As in `load`.
            UnavailableError: The server is down, too slow or cannot write.
        """
        return self._loaded(self._stub.AbortLoad, pb.AbortLoadRequest(manifest_id=manifest_id))

    def adopt_load(self, manifest_id: str, log_id: str, base: int) -> LoadReport:
        """Makes the index of a first load that is ready the one that serves. The server ends, to be started on it, and
        says `ready` until then.

        Args:
            manifest_id: The manifest that storage has swapped to.
            log_id: The log that follows its rows.
            base: The position of that log's offset 0.

        Raises:
            MismatchError: It is not ready, or another base follows it.
            RefusedError: No such load was asked for.
            DeniedError: As in `load`.
            UnavailableError: The server is down, too slow or cannot write: ask again.
        """
        request = pb.AdoptLoadRequest(manifest_id=manifest_id, log_id=log_id, base=base)
        return self._loaded(self._stub.AdoptLoad, request)

    def _loaded(self, method: Any, request: Any) -> LoadReport:
        answer: pb.LoadStatusResponse = self._call(method, request)
        return load_of(answer)

    def _parts(self, entries: Sequence[pb.LogEntry]) -> Iterator[list[pb.LogEntry]]:
        part: list[pb.LogEntry] = []
        size = 0
        for entry in entries:
            entry_bytes = entry.ByteSize() + _OVERHEAD
            if entry_bytes > self._max_request_bytes:
                raise RefusedError(
                    f"offset {entry.offset} has {entry_bytes} bytes, a message takes {self._max_request_bytes}",
                    entry.offset,
                )
            if part and size + entry_bytes > self._max_request_bytes:
                yield part
                part, size = [], 0
            part.append(entry)
            size += entry_bytes
        if part or not entries:
            yield part
