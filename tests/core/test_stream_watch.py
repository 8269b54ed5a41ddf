"""Streams whose readers stop reading: only these are ended, and what they held is given back."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import pytest
from prometheus_client import CollectorRegistry

from core.errors import UnavailableError
from core.rpc import Listen, RpcServer, translate
from core.stream_watch import StreamWatch
from tests.support.ports import free_ports


class Call:
    """A call that notes that it was cancelled."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


def test_a_message_that_is_not_taken_in_time_ends_its_stream_alone() -> None:
    # seconds   0       9       10
    # slow      first sent      cancelled
    # steady    first   second  goes on
    # ended     taken
    now = [0.0]
    watch = StreamWatch(10.0, lambda: now[0])
    slow, steady, ended = Call(), Call(), Call()
    streams = [watch.watched(call, iter("ab")) for call in (slow, steady)]
    assert [next(stream) for stream in streams] == ["a", "a"]
    assert list(watch.watched(ended, iter("a"))) == ["a"]
    now[0] = 9.0
    assert next(streams[1]) == "b"
    watch.end_stalled()
    assert not slow.cancelled
    now[0] = 10.0
    watch.end_stalled()
    assert (slow.cancelled, steady.cancelled, ended.cancelled) == (True, False, False)


def test_a_real_stream_that_nobody_reads_is_ended_and_lets_go() -> None:
    let_go = threading.Event()

    def read(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            while True:
                yield bytes(2**20)
        finally:
            let_go.set()

    handlers = {"Read": grpc.unary_stream_rpc_method_handler(read, request_deserializer=bytes)}
    port, page = free_ports(2)
    server = RpcServer(
        "test",
        Listen("127.0.0.1", port, page, 2**22, workers=1, stall_s=0.2),
        lambda into: into.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Stream", handlers),)),
        CollectorRegistry(),
    )
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_stream("/test.Stream/Read")(b"")
            next(call)
            assert let_go.wait(30.0)
            with pytest.raises(grpc.RpcError) as caught:
                list(call)
            error = translate(caught.value, "there")
            assert isinstance(error, UnavailableError)
            assert "its answer was not read" in str(error)
    finally:
        server.stop(0.0)
