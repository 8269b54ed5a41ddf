"""From the settings of a deployment to those of each server: the only place that knows both. Each call blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.errors import BadInputError
from search.serving.rpc import Listen
from stream.settings import ServerSettings, Settings, Signal

__all__ = ["centre", "listen", "serve_scorer", "serve_search", "serve_storage"]


def serve_search(settings: Settings, signal_name: str | None = None) -> None:
    """Runs the term search server of a signal until SIGTERM.

    Raises:
        SettingsError: There is no such signal, or its term settings do not hold together.
        MismatchError: The index on disk was made with other settings.
        UnavailableError: A port is taken.
    """
    from search.serving.search_server import SearchServerSettings, serve

    from search.projection import CodeSettings
    from search.terms import TermSettings

    name, signal = settings.signal(signal_name)
    terms, code = signal.terms, signal.code
    serve(
        SearchServerSettings(
            listen=listen(signal.search),
            folder=settings.signal_dir(name, "index"),
            terms=TermSettings(
                dimension=signal.search_embedding.dimension,
                seed=terms.seed,
                bits=terms.bits,
                groups=terms.groups,
                bits_per_group=terms.bits_per_group,
                min_overlap=terms.min_overlap,
                candidates=terms.candidates,
                centre=centre(settings, signal, "search"),
            ),
            code=CodeSettings(
                dimension=signal.score_embedding.dimension,
                bits=code.bits,
                seed=code.seed,
                centre=centre(settings, signal, "score"),
            ),
            search_dimension=signal.search_embedding.dimension,
            score_dimension=signal.score_embedding.dimension,
        )
    )


def serve_scorer(settings: Settings, signal_name: str | None = None) -> None:
    """Runs the scorer of a signal until SIGTERM.

    Raises:
        SettingsError: There is no such signal.
        MismatchError: The model was made for other codes.
        UnavailableError: A port is taken.
    """
    from search.serving.scorer_server import ScorerServerSettings, serve

    _, signal = settings.signal(signal_name)
    serve(ScorerServerSettings(listen=listen(signal.scorer), model=settings.path(signal.model)))


def serve_storage(settings: Settings, signal_name: str | None = None) -> None:
    """Runs the storage server of a signal with its HTTP API until SIGTERM.

    Raises:
        SettingsError: There is no such signal.
        UnavailableError: A port is taken.
    """
    from storage.serving.server import StorageServerSettings, serve

    name, signal = settings.signal(signal_name)
    serve(
        StorageServerSettings(
            listen=listen(signal.storage),
            folder=settings.signal_dir(name, "store"),
            api_host=signal.api.bind_host,
            api_port=signal.api.port,
            max_page=signal.api.max_page,
            kafka_bootstrap=settings.kafka.bootstrap,
            assignments_topic=signal.topic("assignments"),
            api_token=settings.api_token,
        )
    )


def listen(server: ServerSettings) -> Listen:
    """Where a server listens."""
    return Listen(
        bind_host=server.bind_host,
        port=server.port,
        metrics_port=server.metrics_port,
        max_message_bytes=server.max_message_bytes,
    )


def centre(settings: Settings, signal: Signal, embedding: str) -> NDArray[np.float32] | None:
    """What is taken away from each vector of an embedding (`search` or `score`); None: nothing is.

    Raises:
        BadInputError: The file of centres cannot be read or lacks the embedding.
    """
    if signal.centres is None:
        return None
    path: Path = settings.path(signal.centres)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            values: NDArray[Any] = arrays[embedding]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise BadInputError(f"no centre of the {embedding} embedding in {path}: {error}") from error
    return values.astype(np.float32, copy=False)
