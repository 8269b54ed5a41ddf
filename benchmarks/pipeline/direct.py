"""The three servers of a signal in this process, as the clients that the steps of the sequence expect.

Each call of a client is a method call of the servicer: no gRPC, no serialised messages, no waiting for other calls.
Storage's look-ups and writes go to the store itself, in the records of `core.types`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import inf
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from core.blas import use_one_blas_thread
from core.rpc import CALLER
from core.types import Decision, ImageId, Lookup
from scoring.loaded_models import LoadedModels
from scoring.model import PairModel, model_class
from scoring.model_folder import ModelFolder
from scoring.serving.client import ScorerClient
from scoring.serving.engine import ScorerEngine
from scoring.serving.metrics import ScorerMetrics
from scoring.serving.scorer_pb2_grpc import PairScorerStub
from scoring.serving.server import PairScorerService
from search.hashing.score_codes import ScoreCodes
from search.hashing.terms import TermExtractor
from search.index.interface import TermIndex
from search.serving.admission import Caller
from search.serving.client import SearchClient
from search.serving.search_pb2_grpc import TermSearchStub
from search.serving.server import build_service, open_index
from storage.interfaces import ClusterStore
from storage.opening import open_store
from storage.serving.client import StorageClient
from storage.serving.metrics import StorageMetrics
from storage.serving.service import StorageService
from storage.serving.storage_pb2_grpc import ClusterStorageStub
from stream.hashing import code_identity
from stream.servers import search_server_settings, store_identity
from stream.settings import Settings

__all__ = ["DirectChannel", "DirectServers", "DirectStorage"]

_NOWHERE = "127.0.0.1:1"
_DEADLINE_S = 60.0
_MOST_PAIRS = 260_000


class _DirectContext:
    """What a servicer asks of a call: it is the stream's, it lasts, nobody goes away."""

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return ((CALLER, Caller.STREAM.value),)

    def initial_metadata(self) -> Sequence[tuple[str, str]]:
        return ()

    def time_remaining(self) -> None:
        return None

    def is_active(self) -> bool:
        return True

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return True

    def peer(self) -> str:
        return "direct"


class _DirectMethod:
    """One method of a servicer, called as a stub calls it."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def with_call(self, request: Any, timeout: float | None = None, metadata: Any = None) -> tuple[Any, Any]:
        context = _DirectContext()
        return self._method(request, context), context


class DirectChannel:
    """A channel whose calls are those of a servicer in the same process. Errors are raised as they are."""

    def __init__(self, servicer: object) -> None:
        """Takes the servicer."""
        self._servicer = servicer

    def unary_unary(self, path: str, *_: object, **__: object) -> _DirectMethod:
        """The method that a path names."""
        return _DirectMethod(getattr(self._servicer, path.rpartition("/")[2]))

    unary_stream = unary_unary


class DirectStorage(StorageClient):
    """Looks up and writes in the store itself."""

    def __init__(self, store: ClusterStore) -> None:
        """Takes the store; the calls that the loop does not repeat go through the servicer."""
        super().__init__(_NOWHERE, _DEADLINE_S, 1 << 30)
        self._store = store
        metrics = StorageMetrics(CollectorRegistry(), store.state(), 0)
        self._stub = ClusterStorageStub(cast(Any, DirectChannel(StorageService(store, metrics))))

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """See `StorageClient`."""
        return self._store.look_up(ids, verdicts_of)

    def apply(
        self, log_id: str, decisions: Sequence[Decision], offset: int, revision: int, kinds: Collection[str] = ()
    ) -> int:
        """See `StorageClient`."""
        return self._store.apply(log_id, decisions, offset, revision, kinds).offset


class _DirectEngine:
    """Scores at once, on the thread that asks."""

    def score(
        self,
        client: str,
        model: PairModel,
        left: NDArray[np.uint8],
        right: NDArray[np.uint8],
        deadline_s: float = inf,
        on_submitted: object = None,
    ) -> NDArray[np.float32]:
        return model.score(left, right)


class DirectServers:
    """Index, model and store of the default signal, new in the data folder of the settings."""

    def __init__(self, settings: Settings) -> None:
        """Opens all three, with compiled kernels and a warm model."""
        name, signal = settings.signal()
        use_one_blas_thread()
        told = search_server_settings(settings, name)
        self.extractor: TermExtractor = told.terms.build()
        self.coder: ScoreCodes = told.code.build()
        opened = open_index(told, self.extractor, self.coder)
        self._index: TermIndex = opened.index
        service = build_service(told, opened, self.extractor, self.coder, CollectorRegistry(), lambda: None)
        self.search = SearchClient(_NOWHERE, _DEADLINE_S, 1 << 30, Caller.STREAM)
        self.search._stub = TermSearchStub(cast(Any, DirectChannel(service)))
        kind = model_class(signal.model_class)
        kind.configure(1)
        folder, codes = ModelFolder(settings.path(signal.model)), code_identity(settings, signal)
        scorer = PairScorerService(
            LoadedModels(folder, kind, codes=codes),
            cast(ScorerEngine, _DirectEngine()),
            ScorerMetrics(CollectorRegistry()),
            _MOST_PAIRS,
        )
        self.scorer = ScorerClient(_NOWHERE, _DEADLINE_S, 1 << 30)
        self.scorer._stub = PairScorerStub(cast(Any, DirectChannel(scorer)))
        self.store = open_store(signal.store_class, settings.signal_dir(name, "store"), store_identity(settings, name))
        self.storage = DirectStorage(self.store)

    def close(self) -> None:
        """Closes all three."""
        for client in (self.search, self.scorer, self.storage):
            client.close()
        self.store.close()
        self._index.close()
