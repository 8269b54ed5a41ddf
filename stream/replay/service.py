"""One replay against a running service: its clients, the chosen images, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType

from core.access import Right
from core.known_verdicts import KnownVerdict
from core.replay_requests import ReplayRequest
from core.types import ImageId
from storage.limits import MAX_NAMED
from storage.selecting import ImageSelection
from storage.serving.client import StorageClient
from stream.access import credentials
from stream.broker import Broker
from stream.dead_letters.choice import DeadLetterChoice, settled_in
from stream.dead_letters.settling import appender
from stream.names import client_id
from stream.publish import Publisher
from stream.replay.choice import ReplaySelection
from stream.replay.dead_images import open_images, settlements_of
from stream.replay.differences import DiffReport
from stream.replay.sending import FoundImages, ReplayProgress, named_pages, send_requests, wait_until_applied
from stream.replay.spool import IdSpool
from stream.replay.topic import AppliedReplays, ReplayTopic, earlier_requests
from stream.settings import Settings
from stream.topic_reader import TopicReader

__all__ = ["PAGE", "ReplayService"]

PAGE = 500
"""Requests that are acknowledged together."""

CALL_S = 10.0
"""The deadline of one call, in seconds."""

KINDS = ("replay",)
"""What the job must know before the first request is sent."""


class ReplayService:
    """Chooses images, and has them decided again through the order. Use it as a context manager."""

    def __init__(self, settings: Settings, signal_name: str, right: Right) -> None:
        """Connects to storage when it is asked.

        Args:
            settings: Of the deployment.
            signal_name: The signal.
            right: What its calls need: writes need that of people.
        """
        self.settings = settings
        self.name, self.signal = settings.signal(signal_name)
        server, proof = self.signal.storage, credentials(settings, right)
        self.storage = StorageClient(server.address, CALL_S, server.max_message_bytes, proof)
        self._access = settings.kafka_access(client_id(self.name, "replay"))
        self._dead: dict[ImageId, list[int]] = {}

    def __enter__(self) -> ReplayService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.storage.close()

    def images(self, selection: ReplaySelection, on_look: Callable[[int, int], None]) -> Iterator[FoundImages]:
        """The chosen images, page by page.

        Args:
            selection: Which images.
            on_look: Called with how many were given out, of how many.
        """
        if selection.stored is not None:
            yield from self._stored_images(selection.stored, on_look)
            return
        ids = selection.ids if selection.dead_letters is None else self._dead_images(selection.dead_letters)
        done = 0
        for found in named_pages(ids, self.storage.named, PAGE):
            done += len(found.known) + len(found.unknown)
            on_look(done, len(ids))
            yield found

    def send(
        self,
        pages: Iterator[FoundImages],
        wanted: ReplayRequest,
        *,
        resumed: bool,
        keep_old: bool,
        on_look: Callable[[ReplayProgress], None],
    ) -> ReplayProgress:
        """Sends a request for each image and waits until storage has applied them.

        Args:
            pages: The chosen images.
            wanted: What is asked for each.
            resumed: An earlier run may have sent some of them.
            keep_old: Also keep the verdicts before.
            on_look: Called often, with the progress so far.

        Raises:
            MismatchError: The job that runs does not know replays, or the topic has lost records.
            UnavailableError: A part does not answer; what is acknowledged is decided all the same.
        """
        topic, lane = self.signal.topic("replay"), wanted.lane
        earlier = earlier_requests(self._access, topic, lane, wanted.request) if resumed else {}
        progress = ReplayProgress(earlier)
        with ExitStack() as parts:
            broker = parts.enter_context(Broker(self._access))
            applied = AppliedReplays(self.storage, broker.topic_id(topic))
            self.storage.require_kinds(KINDS)
            sender = parts.enter_context(ReplayTopic(self._access, topic, self.settings.kafka.max_message_bytes))
            on_page = lambda: on_look(progress)  # noqa: E731
            send_requests(pages, wanted, sender, applied, progress, keep_old=keep_old, on_page=on_page)
            wait_until_applied(applied, lane, progress, on_page)
        return progress

    def differences(self, old: dict[ImageId, KnownVerdict]) -> DiffReport:
        """The verdicts that storage has now, beside the old ones."""
        report, ids = DiffReport(), list(old)
        for at in range(0, len(ids), MAX_NAMED):
            asked = ids[at : at + MAX_NAMED]
            now = {each.image.image_id: KnownVerdict.of(each.image) for each in self.storage.named(asked)}
            for image_id in asked:
                report.add(image_id, old[image_id], now.get(image_id))
        return report

    def settle(self, request: str) -> int:
        """Settles the dead letters of the images that have a score now, or are gone; returns how many images."""
        unscored = {each.image.image_id for each in self.storage.named(list(self._dead)) if each.image.unscored}
        decided = [image_id for image_id in self._dead if image_id not in unscored]
        with Publisher(self.settings, self.name) as publisher:
            append = appender(publisher, self.signal.topic("dead_letter"))
            for each in settlements_of(self._dead, decided, request):
                append(each)
        return len(decided)

    def _stored_images(self, wanted: ImageSelection, on_look: Callable[[int, int], None]) -> Iterator[FoundImages]:
        """Reads the ids first: a trial of many takes hours, and storage must not hold one moment for so long."""
        with IdSpool() as spool:
            for page in self.storage.select(wanted):
                spool.add(each.image.image_id for each in page.images)
                on_look(0, page.total)
            done = 0
            for ids in spool.pages(PAGE):
                # What was deleted meanwhile is nothing to tell about.
                yield FoundImages(self.storage.named(ids))
                done += len(ids)
                on_look(done, len(spool))
            on_look(done, len(spool))

    def _dead_images(self, choice: DeadLetterChoice) -> Sequence[ImageId]:
        with TopicReader(self._access, self.signal.topic("dead_letter")) as reader:
            first, end = reader.ends()
            settled = settled_in(reader.between(first, end))
            self._dead = open_images(reader.between(first, end), choice, settled, self.signal.topic("joined"))
        return list(self._dead)
