"""Explains images for the HTTP API: over the store itself, and with read-only calls to search server and scorer."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection

from core.access import Right
from core.few import one_of_few
from core.types import ImageId, Lookup, Written
from scoring.serving.client import ScorerClient
from search.serving.admission import Caller
from search.serving.client import SearchClient
from storage.api.explaining import AskedOut, ExplainOut, PairOut
from storage.api.schemas import ImageOut
from storage.interfaces import ClusterStore
from storage.records import ImageRecord
from storage.written import written_at
from stream.access import credentials
from stream.explaining.pairs import PairLimits, apart_text, compare
from stream.explaining.questions import AskedAgain, AskedImage, AskedServers, Question, ask
from stream.settings import Settings
from stream.trace_stamp import trace_stamp

__all__ = ["ImageExplainer", "StoreReads"]

CALL_S = 5.0
"""The deadline of one call, in seconds."""

AT_ONCE = 2
"""Images that are explained at the same time. More are asked to come again."""

RETRY_AFTER_S = 1.0


class StoreReads:
    """Implements `stream.explaining.questions.AskedStorage` over the store itself."""

    def __init__(self, store: ClusterStore) -> None:
        """Takes the store."""
        self._store = store

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """See `AskedStorage`."""
        return self._store.look_up(ids, verdicts_of)

    def written_at(self, image_id: ImageId, offset: int, others: Collection[ImageId] = ()) -> Written:
        """See `AskedStorage`."""
        with self._store.snapshot() as view:
            return written_at(view, image_id, offset, others)


class ImageExplainer:
    """Implements `storage.api.explaining.Explainer`. Threads share it."""

    def __init__(self, settings: Settings, signal_name: str) -> None:
        """Connects when it is asked first; the servers need not be up."""
        _, signal = settings.signal(signal_name)
        proof = credentials(settings, Right.READ)
        search, scorer = signal.search, signal.scorer
        self._search = SearchClient(search.address, CALL_S, search.max_message_bytes, Caller.INTERACTIVE, proof)
        self._scorer = ScorerClient(scorer.address, CALL_S, scorer.max_message_bytes, proof)
        self._limits = PairLimits(signal.terms.min_overlap, signal.code.bits)
        self._stamp = trace_stamp(signal)
        self._places = threading.Semaphore(AT_ONCE)

    def explain(self, store: ClusterStore, image: ImageRecord, against: ImageRecord | None) -> ExplainOut:
        """See `storage.api.explaining.Explainer`."""
        servers = AskedServers(self._search, self._scorer, StoreReads(store))
        now_ms = time.time_ns() // 10**6
        asked = _asked(image)
        with one_of_few(self._places, f"{AT_ONCE} images are being explained, which is the limit", RETRY_AFTER_S):
            now = ask(Question(asked, None), servers, self._stamp, now_ms)
            at_place = ask(Question(asked, image.place), servers, self._stamp, now_ms)
            pair = compare(asked, _asked(against), servers, self._limits, self._stamp, now_ms) if against else None
        return ExplainOut(
            image_id=image.image_id,
            recorded=ImageOut.of(image),
            now=_out(now),
            at_place=_out(at_place),
            against=PairOut.of(pair, pair.apart and apart_text(pair.apart)) if pair else None,
        )

    def close(self) -> None:
        """Closes the connections."""
        self._search.close()
        self._scorer.close()


def _asked(image: ImageRecord) -> AskedImage:
    return AskedImage(image.image_id, image.version, image.place, image.created_at_ms, image.arrived_at_ms)


def _out(asked: AskedAgain) -> AskedOut:
    return AskedOut(as_of=asked.as_of, incomplete=asked.incomplete, verdict=asked.trace, problem=asked.problem)
