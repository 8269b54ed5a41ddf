"""Replays, deletes and overrides that people ask for while parts fail. What fails is asked for again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import count

from core.access import Right
from core.delete_requests import DeleteRequest
from core.errors import BadInputError, MismatchError, NeardupError, RefusedError
from core.notifications import decode_joined
from core.overrides import NewImages, OverrideKind, OverrideRequest, RollbackRequest
from core.protos.joined_pb2 import JoinedReplay
from core.replay_requests import ReplayRequest
from core.types import Cause, ImageId
from neardup.errors import NeardupClientError
from storage.selecting import ImageSelection
from storage.serving.order_writer import OrderWriter
from storage.serving.publisher import KafkaSender
from stream.dead_letters.choice import DeadLetterChoice
from stream.deletes import DeleteReport, delete_images
from stream.replay.choice import ReplaySelection
from stream.replay.differences import DiffReport
from stream.replay.service import ReplayService
from stream.replay.topic import ReplayTopic
from stream.replay.trial_service import TrialService
from stream.topic_reader import TopicReader
from tests.support.flow import Flow
from tests.support.stack import Stack

__all__ = ["Asking", "Requests"]

PATIENCE_S = 400.0
"""How long one request may fail."""

PAUSE_S = 0.5
"""Between two requests, on average; and before one is made again."""


class Requests:
    """Ways of asking for replays, deletes and overrides of images that flow."""

    def __init__(self, stack: Stack, flow: Flow, chance: random.Random) -> None:
        """Asks for nothing yet.

        Args:
            stack: The service.
            flow: Its images; new lives of deleted ones are sent by it.
            chance: Which images, and how.
        """
        self._stack = stack
        self._flow = flow
        self._chance = chance
        self._numbers = count()
        self._said: list[int] = []
        """The numbers of overrides."""

    def replay_some(self) -> None:
        """Up to 20 images, or the members of a cluster, or all that are unscored; some by force, some as a dry run."""
        kind = self._chance.random()
        ids = self._some(self._chance.randrange(1, 20))
        dry_run = self._chance.random() < 0.2
        if kind < 0.5:
            selection = ReplaySelection(ids)
        elif kind < 0.8:
            selection = ReplaySelection(stored=ImageSelection(head=self._head(ids[0])))
        else:
            selection = ReplaySelection(stored=ImageSelection(causes=frozenset({Cause.UNSCORED})))
        self.replay(selection, force=self._chance.random() < 0.5, dry_run=dry_run)

    def replay_dead(self) -> None:
        """The images of all open dead letters, by force."""
        self.replay(ReplaySelection(dead_letters=DeadLetterChoice()), force=True)

    def replay(self, selection: ReplaySelection, *, force: bool, dry_run: bool = False) -> None:
        """Sends a replay and waits until it is applied; goes on with the same request after an error."""
        wanted = ReplayRequest(
            self._name(), ImageId(""), force=force, dry_run=dry_run, watch=dry_run, bulk=self._chance.random() < 0.5
        )

        def send() -> None:
            with self._service() as service:
                pages = service.images(selection, lambda done, total: None)
                service.send(pages, wanted, resumed=True, keep_old=False, on_look=lambda progress: None)
                if selection.dead_letters is not None:
                    service.settle(wanted.request)

        insist(send)

    def try_some(self) -> None:
        """Decides some images outside of the order, which writes nothing."""
        ids = self._some(30)

        def attempt() -> None:
            with ExitStack() as parts:
                service = parts.enter_context(self._service())
                trial = parts.enter_context(
                    TrialService(self._stack.settings, self._stack.signal_name, service.storage, "")
                )
                for page in service.images(ReplaySelection(ids), lambda done, total: None):
                    trial.add(page, DiffReport())

        insist(attempt)

    def delete_some(self) -> None:
        """Some images, plainly or with a version, and perhaps one that was never there."""
        ids = self._some(self._chance.randrange(1, 6))
        if self._chance.random() < 0.2:
            ids.append(ImageId(f"never-there-{next(self._numbers)}"))
        version = self._chance.choice((None, None, 1, 2))
        self.delete([DeleteRequest(each, self._name(), version, reason="chaos") for each in ids])

    def delete_and_come_back(self) -> None:
        """An image is deleted with its version, and a higher version of it is a new life."""
        rows = {row.image_id: row for _, row in self._flow.sent}
        ids = self._chance.sample(sorted(rows), min(3, len(rows)))
        self.delete([DeleteRequest(ImageId(each), self._name(), rows[each].version, reason="chaos") for each in ids])
        self._flow.add([replace(rows[each], version=rows[each].version + 1) for each in ids if each != "hot"])

    def delete(self, requests: Sequence[DeleteRequest]) -> None:
        """Deletes and waits until storage has applied it."""

        def send() -> None:
            with self._service() as service, closing(self.order()) as order:
                delete_images(requests, order, service.storage, DeleteReport())

        insist(send)

    def delete_and_replay(self, images: int = 3) -> None:
        """Deletes and replays of the same images go into the order as they come, and nobody waits for them."""
        ids = self._some(images)
        deletes = [DeleteRequest(each, self._name(), reason="chaos") for each in ids]

        def send() -> None:
            with closing(self.order()) as order, self.topic() as topic:
                for each in self._shuffled([False, True]):
                    if each:
                        self.send_replays(topic, ids)
                    else:
                        order.delete(deletes)

        insist(send)

    def replay_unseen(self, images: int) -> None:
        """Sends requests in both lanes, and waits for nothing."""

        def send() -> None:
            with self.topic() as topic:
                self.send_replays(topic, self._some(images))

        insist(send)

    def replay_unscored(self) -> None:
        """Sends requests for the images without scores, and waits for nothing."""

        def send() -> None:
            unscored = ReplaySelection(stored=ImageSelection(causes=frozenset({Cause.UNSCORED})))
            with self._service() as service, self.topic() as topic:
                for page in service.images(unscored, lambda done, total: None):
                    self.send_replays(topic, [each.image.image_id for each in page.known[:20]])

        insist(send)

    def admit_again(self) -> None:
        """Replays that are in the order come once more, as after a restart of the job."""

        def send() -> None:
            joined = self._stack.signal.topic("joined")
            with TopicReader(self._stack.settings.kafka_access("chaos"), joined) as reader:
                values = [record.value for record in reader.last(500)]
            known = [each for each in values if isinstance(decode_joined(each), JoinedReplay)]
            again = self._chance.sample(known, min(3, len(known)))
            self._stack.send_raw(joined, [(b"again", value) for value in again])

        insist(send)

    def override_some(self) -> None:
        """Says that some images belong together, or do not, ends what was said, or rolls the last changes back.

        Many of these are refused.
        """
        one, other, *more = [*self._some(4), *self._some(4)]
        kind = self._chance.choice((OverrideKind.FORBID, OverrideKind.FORBID, OverrideKind.PIN, OverrideKind.MERGE))
        wanted = OverrideRequest(kind, (one, *more[:1]), other, author="chaos")
        dice = self._chance.random()
        if dice < 0.2:
            # Members of one cluster, as people see them.
            wanted = OverrideRequest(OverrideKind.SPLIT, (one,), self._head(one), author="chaos")
        elif dice < 0.5:
            wanted = OverrideRequest(OverrideKind.FORBID, (one,), self._head(one), author="chaos")
        elif dice < 0.65 and self._said:
            number = self._chance.choice(self._said)
            wanted = OverrideRequest(OverrideKind.UNDO, undoes=number, author="chaos")
        elif dice < 0.75:
            wanted = OverrideRequest(OverrideKind.ROLLBACK, author="chaos")

        def say() -> None:
            nonlocal wanted
            with self._service() as service:
                if wanted.kind is OverrideKind.ROLLBACK and wanted.rollback is None:
                    wanted = replace(wanted, rollback=self._back(service.storage.describe().history_number))
                try:
                    outcome = service.storage.override(wanted)
                except (RefusedError, BadInputError, MismatchError):
                    return  # it contradicts what is there, or an image has not come yet
            if wanted.kind is not OverrideKind.UNDO:
                self._said.append(outcome.override.number)

        insist(say)

    def _back(self, changes: int) -> RollbackRequest:
        """Back by up to 200 changes."""
        to = max(0, changes - self._chance.randrange(200))
        return RollbackRequest(to_change=to, new=self._chance.choice(list(NewImages)))

    def send_replays(self, topic: ReplayTopic, ids: Sequence[ImageId]) -> None:
        """Some by force, in either lane."""
        requests = [
            ReplayRequest(
                self._name(), each, force=self._chance.random() < 0.5, bulk=self._chance.random() < 0.5, author="chaos"
            )
            for each in ids
        ]
        for lane in sorted({each.lane for each in requests}):
            topic.send(lane, [each for each in requests if each.lane == lane])

    def topic(self) -> ReplayTopic:
        """The topic `replay`, to be closed."""
        settings = self._stack.settings
        return ReplayTopic(
            settings.kafka_access("chaos"), self._stack.signal.topic("replay"), settings.kafka.max_message_bytes
        )

    def order(self) -> OrderWriter:
        """A writer of the order, to be closed."""
        access, topic = self._stack.settings.kafka_access("chaos"), self._stack.signal.topic("joined")
        with self._service() as service:
            service.storage.require_kinds(("delete", "replay"))
            return OrderWriter(partial(KafkaSender, access.python_options(), topic), lambda kinds: None)

    def _service(self) -> ReplayService:
        return ReplayService(self._stack.settings, self._stack.signal_name, Right.WRITE)

    def _head(self, image_id: ImageId) -> ImageId:
        try:
            return ImageId(self._stack.heads([image_id]).get(image_id, image_id))
        except (NeardupClientError, OSError):
            return image_id

    def _some(self, number: int) -> list[ImageId]:
        """Images that were sent, half of them lately, so that some are still under way."""
        sent = [row.image_id for _, row in self._flow.sent] or ["nobody"]
        chosen = [self._chance.choice(sent[-60:] if self._chance.random() < 0.5 else sent) for _ in range(number)]
        return [ImageId(each) for each in dict.fromkeys(chosen)]

    def _shuffled(self, items: list[bool]) -> list[bool]:
        return self._chance.sample(items, len(items))

    def _name(self) -> str:
        return f"chaos-{next(self._numbers)}-{time.time_ns()}"


class Asking:
    """Makes requests, one after the other, on a thread of its own."""

    def __init__(self, name: str, ways: Mapping[Callable[[], None], float], chance: random.Random) -> None:
        """Does nothing yet.

        Args:
            name: Of the thread.
            ways: How often each kind of request is made.
            chance: Of the order and the pauses.
        """
        self._ways = dict(ways)
        self._chance = chance
        self._stopped = threading.Event()
        self._busy = threading.Lock()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.made = 0
        """How many requests were made."""

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Returns when the last request is answered."""
        self._stopped.set()
        self._thread.join(PATIENCE_S + 60.0)
        assert not self._thread.is_alive(), "a request is not answered"
        self._check()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Asks for nothing inside, once the last request is answered."""
        with self._busy:
            self._check()
            yield

    def _check(self) -> None:
        if self._failure is not None:
            raise AssertionError("a request failed for too long") from self._failure

    def _run(self) -> None:
        while not self._stopped.wait(self._chance.expovariate(1 / PAUSE_S) + 0.05):
            with self._busy:
                if self._failure is None and not self._stopped.is_set():
                    self._ask()

    def _ask(self) -> None:
        [way] = self._chance.choices(list(self._ways), list(self._ways.values()))
        try:
            way()
            self.made += 1
        except BaseException as error:  # noqa: BLE001  whoever holds or stops it is told
            self._failure = error


def insist(call: Callable[[], None], patience_s: float = PATIENCE_S) -> None:
    """Calls until there is no error.

    Raises:
        NeardupError: There was one for so long.
    """
    until = time.monotonic() + patience_s
    while True:
        try:
            return call()
        except NeardupError:
            if time.monotonic() > until:
                raise
            time.sleep(PAUSE_S)
