"""The route that explains an image: its recorded verdict, and the same question asked again."""

from __future__ import annotations

from typing import Any, Protocol

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from core.errors import BadInputError, UnavailableError
from core.traces import Trace
from core.types import ImageId, Thresholds
from storage.api.paths import IdInPath, id_of
from storage.api.routes import known_image
from storage.api.schemas import DeletedProblem, ImageOut, Problem
from storage.interfaces import ClusterStore
from storage.records import ImageRecord

__all__ = ["AskedOut", "ComparedImages", "ExplainOut", "Explainer", "PairOut", "explain_routes"]

_ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "An id is not valid."},
    404: {"model": Problem, "description": "There is no verdict on one of the images."},
    410: {"model": DeletedProblem, "description": "One of the images was deleted."},
    503: {"model": Problem, "description": "A server does not answer or is busy; try again."},
}


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True)


class AskedOut(_Out):
    """The question of a verdict, asked again. Nothing was written."""

    as_of: int = Field(description="The position as of which the index was asked.")
    incomplete: bool = Field(
        description="The index has released this position: it may have dropped what only earlier searches could see."
    )
    verdict: Trace | None = Field(
        description="What the verdict would rest on, as a trace (docs/schemas/trace.json). As of the place, heads are "
        "those of then; a founding code that is not kept any more counts as never made."
    )
    problem: str | None = Field(description="Why there is no verdict; null if there is one.")


class PairOut(_Out):
    """Two images beside each other."""

    image_id: str
    other_id: str
    head: str | None
    other_head: str | None
    same_head: bool = Field(description="They have the same head now.")
    would_match: bool | None = Field(description="Their score is at least `accept`; null if it is not known.")
    would_join: bool = Field(description="Asked now, the later image would get the head that the other one has.")
    apart: str | None = Field(description="What keeps them apart, as a word; null: nothing.")
    why: str | None = Field(description="The same as a sentence.")
    shared_terms: int | None = Field(description="Terms that both have; null if the index cannot find one of them.")
    needed_terms: int = Field(description="Terms that a candidate must share.")
    distance_bits: int | None = Field(description="Hamming bits of the score codes that differ.")
    code_bits: int = Field(description="The Hamming bits of a score code.")
    score: float | None = Field(description="The score of the two.")
    head_score: float | None = Field(description="The score of the later image against the other's head.")
    thresholds: Thresholds | None = Field(description="What the scores are compared with.")
    later_id: str = Field(description="The image with the later place, which is asked for.")
    asked: Trace | None = Field(description="What the verdict on it would rest on now.")

    @classmethod
    def of(cls, pair: ComparedImages, why: str | None) -> PairOut:
        """The answer for a comparison, with the sentence that says why they are apart."""
        values = {name: getattr(pair, name) for name in cls.model_fields if name != "why"}
        return cls(why=why, **values)


class ExplainOut(_Out):
    """Why an image has its head."""

    image_id: str
    recorded: ImageOut = Field(description="The last verdict, as storage holds it.")
    now: AskedOut = Field(description="As if the image came in a new version now.")
    at_place: AskedOut = Field(description="As of the image's place, as it came then.")
    against: PairOut | None = Field(description="The image beside the one of `against`; null without it.")


class ComparedImages(Protocol):
    """A comparison: it has the fields of `PairOut`, apart from `why`."""

    @property
    def apart(self) -> str | None:
        """What keeps the images apart."""
        ...


class Explainer(Protocol):
    """Asks questions again."""

    def explain(self, store: ClusterStore, image: ImageRecord, against: ImageRecord | None) -> ExplainOut:
        """Explains an image, and compares it with another one if that is given.

        Raises:
            MismatchError: Index and storage contradict each other.
            ServiceError: A server cannot answer.
        """
        ...


def explain_routes(store: ClusterStore, explainer: Explainer | None) -> APIRouter:
    """The route over one store.

    Args:
        store: Holds the verdicts.
        explainer: None: this server knows no search server and no scorer.
    """
    router = APIRouter(prefix="/v1", responses=_ANSWERS)
    other = Query(None, max_length=256, description="Another image: would they match, and what keeps them apart?")

    @router.get("/images/{image_id}/explain", tags=["images"])
    def explain(image_id: IdInPath, against: str | None = other) -> ExplainOut:
        """Why an image has its head: the recorded verdict, and the question asked again as of now and of its place."""
        if against == id_of(image_id):
            raise BadInputError(f"{against!r} cannot be explained against itself: name another image")
        if explainer is None:
            raise UnavailableError("this server knows no search server and no scorer, so it cannot explain")
        with store.snapshot() as view:
            image = known_image(view, id_of(image_id))
            beside = None if against is None else known_image(view, ImageId(against))
        return explainer.explain(store, image, beside)

    return router
