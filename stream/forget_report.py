"""Asks all parts where a forgotten image still lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from core.access import Right
from core.errors import NeardupError
from core.types import ImageId
from search.index.snapshot import snapshots
from search.serving.client import SearchClient
from storage.forgotten import ForgottenImage
from storage.serving.client import StorageClient
from stream.access import credentials
from stream.broker import Broker
from stream.names import client_id
from stream.remains import (
    Remains,
    backup_remains,
    checkpoint_remains,
    file_remains,
    index_remains,
    override_remains,
    store_remains,
    topic_remains,
)
from stream.servers import search_server_settings
from stream.settings import Settings
from stream.snapshots import SnapshotFolders
from stream.topic_plans import topic_plans

__all__ = ["remains_of"]

CALL_S = 10.0
"""The deadline of one call, in seconds."""


def remains_of(
    settings: Settings, signal_name: str, ids: Sequence[ImageId]
) -> dict[ImageId, tuple[ForgottenImage, list[Remains]]]:
    """Where each of the images that were forgotten lies; those that were not are left out.

    Raises:
        UnavailableError: The storage server or the brokers do not answer.
    """
    _, signal = settings.signal(signal_name)
    server, proof = signal.storage, credentials(settings, Right.READ)
    with closing(StorageClient(server.address, CALL_S, server.max_message_bytes, proof)) as storage:
        found, _ = storage.forgotten(ids)
    if not found:
        return {}
    erased = _erased_from_index(settings, signal_name, [each.image_id for each in found])
    with Broker(settings.kafka_access(client_id(signal_name, "forget"))) as broker:
        topics = [plan.name for plan in topic_plans(signal, settings.kafka)]
        configs = {topic: broker.topic_state(topic).configs for topic in topics}
    report = {}
    for image in found:
        since_ms = image.forgotten_at_ms
        report[image.image_id] = (
            image,
            [
                store_remains(image),
                index_remains(image, erased.get(image.image_id)),
                *(topic_remains(topic, each, since_ms) for topic, each in configs.items()),
                checkpoint_remains(since_ms, settings.join.timeout_s, settings.flink.checkpoint_interval_s),
                *_copies(settings, signal_name, since_ms),
                override_remains(image),
                backup_remains(),
            ],
        )
    return report


def _erased_from_index(settings: Settings, signal_name: str, ids: Sequence[ImageId]) -> dict[ImageId, bool]:
    """For each image whether its id is in no segment and no log; nothing if the search server does not answer."""
    server, proof = settings.signal(signal_name)[1].search, credentials(settings, Right.READ)
    with closing(SearchClient(server.address, CALL_S, server.max_message_bytes, credentials=proof)) as search:
        try:
            stored = {each.image_id: each for each in search.get(ids).images}
        except NeardupError:
            return {}
    # A new life is another matter: what was forgotten is then known by the pseudonym alone.
    return {each: each not in stored or stored[each].erased or not stored[each].deleted for each in ids}


def _copies(settings: Settings, signal_name: str, since_ms: int) -> Iterator[Remains]:
    """Copies on this machine."""
    copies = snapshots(search_server_settings(settings, signal_name).snapshots)
    index = [(each.folder, each.created_at_ms) for each in copies]
    yield file_remains("index snapshots", index, since_ms, "`neardup index snapshots --remove-older-than DAYS`")
    folder = SnapshotFolders(settings.signal_dir(signal_name, "job")).savepoints
    saved = [(each, _time_of(each)) for each in folder.glob("*")] if folder.is_dir() else []
    yield file_remains("savepoints", saved, since_ms, "they go once there are three newer ones, or delete them")


def _time_of(path: Path) -> int:
    return round(1000 * path.stat().st_mtime)
