"""The scorer: serves one folder of models, in micro-batches across requests and clients."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from types import MappingProxyType

import grpc
import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from core.access import Right
from core.byte_budget import ByteBudget
from core.errors import BadInputError, BusyError, RefusedError, SettingsError
from core.rpc import Listen, RpcServer
from scoring.batching import QUANTUM, ScoreBatchPolicy
from scoring.code_identity import CodeIdentity
from scoring.loaded_models import LoadedModels
from scoring.model import PairModel, model_class
from scoring.model_folder import ModelFolder
from scoring.serving import scorer_pb2 as pb
from scoring.serving import scorer_pb2_grpc
from scoring.serving.engine import ScorerEngine
from scoring.serving.metrics import ScorerMetrics
from scoring.serving.model_watch import ModelWatch

__all__ = ["RIGHTS", "PairScorerService", "ScorerServerSettings", "serve"]

log = logging.getLogger(__name__)

RIGHTS: Mapping[str, Right] = MappingProxyType({"Score": Right.READ, "Describe": Right.READ})
"""What each method needs."""

MAX_UNPACKED_BYTES = 2**29
"""The most bytes of unpacked codes that all calls hold together. A call of 33 MB unpacks to twice that."""


@dataclass(frozen=True, slots=True)
class ScorerServerSettings:
    """The settings of one scorer."""

    listen: Listen
    model: Path
    """The folder of the models; its file `served` names the one in use."""
    model_class: str = "tensorflow"
    """Loads and runs the models: the name of an entry point of `neardup.models`, or `module:Class`."""
    max_pairs: int | None = None
    """Pairs per run of the model, at most; None: as many as suit its class. 1,024 take the sample's model 2 ms."""
    max_delay_ms: float = 0.5
    """The longest time that a request waits for a batch to fill."""
    max_queued_pairs: int = 400_000
    """Requests beyond it are rejected, to be sent again later."""
    max_request_pairs: int = 260_000
    """Pairs per call, at most."""
    max_calls: int = 64
    """Calls that may wait at the same time."""
    threads: int = 1
    """Batches that run at a time, each on one core; the other parts of the service need cores too. Scores do not depend
    on it."""
    kept_models: int = 4
    """Versions held in memory beside the served one."""
    codes: CodeIdentity | None = None
    """The codes that every model must compare; None: those of the first served model."""
    watch_s: float = 0.5
    """Seconds between two checks of the file `served`."""

    def __post_init__(self) -> None:
        """Checks the limits against each other."""
        if not 1 <= self.max_request_pairs <= self.max_queued_pairs:
            raise SettingsError(
                f"max_request_pairs ({self.max_request_pairs}) must lie in 1 to max_queued_pairs "
                f"({self.max_queued_pairs})"
            )
        if self.max_calls < 1 or self.threads < 1 or self.kept_models < 0:
            raise SettingsError("max_calls and threads must be at least 1, kept_models at least 0")
        if not 0 < self.watch_s < inf:
            raise SettingsError(f"watch_s must be positive, not {self.watch_s}")
        _ = self.policy(min(QUANTUM, self.max_queued_pairs))

    def policy(self, batch_pairs: int) -> ScoreBatchPolicy:
        """The limits of batches and queue, for a model whose best batch has `batch_pairs` pairs."""
        max_pairs = batch_pairs if self.max_pairs is None else self.max_pairs
        return ScoreBatchPolicy(
            max_pairs=max_pairs,
            max_delay_s=self.max_delay_ms / 1000,
            max_queued_pairs=self.max_queued_pairs,
            quantum=min(QUANTUM, max_pairs),
        )


class PairScorerService(scorer_pb2_grpc.PairScorerServicer):
    """The methods of `PairScorer`. They raise errors of `core.errors`; `core.rpc` maps them to gRPC codes."""

    def __init__(
        self,
        models: LoadedModels,
        engine: ScorerEngine,
        metrics: ScorerMetrics,
        max_request_pairs: int,
        max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
    ) -> None:
        """Takes its parts and limits."""
        self._unpacked = ByteBudget(max_unpacked_bytes)
        self._models = models
        self._engine = engine
        self._metrics = metrics
        self._max_request_pairs = max_request_pairs

    def Score(  # noqa: N802 - the name in the proto
        self, request: pb.ScoreRequest, context: grpc.ServicerContext
    ) -> pb.ScoreResponse:
        """Scores of each block's query against its candidates."""
        with self._metrics.call("Score"):
            model = self._models.get(request.model_version)
            if not request.blocks:
                raise BadInputError("a call needs at least one block of a query with its candidates")
            counts = _pair_counts(request.blocks, model.card.code_bytes)
            if sum(counts) > self._max_request_pairs:
                raise BadInputError(f"a call takes at most {self._max_request_pairs} pairs, not {sum(counts)}")
            with self._room(2 * sum(counts) * model.card.code_bytes):
                left, right = _codes(request.blocks, counts, model.card.code_bytes)
                scores = self._score(model, left, right, context)
            parts = np.split(scores.astype("<f4", copy=False), np.cumsum(counts)[:-1])
            limits = model.card.thresholds
            return pb.ScoreResponse(
                model_version=model.card.version,
                accept=limits.accept,
                head_accept=limits.head_accept,
                adopt=limits.adopt,
                scores=[part.tobytes() for part in parts],
                gate=model.card.gate,
            )

    @contextmanager
    def _room(self, unpacked_bytes: int) -> Iterator[None]:
        """Lets a call in before its codes are unpacked: both sides of every pair take as many bytes."""
        with ExitStack() as held:
            try:
                held.enter_context(self._unpacked.hold(unpacked_bytes))
            except BusyError:
                self._metrics.rejected.inc()
                raise
            yield

    def _score(
        self, model: PairModel, left: NDArray[np.uint8], right: NDArray[np.uint8], context: grpc.ServicerContext
    ) -> NDArray[np.float32]:
        remaining_s = context.time_remaining()

        def on_submitted(withdraw: Callable[[], None]) -> None:
            if not context.add_callback(withdraw):
                withdraw()

        return self._engine.score(
            context.peer(), model, left, right, inf if remaining_s is None else remaining_s, on_submitted
        )

    def Describe(  # noqa: N802 - the name in the proto
        self, request: pb.DescribeRequest, context: grpc.ServicerContext
    ) -> pb.DescribeResponse:
        """The served model, and the version that was refused, if any."""
        with self._metrics.call("Describe"):
            card, refusal = self._models.served.card, self._models.refusal
            return pb.DescribeResponse(
                model_version=card.version,
                code_fingerprint=card.code_fingerprint,
                code_bytes=card.code_bytes,
                accept=card.thresholds.accept,
                head_accept=card.thresholds.head_accept,
                adopt=card.thresholds.adopt,
                refused_version=refusal.version if refusal else "",
                refusal=refusal.reason if refusal else "",
                gate=card.gate,
            )


def serve(settings: ScorerServerSettings) -> None:
    """Runs the scorer until SIGTERM or SIGINT. Main thread only.

    Raises:
        BadInputError: No model is served, or it cannot be opened.
        SettingsError: There is no such model class.
        MismatchError: It compares other codes than the settings say.
        UnavailableError: A port is taken.
    """
    started = time.monotonic()
    kind = model_class(settings.model_class)
    kind.configure(settings.threads)
    models = LoadedModels(ModelFolder(settings.model), kind, settings.kept_models, settings.codes)
    registry = CollectorRegistry()
    metrics = ScorerMetrics(registry)
    policy = settings.policy(kind.batch_pairs)
    engine = ScorerEngine(policy, metrics, settings.threads)
    service = PairScorerService(models, engine, metrics, settings.max_request_pairs)
    _log_start(settings, policy, models, time.monotonic() - started)
    # Each waiting call holds a worker. With fewer workers, calls would wait outside the queue and its limit.
    listen = replace(settings.listen, workers=max(settings.listen.workers, settings.max_calls))
    server = RpcServer(
        "scorer",
        listen,
        lambda grpc_server: scorer_pb2_grpc.add_PairScorerServicer_to_server(service, grpc_server),
        registry,
        RIGHTS,
    )
    watch = ModelWatch(models, metrics, settings.watch_s)
    try:
        server.run_until_stopped(lambda: None)
    finally:
        watch.stop()
        engine.stop()


def _log_start(settings: ScorerServerSettings, policy: ScoreBatchPolicy, models: LoadedModels, seconds: float) -> None:
    card = models.served.card
    log.info(
        "scorer loaded its model %s",
        json.dumps(
            {
                "folder": str(settings.model),
                "version": card.version,
                "bits": card.bits,
                "parameters": card.parameters,
                "code_fingerprint": card.code_fingerprint,
                "embedding": f"{card.embedding_name} {card.embedding_version}",
                "thresholds": [card.thresholds.accept, card.thresholds.head_accept, card.thresholds.adopt],
                "gate": card.gate,
                "class": settings.model_class,
                "max_pairs": policy.max_pairs,
                "max_delay_ms": settings.max_delay_ms,
                "threads": settings.threads,
                "seconds": round(seconds, 3),
            }
        ),
    )


def _pair_counts(blocks: Sequence[pb.PairBlock], code_bytes: int) -> list[int]:
    """The number of pairs of each block; the lengths of all codes are checked.

    Raises:
        RefusedError: A code has the wrong length.
    """
    counts = []
    for index, block in enumerate(blocks):
        if len(block.query_code) != code_bytes:
            raise RefusedError(
                f"block {index}: the query code has {len(block.query_code)} bytes, the model takes {code_bytes}"
            )
        if len(block.candidate_codes) % code_bytes:
            raise RefusedError(
                f"block {index}: the candidate codes have {len(block.candidate_codes)} bytes, "
                f"no multiple of the model's {code_bytes}"
            )
        counts.append(len(block.candidate_codes) // code_bytes)
    return counts


def _codes(
    blocks: Sequence[pb.PairBlock], counts: Sequence[int], code_bytes: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both sides of all pairs: (n, code_bytes) each."""
    queries = np.frombuffer(b"".join(block.query_code for block in blocks), dtype=np.uint8)
    others = np.frombuffer(b"".join(block.candidate_codes for block in blocks), dtype=np.uint8)
    left = np.repeat(queries.reshape(-1, code_bytes), counts, axis=0)
    return left, others.reshape(-1, code_bytes)
