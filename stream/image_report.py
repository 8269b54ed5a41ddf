"""Everything that is known of one image, asked of every part that may know something."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from core.access import Right
from core.errors import NeardupError
from neardup.client import ApiClient, RetryPolicy
from neardup.errors import DeletedError, NeardupClientError, NotFoundError
from search.serving.admission import Caller
from search.serving.client import SearchClient
from stream.access import api_client, credentials
from stream.dead_letters.groups import ListedDeadLetter, of_image
from stream.names import client_id
from stream.settings import Settings, Signal
from stream.topic_reader import TopicReader
from stream.traces.choice import TraceChoice
from stream.traces.reading import FoundTrace, Unread, newest

__all__ = ["ImageReport", "ReportLimits", "report_on"]

CALL_S = 10.0
"""The deadline of one call, in seconds."""


@dataclass(frozen=True, slots=True)
class ReportLimits:
    """How much of what may be long is shown."""

    members: int = 10
    changes: int = 100
    """Of the image's head, the newest."""
    dead_letters: int = 20
    traces: int = 3
    since_ms: int = 0
    """Dead letters and traces that Kafka took before are left out."""


_VERDICT = "the verdict"
"""What the report names it, where it could not be asked for."""


@dataclass(slots=True)
class ImageReport:
    """What is known of an image. What could not be asked is absent, and `problems` says why."""

    image_id: str
    verdict: dict[str, Any] | None = None
    """The last verdict: head, cause, score, version, versions of model and index (`/v1/images/{id}`)."""
    deleted: str | None = None
    """When it was deleted (ISO 8601, UTC); None: it was not."""
    cluster: dict[str, Any] | None = None
    """Its cluster: head, count, and the first members."""
    indexed: dict[str, Any] | None = None
    """What the index has: the version placed last, its place, and whether it is hidden."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """The changes of its head, oldest first."""
    dead_letters: list[ListedDeadLetter] = field(default_factory=list)
    """Oldest first."""
    traces: list[FoundTrace] = field(default_factory=list)
    """Oldest first."""
    problems: list[str] = field(default_factory=list)

    @property
    def known(self) -> bool:
        """Whether anything at all is known."""
        found = (self.verdict, self.deleted, self.indexed, self.history, self.dead_letters, self.traces)
        return any(bool(each) for each in found)

    @property
    def storage_silent(self) -> bool:
        """Whether the verdict could not be asked for, so that none is known either way."""
        return any(each.startswith(f"{_VERDICT}: ") for each in self.problems)

    @property
    def rules(self) -> list[str]:
        """The rules that took part in the last traced verdict. Overrides are planned: until then there are none."""
        return list(self.traces[-1][1].rules) if self.traces else []


def report_on(
    image_id: str,
    settings: Settings,
    signal_name: str | None,
    limits: ReportLimits,
    on_step: Callable[[str], None] = lambda what: None,
) -> ImageReport:
    """Asks storage, the index and the topics. A part that does not answer is a problem of the report, never raised.

    Args:
        image_id: The image.
        settings: Of the deployment.
        signal_name: The signal.
        limits: How much is taken.
        on_step: Told what is asked next.
    """
    name, signal = settings.signal(signal_name)
    report = ImageReport(image_id)

    def ask(what: str, question: Callable[[], None]) -> None:
        on_step(what)
        try:
            question()
        except (NeardupError, NeardupClientError) as error:
            report.problems.append(f"{what}: {str(error).partition(chr(10))[0]}")

    with api_client(settings, name, timeout_s=CALL_S, retry=RetryPolicy(retries=1)) as api:
        ask(_VERDICT, lambda: _ask_verdict(report, api))
        ask("its cluster", lambda: _ask_cluster(report, api, limits.members))
        ask("its history", lambda: _ask_history(report, api, limits.changes))
    ask("the index", lambda: _ask_index(report, settings, signal))
    access = settings.kafka_access(client_id(name, "show"))

    def dead_letters() -> None:
        with TopicReader(access, signal.topic("dead_letter")) as topic:
            first, end = _from(topic, limits.since_ms)
            key = image_id.encode("utf-8", "surrogateescape")
            report.dead_letters = of_image(topic.between(first, end), key, limits.dead_letters)

    def traces() -> None:
        with TopicReader(access, signal.topic("debug")) as topic:
            first, end = _from(topic, limits.since_ms)
            choice = TraceChoice(image_ids=[image_id])
            unread = Unread()
            report.traces = newest(topic, first, end, choice, limits.traces, unread)
            if unread.count:
                report.problems.append(f"traces: {unread.count} of this image could not be read; {unread.first}")

    ask("dead letters", dead_letters)
    ask("traces", traces)
    return report


def _ask_verdict(report: ImageReport, api: ApiClient) -> None:
    try:
        report.verdict = asdict(api.image(report.image_id))
    except DeletedError as error:
        report.deleted = error.deleted_at
    except NotFoundError:
        return


def _ask_cluster(report: ImageReport, api: ApiClient, members: int) -> None:
    # A deleted head names its cluster on, so the cluster of that name is asked for too.
    head = report.image_id if report.verdict is None else str(report.verdict["head"])
    try:
        report.cluster = {**asdict(api.cluster(head)), "members": list(api.members(head, members))}
    except NotFoundError:
        return


def _ask_history(report: ImageReport, api: ApiClient, changes: int) -> None:
    try:
        report.history = [asdict(each) for each in deque(api.history(report.image_id), maxlen=changes)]
    except NotFoundError:
        return


def _ask_index(report: ImageReport, settings: Settings, signal: Signal) -> None:
    server, proof = signal.search, credentials(settings, Right.READ)
    with closing(SearchClient(server.address, CALL_S, server.max_message_bytes, Caller.INTERACTIVE, proof)) as client:
        for stored in islice(client.get([report.image_id]).images, 1):
            report.indexed = {
                "version": stored.image_version,
                "place": stored.place,
                "searchable": bool(stored.score_code) and not stored.hidden,
                "hidden": stored.hidden,
            }


def _from(topic: TopicReader, since_ms: int) -> tuple[int, int]:
    first, end = topic.ends()
    return (first if since_ms <= 0 else min(end, topic.offset_at(since_ms))), end
