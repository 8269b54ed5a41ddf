"""The HTTP API of a store: it reads, over any `ClusterStore`."""

from __future__ import annotations

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from storage.api.errors import answer_errors
from storage.api.paths import WholeIds
from storage.api.routes import routes
from storage.api.schemas import Health, Problem
from storage.interfaces import ClusterStore

__all__ = ["create_app"]

_ABOUT = """Which images are near-duplicates of which. An image belongs to one cluster, named by its head.

Ids in paths are percent-encoded, slashes included (`a/b` is `a%2Fb`)."""


def create_app(store: ClusterStore, max_page: int, registry: CollectorRegistry) -> FastAPI:
    """The application.

    Args:
        store: The store that answers.
        max_page: The largest `limit` of a page.
        registry: The metrics that `/metrics` shows.
    """
    app = FastAPI(title="neardup", summary="Near-duplicate clusters of images", description=_ABOUT, version="1")
    app.include_router(routes(store, max_page))
    answer_errors(app)
    app.add_middleware(WholeIds)

    @app.get("/healthz", tags=["server"])
    def healthz() -> Health:
        """Whether the process lives."""
        return Health(status="alive")

    @app.get(
        "/readyz",
        tags=["server"],
        responses={503: {"model": Problem, "description": "The store cannot be read at present."}},
    )
    def readyz() -> Health:
        """Whether the store answers."""
        store.position()
        return Health(status="ready")

    @app.get("/metrics", tags=["server"], response_class=Response)
    def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app
