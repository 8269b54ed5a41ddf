"""The second step of the sequence: the scorer scores the candidates of a whole batch in one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pyflink.datastream import RuntimeContext

from core.dead_letters import BadRecord, Reason
from core.errors import MismatchError, RefusedError
from operators.assign_backend import MAX_PAIRS
from operators.batcher import BatchPolicy
from operators.carried import drop_losers
from operators.clients import Scorer, Search, open_scorer, open_search
from operators.gated_scores import GatedScores, ToScore
from operators.in_flight_pb2 import InFlight
from operators.metrics import StepMetrics
from operators.micro_batch import MicroBatchFunction
from operators.responses import scores_message
from operators.rows import batches
from operators.scorer_probe import probe
from operators.step import ServerAddress, Step, StepResult
from operators.tracer import Tracer, Tracing
from operators.unscored import mark_unscored
from scoring.serving.scorer_pb2 import PairBlock, ScoreResponse

__all__ = ["ScoreFunction", "ScoreStep"]


class ScoreStep(Step):
    """Scores a batch."""

    def __init__(
        self, scorer: Scorer, search: Search, unscored: Callable[[Reason], None], tracer: Tracer | None = None
    ) -> None:
        """Takes the clients.

        Args:
            scorer: Of the scorer.
            search: Of the search server, whose codes the model must compare.
            unscored: Told the reason of each record that is passed on without scores.
            tracer: For watched replays.
        """
        super().__init__([scorer, search], blamed=[scorer])
        self._scorer = scorer
        self._search = search
        self._unscored = unscored
        self._tracer = tracer or Tracer()
        self._scores = GatedScores(self._score)
        self._trusted: tuple[str | None, str] | None = None
        """Scorer process and model version that are known to compare the index's codes."""

    def call(self, items: Sequence[bytes]) -> StepResult:
        """Scores every image against its candidates. Records that the index has no code for pass through, and so do
        rows of manifests.
        """
        batch = [InFlight.FromString(item) for item in items]
        # Also an image without candidates: its model version must not depend on the rest of its batch.
        scorable = [one for one in batch if one.answer.score_code and not (one.unscored or one.unsearched)]
        for version, images in _by_version(scorable).items():
            for part in _calls(images):
                self._add_scores(part, version)
        return StepResult(len(items), self._outputs(batch))

    def _add_scores(self, part: Sequence[InFlight], version: str) -> None:
        """Adds the scores to records. The scorer may refuse a version that a dry run asks for: that harms nobody else.

        Args:
            part: The records.
            version: The version of the model; empty: the served one.
        """
        try:
            response = self._scores.of([ToScore(one.answer.score_code, one.answer.candidates) for one in part], version)
        except RefusedError as error:
            if not version:
                raise
            for one in part:
                mark_unscored(one, BadRecord(Reason.REFUSED, str(error)))
            return
        for one, values in zip(part, response.scores, strict=True):
            one.scores.CopyFrom(scores_message(response, values))

    def isolate(self, item: bytes, bad: BadRecord) -> StepResult:
        """Passes the image on without scores."""
        one = InFlight.FromString(item)
        mark_unscored(one, bad)
        self._unscored(bad.reason)
        return StepResult(1, self._outputs([one]))

    def ping(self) -> None:
        """See `Step`; the scorer must also score."""
        super().ping()
        probe(self._scorer)

    def _outputs(self, batch: Sequence[InFlight]) -> list[Any]:
        """The records with their times and without what assign does not need, and traces of watched replays."""
        for one, times in zip(batch, self.timing.until_now(), strict=False):
            one.score_time.MergeFrom(times)
        watched = [output for one in batch for output in self._tracer.watched("score", one)]
        for one in batch:
            drop_losers(one)
        return [*watched, *batches(one.SerializeToString() for one in batch)]

    def _score(self, blocks: Sequence[PairBlock], version: str) -> ScoreResponse:
        if version:
            return self._scorer.score(blocks, version)
        try:
            response = self._scorer.score(blocks)
        except RefusedError:
            self._check_codes()
            raise
        source = self._scorer.instance_id, response.model_version
        if source != self._trusted:
            self._check_codes()
            self._trusted = source
        return response

    def _check_codes(self) -> None:
        """Checks that the model, which may change while the job runs, compares the codes that the index keeps.

        A model for other codes would refuse every image, or return scores without meaning.
        """
        model, index = self._scorer.describe(), self._search.describe()
        if (model.code_fingerprint, model.code_bytes) != (index.code_fingerprint, index.code_bytes):
            raise MismatchError(
                f"the index keeps score codes {index.code_fingerprint[:12]} of {index.code_bytes} bytes, the model "
                f"{model.model_version} compares {model.code_fingerprint[:12]} of {model.code_bytes} bytes: "
                "serve a model trained for these codes, or rebuild the index"
            )


def _by_version(batch: Sequence[InFlight]) -> Mapping[str, list[InFlight]]:
    """The images that each version of the model scores: the served one, and those that dry runs ask for."""
    grouped: dict[str, list[InFlight]] = {}
    for one in batch:
        grouped.setdefault(one.score_with, []).append(one)
    return grouped


def _calls(images: Sequence[InFlight]) -> Iterator[list[InFlight]]:
    """The images of each call: at least one image, at most `MAX_PAIRS` candidates where there are more."""
    part: list[InFlight] = []
    room = MAX_PAIRS
    for one in images:
        candidates = len(one.answer.candidates.image_ids)
        if part and candidates > room:
            yield part
            part, room = [], MAX_PAIRS
        part.append(one)
        room -= candidates
    if part:
        yield part


class ScoreFunction(MicroBatchFunction):
    """`InFlightBatch` bytes in, rows (0, `InFlightBatch`) with scores out."""

    def __init__(
        self,
        policy: BatchPolicy,
        scorer: ServerAddress,
        search: ServerAddress,
        tracing: Tracing | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Keeps settings.

        Args:
            policy: How records are batched and failures met.
            scorer: The scorer.
            search: The search server.
            tracing: What traces of watched replays say.
            sleep: Holds an element back; takes seconds.
        """
        super().__init__(policy, sleep)
        self._scorer = scorer
        self._search = search
        self._tracing = tracing

    def open_step(self, context: RuntimeContext) -> Step:
        """Connects to scorer and search server."""
        clients = open_scorer(self._scorer), open_search(self._search)
        metrics = StepMetrics(context)
        return ScoreStep(*clients, metrics.unscored, Tracer(self._tracing, metrics.traced))
