"""Trials against a running service: the clients of its three servers, and the codes of images that have none."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType

from core.access import Right
from core.known_verdicts import KnownVerdict
from core.vectors import stored_type, vector_values
from scoring.serving.client import ScorerClient
from search.serving.admission import Caller
from search.serving.client import SearchClient
from storage.selecting import SelectedImage
from storage.serving.client import StorageClient
from stream.access import credentials
from stream.hashing import code_settings
from stream.replay.differences import DiffReport
from stream.replay.sending import FoundImages, LeftOut
from stream.replay.trial import BATCH, TrialServers, TrialSettings, try_images
from stream.settings import Settings

__all__ = ["TrialService"]

CALL_S = 30.0
"""The deadline of one call, in seconds: trials go after the stream."""


class TrialService:
    """Tries images and reports what would change. Use it as a context manager."""

    def __init__(self, settings: Settings, signal_name: str, storage: StorageClient, model_version: str) -> None:
        """Connects when it is asked.

        Args:
            settings: Of the deployment.
            signal_name: The signal.
            storage: A client of the storage server; it is not closed here.
            model_version: That scores; empty: the served one.
        """
        _, self._signal = settings.signal(signal_name)
        proof = credentials(settings, Right.READ)
        search, scorer = self._signal.search, self._signal.scorer
        self._parts = ExitStack()
        asked = SearchClient(search.address, CALL_S, search.max_message_bytes, Caller.REPLAY, proof)
        self._parts.callback(asked.close)
        scores = ScorerClient(scorer.address, CALL_S, scorer.max_message_bytes, proof)
        self._parts.callback(scores.close)
        self._storage = storage
        self._servers = TrialServers(asked, scores, storage)
        self._coder = code_settings(settings, self._signal).build()
        dimensions = self._signal.search_embedding.dimension, self._signal.score_embedding.dimension
        self._settings = TrialSettings(model_version, *dimensions, self._code)
        self.left_out = LeftOut()
        """Images that could not be tried."""

    def __enter__(self) -> TrialService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parts.close()

    def add(self, page: FoundImages, report: DiffReport) -> None:
        """Tries the images of a page and adds them to the report."""
        ids = [each.image.image_id for each in self.left_out.add(page)]
        for at in range(0, len(ids), BATCH):
            # Asked for again, with their embeddings, which are too large to come with a selection.
            images = [each for each in self._storage.named(ids[at : at + BATCH], vectors=True) if each.replayable]
            tried = try_images(images, self._servers, self._settings, time.time_ns() // 10**6)
            for each in images:
                image_id = each.image.image_id
                report.add(image_id, KnownVerdict.of(each.image), tried.get(image_id))

    def _code(self, one: SelectedImage) -> bytes:
        assert one.embedding is not None, "only images with embeddings are tried"
        vectors = (
            (one.embedding.score_vector, self._signal.score_embedding.dimension),
            (one.embedding.search_vector, self._signal.search_embedding.dimension),
        )
        score, search = (vector_values(stored_type(data, dimension), data) for data, dimension in vectors)
        return bytes(self._coder.codes([score], [search])[0])
