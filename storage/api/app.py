"""The HTTP API of a store: it reads and overrides over any `ClusterStore`, and writes deletes into the order."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from core.access import OPEN, Access
from storage.api.access import KeyCheck
from storage.api.aliases import NO_ALIASES, AliasPrefix, FollowedAliases, alias_routes
from storage.api.cluster_history import cluster_history_routes
from storage.api.deletes import DeleteWriter, delete_routes
from storage.api.errors import PROBLEM_JSON, answer_errors
from storage.api.explaining import Explainer, explain_routes
from storage.api.operations import operation_routes
from storage.api.overrides import override_routes
from storage.api.page_tokens import PageTokens
from storage.api.past import past_routes
from storage.api.paths import WholeIds
from storage.api.requests import AnyRequest
from storage.api.routes import routes
from storage.api.schemas import Health, Problem
from storage.interfaces import ClusterStore

__all__ = ["create_app"]

_ABOUT = """Which images are near-duplicates of which. An image belongs to one cluster, named by its head.

Ids in paths are percent-encoded, slashes included (`a/b` is `a%2Fb`). HEAD is answered wherever GET is.

`/v1/aliases/NAME/...` stands for `/v1/...` of the signal that the alias names: it is answered here, with that signal in
the header `Neardup-Signal`, or with 307 to the signal's own API. A request that carries the header is refused (409)
once the alias names another signal.

Where the API listens beyond its own machine, requests need a key: `Authorization: Bearer KEY`. Deletes and
overrides, and what pauses or cancels bulk moves, need the write key everywhere. Every error has the form of RFC 9457,
`application/problem+json`."""


def create_app(
    store: ClusterStore,
    max_page: int,
    registry: CollectorRegistry,
    access: Access = OPEN,
    deletes: DeleteWriter | None = None,
    explainer: Explainer | None = None,
    aliases: FollowedAliases | None = None,
) -> FastAPI:
    """The application.

    Args:
        store: The store that answers.
        max_page: The largest `limit` of a page.
        registry: The metrics that `/metrics` shows.
        access: Who may call.
        deletes: Writes deletes into the order; None: this server has no Kafka.
        explainer: Asks questions again; None: this server knows no search server and no scorer.
        aliases: Which signal each alias names; None: there are no aliases.
    """
    followed = aliases or FollowedAliases(NO_ALIASES)
    tokens = PageTokens(followed.settings.signal)
    app = FastAPI(
        title="neardup",
        summary="Near-duplicate clusters of images",
        description=_ABOUT,
        version="1",
        responses={"default": {"model": Problem, "description": "Any other error."}},
        redoc_url=None,
    )
    app.include_router(routes(store, max_page, tokens))
    app.include_router(cluster_history_routes(store, max_page, tokens))
    app.include_router(delete_routes(store, deletes))
    app.include_router(explain_routes(store, explainer))
    app.include_router(override_routes(store, max_page))
    app.include_router(operation_routes(store, max_page))
    app.include_router(past_routes(store, max_page))
    app.include_router(alias_routes(followed))
    answer_errors(app)
    app.add_middleware(WholeIds)
    app.add_middleware(AnyRequest)
    app.add_middleware(KeyCheck, access=access)
    app.add_middleware(AliasPrefix, aliases=followed, access=access)

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

    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


def _described(app: FastAPI) -> dict[str, Any]:
    """The description of the API, with the media type that errors have and the key that requests may carry."""
    if app.openapi_schema is None:
        described = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            routes=app.routes,
        )
        described["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path in described["paths"].values():
            for operation in path.values():
                # Without a key where the API listens on loopback.
                operation["security"] = [{}, {"key": []}]
                for status, response in operation["responses"].items():
                    if not status.startswith("2") and "application/json" in response.get("content", {}):
                        response["content"] = {PROBLEM_JSON: response["content"]["application/json"]}
        app.openapi_schema = described
    return app.openapi_schema
