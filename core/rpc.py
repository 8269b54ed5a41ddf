"""What gRPC servers and clients share: limits, errors, instance id, health, reflection, metrics page, graceful stop.

Servicer methods raise errors of `core.errors`. An interceptor turns each into a status code with trailing metadata, and
`RpcClient` turns that back into the same error:

    RefusedError, BadInputError   INVALID_ARGUMENT     `bad-offset`, where one item is wrong
    LogGapError                   OUT_OF_RANGE         `expected`
    StaleError                    ABORTED              `offset`, `revision`
    UnavailableError              RESOURCE_EXHAUSTED   `retry-after-ms`
    BusyError                     RESOURCE_EXHAUSTED   `retry-after-ms` and `busy`: a rate or a queue is full
    DeniedError                   PERMISSION_DENIED    the call lacks a right (`core.access`)
    MismatchError, NeardupError   FAILED_PRECONDITION
    ConflictError                 FAILED_PRECONDITION  `conflict`
    anything else                 INTERNAL (logged with its traceback)

Every answer and every error carries the `instance-id` of the server process as initial metadata. So a caller whose
call broke off can tell a slow server from one that was restarted.

Each method needs a right, which the caller's key gives (`core.access`). Health is open to everyone.

Each server also has the standard services `grpc.health.v1.Health` (for "" and for each service by name) and
`grpc.reflection.v1alpha.ServerReflection`.
"""

from __future__ import annotations

import logging
import signal
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

import grpc
from prometheus_client import CollectorRegistry

from core.access import ANONYMOUS, AUTHORIZATION, OPEN, Access, ClientTls, Credentials, Right, ServerTls, is_loopback
from core.certificates import CertificateCollector, authorities_end_s, chain_end_s
from core.errors import (
    BadInputError,
    BusyError,
    ConflictError,
    DeadlineError,
    DeniedError,
    FaultError,
    LogGapError,
    MismatchError,
    NeardupError,
    RefusedError,
    SettingsError,
    StaleError,
    UnavailableError,
)
from core.intake import Intake, Intakes
from core.status_page import StatusPage
from core.stream_watch import StreamWatch

__all__ = ["CALLER", "Listen", "RpcClient", "RpcServer", "StandardServices", "metadata_of"]

log = logging.getLogger(__name__)

INSTANCE_ID = "instance-id"
"""Initial metadata: a random id of the server process."""

CALLER = "caller"
"""Metadata of a call: the class of the caller (`search.serving.admission`)."""

_CONNECT_MS = 2_000
"""An attempt to connect may take so long, in milliseconds: a busy server accepts a connection late. One that is refused
fails at once, and is made again soon."""

_STANDARD = "/grpc."
"""How the paths of the standard services' methods start."""

_HEALTH = "/grpc.health."
"""How the paths of the health service's methods start."""

_Request = TypeVar("_Request")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a server listens, and how much it accepts at once."""

    bind_host: str
    port: int
    metrics_port: int
    max_message_bytes: int
    workers: int = 8
    max_calls: int | None = None
    """Calls at once; more are rejected with RESOURCE_EXHAUSTED. None: no limit, they wait for a worker."""
    request_bytes: int = 2**28
    """What the large requests of the stream may take together while they are received and handled; as much again those
    of all others. One of each always gets in (`core.intake`)."""
    stall_s: float = 300.0
    """How long the reader of a stream may leave one message before the stream is ended. A build of the index stops
    reading while it writes a segment."""
    access: Access = OPEN
    tls: ServerTls | None = None
    connections: int = 512
    """Connections at once; more are closed. Those that have not finished their handshake count too."""
    handshake_s: float = 10.0
    """How long a new connection may take for TLS and for the first frame of HTTP/2."""

    def __post_init__(self) -> None:
        """Checks that nobody beyond this machine may call without a key or a certificate."""
        proven = self.tls is not None and bool(self.tls.client_ca_file)
        if self.access.anyone and not proven and not is_loopback(self.bind_host):
            raise SettingsError(
                f"port {self.port} listens on {self.bind_host}, where others than this machine reach it, and has no key"
                " to tell its callers apart: run `neardup secrets make`, or name a file in access.parts_token_file, or"
                " demand client certificates (tls.client_ca_file), or set bind_host to 127.0.0.1"
            )


_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)
"""Both ends of a connection notice within 40 s that the other machine is gone, also during a long stream."""


_IDLE_MS = 600_000
"""A connection without a call for so long is closed; a client opens the next with its next call."""


def _connection_limits(listen: Listen) -> list[tuple[str, int]]:
    return [
        ("grpc.max_allowed_incoming_connections", listen.connections),
        ("grpc.server_handshake_timeout_ms", int(listen.handshake_s * 1000)),
        ("grpc.max_connection_idle_ms", _IDLE_MS),
        # Else the window of each stream grows, and holds megabytes that no call has asked for.
        ("grpc.http2.bdp_probe", 0),
    ]


def _message_limits(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    ]


def _refuse(context: grpc.ServicerContext, error: BaseException) -> NoReturn:
    """Ends a call with the status code of an error."""
    code, trailing = grpc.StatusCode.INTERNAL, dict[str, object]()
    match error:
        case RefusedError(offset=offset):
            code = grpc.StatusCode.INVALID_ARGUMENT
            if offset is not None:
                trailing["bad-offset"] = offset
        case BadInputError():
            code = grpc.StatusCode.INVALID_ARGUMENT
        case LogGapError(expected=expected):
            code = grpc.StatusCode.OUT_OF_RANGE
            if expected is not None:
                trailing["expected"] = expected
        case StaleError(offset=at, revision=revision):
            code, trailing = grpc.StatusCode.ABORTED, {"offset": at, "revision": revision}
        case UnavailableError(retry_after_s=wait_s):
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            if wait_s is not None:
                trailing["retry-after-ms"] = ceil(wait_s * 1000)
            if isinstance(error, BusyError):
                trailing["busy"] = 1
        case DeniedError():
            code = grpc.StatusCode.PERMISSION_DENIED
        case ConflictError():
            code, trailing = grpc.StatusCode.FAILED_PRECONDITION, {"conflict": 1}
        case MismatchError() | NeardupError():
            code = grpc.StatusCode.FAILED_PRECONDITION
        case _:
            log.error("a call failed", exc_info=error)
    context.set_trailing_metadata(tuple((key, str(value)) for key, value in trailing.items()))
    context.abort(code, f"{type(error).__name__}: {error}" if code is grpc.StatusCode.INTERNAL else str(error))
    raise AssertionError("abort returned")


class _Edge(grpc.ServerInterceptor):  # type: ignore[misc, type-arg, unused-ignore]
    """Checks the caller's right, sends the instance id and maps errors, around every method of ours."""

    def __init__(
        self,
        instance_id: str,
        watch: StreamWatch,
        intakes: Intakes,
        access: Access,
        rights: Mapping[str, Right],
    ) -> None:
        self._metadata = ((INSTANCE_ID, instance_id),)
        self._watch = watch
        self._intakes = intakes
        self._access = access
        self._rights = rights

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None:
            return None
        if method.startswith(_HEALTH):
            return _receiving(handler, self._intakes.health, _health_edge, self._watch)
        standard = method.startswith(_STANDARD)
        needed = Right.READ if standard else self._rights.get(method.rpartition("/")[2], Right.STREAM)
        metadata = handler_call_details.invocation_metadata
        try:
            self._access.check(needed, _sent(metadata, AUTHORIZATION))
        except DeniedError as error:
            return _denied(error)
        if standard:
            return handler
        intake = self._intakes.stream if self._of_stream(needed, metadata) else self._intakes.others
        return _receiving(handler, intake, self._edge, self._watch)

    def _of_stream(self, needed: Right, metadata: Iterable[tuple[str, str | bytes]] | None) -> bool:
        """Whether the call is the stream's: only the stream may make it, or the caller says and proves that it is."""
        if needed is Right.STREAM:
            return True
        if _sent(metadata, CALLER) != Right.STREAM:
            return False
        try:
            self._access.check(Right.STREAM, _sent(metadata, AUTHORIZATION))
        except DeniedError:
            return False
        return True

    @contextmanager
    def _edge(self, context: grpc.ServicerContext) -> Iterator[None]:
        context.send_initial_metadata(self._metadata)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the edge: every error becomes a status code
            _refuse(context, error)


@contextmanager
def _health_edge(context: grpc.ServicerContext) -> Iterator[None]:
    """The health service ends its calls by itself."""
    try:
        yield
    except NeardupError as error:
        _refuse(context, error)


def _receiving(
    handler: grpc.RpcMethodHandler[Any, Any],
    intake: Intake,
    edge: Callable[[grpc.ServicerContext], AbstractContextManager[None]],
    watch: StreamWatch,
) -> grpc.RpcMethodHandler[Any, Any]:
    """The same handler as one of a stream of one request, which is the same to the caller.

    So the request is received when it is asked for. A stream of answers keeps the slot of a large request to its end.
    """

    def unary(requests: Iterator[bytes], context: grpc.ServicerContext) -> Any:
        with edge(context), intake.received(requests, context) as request:
            return handler.unary_unary(handler.request_deserializer(request), context)  # type: ignore[misc]

    def stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
        with edge(context), intake.received(requests, context) as request:
            answers = handler.unary_stream(handler.request_deserializer(request), context)  # type: ignore[misc]
            yield from watch.watched(context, answers)

    if handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(stream, None, handler.response_serializer)
    return grpc.stream_unary_rpc_method_handler(unary, None, handler.response_serializer)


def _denied(error: DeniedError) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that refuses the call. As a handler of streams it does not receive the request before."""

    def refuse(_: Any, context: grpc.ServicerContext) -> NoReturn:
        _refuse(context, error)

    return grpc.stream_stream_rpc_method_handler(refuse)


def metadata_of(context: grpc.ServicerContext, key: str) -> str | None:
    """The value that a caller sent under a key of the metadata; None when it sent none."""
    return _sent(context.invocation_metadata(), key)


def _sent(metadata: Iterable[tuple[str, str | bytes]] | None, key: str) -> str | None:
    for sent, value in metadata or ():
        if sent == key:
            return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return None


class _Registrar:
    """Hands services on to a server, and notes their names; what generated code calls of a `grpc.Server`."""

    def __init__(self, server: grpc.Server) -> None:
        self._server = server
        self.services: list[str] = []

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        self.services += [handler.service_name() for handler in handlers]
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self._server.add_registered_method_handlers(service, handlers)  # type: ignore[attr-defined, unused-ignore]


_REFLECTION_STREAMS = 2
"""Clients that use reflection at once. Each holds a worker for as long as it likes."""


class StandardServices:
    """The health and reflection services of one server, and the servicer of `grpc.health.v1.Health`."""

    def __init__(self, server: grpc.Server, services: Sequence[str]) -> None:
        """Adds both to a server, for its own services by their full names."""
        # Here, not above: a process that only calls servers need not have these installed.
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc
        from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

        self.serving = False
        """What `Check` says."""
        self._known = {"", *services}
        self._response = health_pb2.HealthCheckResponse
        health_pb2_grpc.add_HealthServicer_to_server(self, server)
        known = [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]
        self._reflection: Any = reflection.ReflectionServicer(known)
        self._reflection_slots = threading.BoundedSemaphore(_REFLECTION_STREAMS)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(self, server)

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - the name that the proto gives
        """SERVING or NOT_SERVING, for the whole server ("") and for each service; NOT_FOUND for any other."""
        if request.service not in self._known:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service[:80]!r}")
        return self._response(status=self._response.SERVING if self.serving else self._response.NOT_SERVING)

    def ServerReflectionInfo(  # noqa: N802 - the name that the proto gives
        self, requests: Iterator[Any], context: grpc.ServicerContext
    ) -> Iterator[Any]:
        """What services there are; RESOURCE_EXHAUSTED for streams over the limit, as each holds a worker."""
        if not self._reflection_slots.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "other clients use reflection: try again later")
        try:
            yield from self._reflection.ServerReflectionInfo(requests, context)
        finally:
            self._reflection_slots.release()

    def Watch(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - the name that the proto gives
        """UNIMPLEMENTED, which the protocol allows.

        The `Watch` of grpcio-health-checking 1.65 deadlocks when a watcher leaves while the server stops, or it holds a
        worker for each watcher.
        """
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "Watch is not offered: call Check")


class RpcServer:
    """A gRPC server with its metrics page, from start to graceful stop."""

    def __init__(
        self,
        name: str,
        listen: Listen,
        register: Callable[[grpc.Server], None],
        registry: CollectorRegistry,
        rights: Mapping[str, Right] = MappingProxyType({}),
    ) -> None:
        """Prepares the server; `start` opens the ports.

        Args:
            name: For messages and thread names.
            listen: Addresses and limits.
            register: Adds the servicer to the server that it is given, by the generated function.
            registry: The metrics of the page; `neardup_build_info` is added.
            rights: What each method needs, by its name; a method that is not named is for the stream alone.
        """
        self.instance_id = uuid.uuid4().hex
        self._name = name
        self._listen = listen
        self._watch = StreamWatch(listen.stall_s)
        self._intakes = Intakes(listen.request_bytes, listen.max_message_bytes)
        self._server = grpc.server(
            ThreadPoolExecutor(listen.workers, thread_name_prefix=name),
            interceptors=[_Edge(self.instance_id, self._watch, self._intakes, listen.access, rights)],
            options=[
                *_message_limits(listen.max_message_bytes),
                *_KEEPALIVE,
                *_connection_limits(listen),
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=listen.max_calls,
        )
        if listen.tls is not None:
            registry.register(CertificateCollector(_certificate_ends(listen.tls)))
        registrar = _Registrar(self._server)
        register(registrar)  # type: ignore[arg-type]
        self.standard = StandardServices(self._server, registrar.services)
        self._page = StatusPage(listen.bind_host, listen.metrics_port, registry)
        self._stopping = threading.Event()

    def start(self) -> None:
        """Binds both ports and serves; then `/readyz` and the health service say so.

        Raises:
            UnavailableError: A port is taken.
        """
        address = f"{self._listen.bind_host}:{self._listen.port}"
        try:
            bound = self._open_port(address)
        except RuntimeError:
            bound = 0
        if bound == 0:
            raise UnavailableError(f"{self._name} cannot listen on {address}: is another one running there?")
        self._page.start()
        self._watch.start()
        self._intakes.start()
        self._server.start()
        self._page.ready = True
        self.standard.serving = True
        log.info("%s listens on %s, metrics on port %d", self._name, address, self._listen.metrics_port)

    def _open_port(self, address: str) -> int:
        if self._listen.tls is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, _server_credentials(self._listen.tls))

    def stop(self, grace_s: float = 5.0) -> None:
        """Refuses new calls, gives running ones `grace_s` seconds to end, closes both ports."""
        self._page.ready = False
        self.standard.serving = False
        self._server.stop(grace_s).wait()
        self._watch.stop()
        self._intakes.stop()
        self._page.stop()

    def run_until_stopped(self, on_stop: Callable[[], None]) -> None:
        """Serves until SIGTERM or SIGINT, then stops gracefully and calls `on_stop`. Main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        self.start()
        self._stopping.wait()
        log.info("%s is stopping", self._name)
        self.stop()
        on_stop()


class RpcClient:
    """A channel to one server. Calls have a deadline and raise errors of `core.errors`."""

    def __init__(
        self,
        address: str,
        deadline_s: float,
        max_message_bytes: int,
        credentials: Credentials = ANONYMOUS,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Opens the channel; the server need not be up. `metadata` goes with every call.

        Raises:
            SettingsError: A file of the credentials cannot be read.
        """
        self.address = address
        authorization = credentials.authorization()
        self._metadata = (*metadata, *([(AUTHORIZATION, authorization)] if authorization else []))
        self.instance_id: str | None = None
        """The instance id of the server process that answered last."""
        self._deadline_s = deadline_s
        options = [
            *_message_limits(max_message_bytes),
            *_KEEPALIVE,
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),  # gRPC also ends an attempt after this time
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        self.channel = (
            grpc.insecure_channel(address, options)
            if credentials.tls is None
            else grpc.secure_channel(address, _channel_credentials(credentials.tls), options)
        )

    def close(self) -> None:
        """Closes the channel."""
        self.channel.close()

    def _call(self, method: Callable[..., Any], request: _Request, deadline_s: float | None = None) -> Any:
        """One unary call.

        Raises:
            ServiceError: By the table at the top of this module.
        """
        try:
            response, call = method.with_call(  # type: ignore[attr-defined]
                request, timeout=deadline_s or self._deadline_s, metadata=self._metadata
            )
        except grpc.RpcError as error:
            self._note_instance(error)
            raise translate(error, self.address) from error
        self._note_instance(call)
        return response

    def _note_instance(self, call: Any) -> None:
        for key, value in call.initial_metadata() or ():
            if key == INSTANCE_ID:
                self.instance_id = value


def _server_credentials(tls: ServerTls) -> grpc.ServerCredentials:
    ca = _pem("tls.client_ca_file", tls.client_ca_file)
    pair = (_pem("tls.key_file", tls.key_file) or b"", _pem("tls.cert_file", tls.cert_file) or b"")
    return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)


def _certificate_ends(tls: ServerTls) -> dict[str, float]:
    ends = {"tls.cert_file": chain_end_s(Path(tls.cert_file))}
    if tls.client_ca_file:
        ends["tls.client_ca_file"] = authorities_end_s(Path(tls.client_ca_file))
    return ends


def _channel_credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        _pem("tls.ca_file", tls.ca_file),
        _pem("tls.client_key_file", tls.key_file),
        _pem("tls.client_cert_file", tls.cert_file),
    )


def _pem(setting: str, file: str) -> bytes | None:
    """The content of a PEM file; none without a file."""
    try:
        return Path(file).read_bytes() if file else None
    except OSError as error:
        raise SettingsError(f"{setting}: the file {file} cannot be read: {error.strerror}") from error


def translate(error: Any, address: str) -> NeardupError:
    """The error of `core.errors` for an error that a call raised."""
    trailing = dict(error.trailing_metadata() or ())
    message = f"{address}: {error.details()}"
    match error.code():
        case grpc.StatusCode.INVALID_ARGUMENT:
            bad = trailing.get("bad-offset")
            return RefusedError(message, int(bad) if bad is not None else None)
        case grpc.StatusCode.OUT_OF_RANGE:
            expected = trailing.get("expected")
            return LogGapError(message, int(expected) if expected is not None else None)
        case grpc.StatusCode.ABORTED:
            return StaleError(message, int(trailing["offset"]), int(trailing["revision"]))
        case grpc.StatusCode.FAILED_PRECONDITION:
            return ConflictError(message) if "conflict" in trailing else MismatchError(message)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            wait_ms = trailing.get("retry-after-ms")
            if wait_ms is not None and "busy" in trailing:
                return BusyError(message, int(wait_ms) / 1000)
            return UnavailableError(message, int(wait_ms) / 1000 if wait_ms is not None else None)
        case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.UNAUTHENTICATED:
            return DeniedError(message)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineError(message)
        case grpc.StatusCode.CANCELLED:
            return UnavailableError(f"{message}: the server broke off the call; it stops, or its answer was not read")
        case grpc.StatusCode.UNAVAILABLE:
            return UnavailableError(message)
        case _:
            return FaultError(message)
