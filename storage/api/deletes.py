"""The route that deletes an image: it writes a record into the order, and the stream does the rest."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from fastapi import APIRouter, Query, Request

from core.delete_requests import DeleteRequest
from core.errors import BadInputError, UnavailableError
from core.notifications import MAX_IMAGE_VERSION, MAX_WORDS_BYTES
from core.notifications import image_id as checked_id
from storage.api.access import author_of
from storage.api.paths import IdInPath, id_of
from storage.api.schemas import DeleteOut, Problem
from storage.interfaces import ClusterStore

__all__ = ["DeleteWriter", "delete_routes"]

_ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The id, version, author or reason is not valid."},
    409: {
        "model": Problem,
        "description": "The running job knows no deletes, or no forgetting; nothing was written.",
    },
    503: {"model": Problem, "description": "Kafka or the store does not answer at present; try again."},
}


class DeleteWriter(Protocol):
    """Writes deletes into the order."""

    def delete(self, requests: Sequence[DeleteRequest]) -> Sequence[int]:
        """Returns the offset of each in Kafka, once all are acknowledged.

        Raises:
            MismatchError: The job does not know deletes.
            UnavailableError: Not all are known to be acknowledged.
        """
        ...


def delete_routes(
    store: ClusterStore, writer: DeleteWriter | None, now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6
) -> APIRouter:
    """The route over one store.

    Args:
        store: Knows the base of the log epoch.
        writer: None: this server has no Kafka, so nothing can be deleted.
        now_ms: The clock, in milliseconds since the epoch.
    """
    router = APIRouter(prefix="/v1", responses=_ANSWERS)
    up_to = Query(
        None,
        ge=0,
        le=MAX_IMAGE_VERSION,
        description="Versions up to this one are deleted, and a higher one begins a new life; without it the one that "
        "was placed last before the delete.",
    )
    by = Query("", max_length=MAX_WORDS_BYTES // 4, description="Who deletes it.")
    why = Query("", max_length=MAX_WORDS_BYTES // 4, description="Why.")
    forgets = Query(
        False,
        description="Nothing of the image may remain: store, history and index lose it within 24 hours, and a cluster "
        "that it heads gets another head. `version` must be absent; `reason` should not name the image.",
    )
    refuses = Query(False, description="With `forget`: every later version is ignored too, for ever.")

    @router.delete("/images/{image_id}", status_code=202, tags=["images"], name="delete_image")
    def delete_image(
        image_id: IdInPath,
        request: Request,
        version: int | None = up_to,
        author: str = by,
        reason: str = why,
        forget: bool = forgets,
        refuse_return: bool = refuses,
    ) -> DeleteOut:
        """Deletes an image. The answer comes once the record is safe; at `position` the image is gone from everything.

        Deleting an image again, or one that is unknown, does no harm.
        """
        if writer is None:
            raise UnavailableError("this server writes nothing to Kafka, so it cannot delete")
        asked = checked_id(id_of(image_id))
        author = author_of(request, author)
        if refuse_return and (version is not None or not forget):
            raise BadInputError("`refuse_return` goes with `forget`, and without a version")
        version = MAX_IMAGE_VERSION if refuse_return else version
        wanted = DeleteRequest(asked, f"http-{uuid.uuid4().hex}", version, now_ms(), author, reason, forget)
        (offset,) = writer.delete([wanted])
        return DeleteOut(image_id=asked, request=wanted.request, position=store.position().base + offset)

    return router
