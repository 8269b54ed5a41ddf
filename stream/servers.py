"""From the settings of a deployment to those of each server: the only place that knows both."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from core.descriptors import reserve_descriptors
from core.rpc import Listen
from core.status_page import PageLimits
from stream.access import api_access, grpc_access, server_tls
from stream.alias_places import alias_file, signal_places
from stream.hashing import chosen_density, code_identity, code_settings, term_settings
from stream.names import client_id, signal_text
from stream.settings import ServerSettings, Settings

if TYPE_CHECKING:
    from search.serving.server import SearchServerSettings
    from storage.loading.run import LoadSettings

__all__ = [
    "listen",
    "owner_only",
    "search_server_settings",
    "serve_scorer",
    "serve_search",
    "serve_storage",
    "store_identity",
]


def serve_search(settings: Settings, signal_name: str | None = None) -> None:
    """Runs the term search server of a signal until SIGTERM.

    Raises:
        SettingsError: There is no such signal, its term settings do not hold together, or too few files may be open.
        MismatchError: The index on disk was made with other settings.
        UnavailableError: A port is taken.
    """
    owner_only()
    from search.serving.server import serve

    told = search_server_settings(settings, signal_name)
    _reserve(told.listen)
    serve(told)


def search_server_settings(settings: Settings, signal_name: str | None = None) -> SearchServerSettings:
    """What the term search server of a signal is told.

    Raises:
        SettingsError: There is no such signal, or its term settings do not hold together.
    """
    from search.serving.server import SearchServerSettings

    name, signal = settings.signal(signal_name)
    return SearchServerSettings(
        listen=listen(settings, signal.search),
        folder=settings.signal_dir(name, "index"),
        terms=term_settings(settings, signal),
        code=code_settings(settings, signal),
        search_dimension=signal.search_embedding.dimension,
        score_dimension=signal.score_embedding.dimension,
        ranking=signal.terms.ranking,
        index_sync=signal.index.sync,
        max_postings=signal.index.max_postings,
        background_bytes_per_s=signal.index.background_mb_per_s * 1e6,
        chosen=chosen_density(signal),
        admission=signal.search.admission,
        signal=signal_text(name, signal),
        load_rows_per_s=signal.index.load_rows_per_s,
    )


def serve_scorer(settings: Settings, signal_name: str | None = None) -> None:
    """Runs the scorer of a signal until SIGTERM.

    Raises:
        SettingsError: There is no such signal, or too few files may be open.
        MismatchError: The model was made for other codes.
        UnavailableError: A port is taken.
    """
    owner_only()
    from scoring.serving.server import ScorerServerSettings, serve

    _, signal = settings.signal(signal_name)
    place = listen(settings, signal.scorer)
    _reserve(place)
    serve(
        ScorerServerSettings(
            listen=place,
            model=settings.path(signal.model),
            model_class=signal.model_class,
            codes=code_identity(settings, signal),
        )
    )


def serve_storage(settings: Settings, signal_name: str | None = None) -> None:
    """Runs the storage server of a signal with its HTTP API until SIGTERM.

    Raises:
        SettingsError: There is no such signal, or too few files may be open.
        StorageError: The store is damaged, open elsewhere, or was made for another signal.
        UnavailableError: A port is taken.
    """
    owner_only()
    from storage.api.aliases import AliasSettings
    from storage.api.connections import DEFAULT_LIMITS
    from storage.serving.server import StorageServerSettings, serve
    from stream.explaining.service import ImageExplainer

    name, signal = settings.signal(signal_name)
    place = listen(settings, signal.storage)
    _reserve(place, DEFAULT_LIMITS.connections)
    serve(
        StorageServerSettings(
            listen=place,
            folder=settings.signal_dir(name, "store"),
            api_host=signal.api.bind_host,
            api_port=signal.api.port,
            max_page=signal.api.max_page,
            kafka=settings.kafka_access(client_id(name, "storage")).python_options(),
            assignments_topic=signal.topic("assignments"),
            joined_topic=signal.topic("joined"),
            replay_topic=signal.topic("replay"),
            dead_letter_topic=signal.topic("dead_letter"),
            max_message_bytes=settings.kafka.max_message_bytes,
            api_access=api_access(settings, signal.api),
            identity=store_identity(settings, name),
            explainer=ImageExplainer(settings, name),
            store_class=signal.store_class,
            history_days=signal.storage.history_days,
            aliases=AliasSettings(alias_file(settings), name, signal_places(settings)),
            load=partial(_load_settings, settings, name),
        )
    )


def _load_settings(settings: Settings, signal_name: str) -> LoadSettings:
    """Which images of manifests the store of a signal takes."""
    from storage.loading.run import LoadSettings
    from stream.bootstrap.signal import load_signal, value_checks

    _, signal = settings.signal(signal_name)
    coder = code_settings(settings, signal).build()
    return LoadSettings(
        load_signal(settings, signal_name),
        lambda search, score: coder.codes(score, search),
        value_checks(settings, signal_name),
        signal.storage.load_rows_per_s,
    )


def owner_only() -> None:
    """What this process writes from now on is for its owner alone, also where no supervisor sets this."""
    os.umask(0o077)


def _reserve(place: Listen, others: int = 0) -> None:
    """Makes sure that callers of the gRPC port, of the page and `others` leave room for the files of a server."""
    reserve_descriptors(place.connections + PageLimits().connections + others)


def store_identity(settings: Settings, signal_name: str) -> str:
    """What the store of a signal was created for. Founding codes and embeddings are useless under other settings."""
    name, signal = settings.signal(signal_name)
    code = code_settings(settings, signal)
    return (
        f"signal {signal_text(name, signal)};"
        f" codes {' '.join(f'{key} {value}' for key, value in code.describe().items())}"
    )


def listen(settings: Settings, server: ServerSettings) -> Listen:
    """Where a server listens, and who may call it.

    Raises:
        SettingsError: It listens beyond loopback, and no key or certificate tells its callers apart.
    """
    return Listen(
        bind_host=server.bind_host,
        port=server.port,
        metrics_port=server.metrics_port,
        max_message_bytes=server.max_message_bytes,
        access=grpc_access(settings, server.bind_host),
        tls=server_tls(settings),
    )
