"""Load for the scorer, from separate processes: as fast as it answers (closed loop), or at a given rate (open loop)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

__all__ = ["Latencies", "closed_loop", "open_loop"]

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Latencies:
    """Milliseconds from the time when a request was due to its answer."""

    requests: int
    failed: int
    p50_ms: float
    p99_ms: float


def closed_loop(
    address: str, code_bytes: int, clients: int, pairs: int, queries: int, seconds: float, under_way: int = 2
) -> float:
    """Pairs per second of `clients` processes, each with `under_way` requests under way.

    Args:
        address: The address of the scorer.
        code_bytes: Bytes per code.
        clients: Client processes.
        pairs: Pairs per request, spread evenly over its queries.
        queries: Blocks per request.
        seconds: Duration.
        under_way: Requests that a client sends without waiting for an answer.
    """
    return sum(_in_processes(clients, _closed, (address, code_bytes, pairs, queries, seconds, under_way)))


def open_loop(
    address: str, code_bytes: int, clients: int, pairs: int, requests_per_s: float, seconds: float
) -> Latencies:
    """Latencies of requests of one query, sent at random times (Poisson) with this rate over all clients."""
    arguments = (address, code_bytes, pairs, requests_per_s / clients, seconds)
    waits = np.concatenate([np.array(each) for each in _in_processes(clients, _open, arguments)])
    answered = waits[np.isfinite(waits)]
    if not len(answered):
        raise RuntimeError("the scorer answered no request")
    p50, p99 = np.percentile(answered, [50, 99])
    return Latencies(len(waits), len(waits) - len(answered), float(p50), float(p99))


def _in_processes(clients: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Any]:
    context = get_context("spawn")
    start = context.Barrier(clients)
    with context.Pool(clients, _remember, (start,)) as pool:
        return pool.starmap(work, [(number, *arguments) for number in range(clients)], chunksize=1)


_START: Any = None


def _remember(start: Any) -> None:
    global _START
    _START = start


def _request(seed: int, code_bytes: int, pairs: int, queries: int) -> bytes:
    """A serialized request: to make it each time would measure the client."""
    from scoring.serving.scorer_pb2 import PairBlock, ScoreRequest

    random = np.random.default_rng(seed)
    sizes = np.diff(np.linspace(0, pairs, queries + 1).astype(int))
    blocks = [
        PairBlock(query_code=random.bytes(code_bytes), candidate_codes=random.bytes(code_bytes * size))
        for size in sizes
    ]
    made: bytes = ScoreRequest(blocks=blocks).SerializeToString()
    return made


def _method(address: str) -> tuple[Any, Any]:
    import grpc

    limits = [("grpc.max_receive_message_length", 1 << 26), ("grpc.max_send_message_length", 1 << 26)]
    channel = grpc.insecure_channel(address, options=limits)
    return channel, channel.unary_unary("/neardup.scorer.v1.PairScorer/Score")


def _closed(
    number: int, address: str, code_bytes: int, pairs: int, queries: int, seconds: float, under_way: int
) -> float:
    channel, method = _method(address)
    request = _request(number, code_bytes, pairs, queries)
    method(request, timeout=_TIMEOUT_S)
    _START.wait()
    started = time.perf_counter()
    waiting = [method.future(request, timeout=_TIMEOUT_S) for _ in range(under_way)]
    done = 0
    while (spent := time.perf_counter() - started) < seconds:
        waiting.pop(0).result()
        done += pairs
        waiting.append(method.future(request, timeout=_TIMEOUT_S))
    for one in waiting:
        one.cancel()
    channel.close()
    return done / spent


def _open(number: int, address: str, code_bytes: int, pairs: int, requests_per_s: float, seconds: float) -> list[float]:
    channel, method = _method(address)
    request = _request(number, code_bytes, pairs, 1)
    random = np.random.default_rng(number)
    due = np.cumsum(random.exponential(1 / requests_per_s, max(1, round(requests_per_s * seconds))))
    waits = [np.inf] * len(due)
    left = threading.Semaphore(0)
    method(request, timeout=_TIMEOUT_S)
    _START.wait()
    started = time.perf_counter()

    def note(index: int, call: Any) -> None:
        if call.code().value[0] == 0:
            waits[index] = 1000 * (time.perf_counter() - started - due[index])
        left.release()

    for index, moment in enumerate(due):
        time.sleep(max(0.0, started + moment - time.perf_counter()))
        call = method.future(request, timeout=_TIMEOUT_S)
        call.add_done_callback(lambda call, index=index: note(index, call))
    for _ in due:
        left.acquire()
    channel.close()
    return waits
