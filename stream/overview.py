"""The state of a deployment: parts, counts, jobs, lag, certificates."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from core.errors import NeardupError
from neardup.client import RetryPolicy
from neardup.errors import NeardupClientError
from stream.access import api_client, api_url
from stream.certificate_files import CertificateFile, certificate_files
from stream.data_folders import runs
from stream.dead_letters.counts import open_counts
from stream.flink_rest import JobState
from stream.job_control import JobControl
from stream.local.parts import part_checks
from stream.local.status import PartStatus
from stream.local.supervisor import Deployment
from stream.settings import Settings

__all__ = ["Overview", "SignalOverview", "overview"]

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class SignalOverview:
    """How one signal is. What could not be asked is None, and `problems` says why."""

    name: str
    http_api: str
    stats: dict[str, Any] | None
    job: JobState | None
    job_wanted: bool
    lag: dict[str, int] | None
    open_dead_letters: dict[str, int] | None
    """Those that were neither replayed nor settled, by reason."""
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything answers, and the job runs unless it was stopped by hand."""
        return not self.problems and (not self.job_wanted or (self.job is not None and self.job.state == "RUNNING"))


@dataclass(frozen=True, slots=True)
class Overview:
    """How a deployment is."""

    data: str
    supervised: bool
    """Whether the parts run under our supervisor on this machine; else each was asked by itself."""
    kafka: str
    flink: str
    parts: tuple[PartStatus, ...]
    signals: tuple[SignalOverview, ...]
    certificates: tuple[CertificateFile, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything that should serve does."""
        return all(part.ok for part in self.parts) and all(signal.ok for signal in self.signals)

    @property
    def down(self) -> bool:
        """Whether nothing serves at all."""
        return not any(part.ok for part in self.parts)

    @property
    def unready(self) -> list[str]:
        """The names of the parts and signals that are not as they should be."""
        return [part.name for part in self.parts if not part.ok] + [
            f"signal {signal.name}" for signal in self.signals if not signal.ok
        ]


def overview(settings: Settings) -> Overview:
    """Asks all parts; those that do not answer are reported, never raised."""
    supervised = runs(settings)
    # Under containers there is no supervisor of ours: the parts themselves can still be asked.
    parts = Deployment(settings).status() if supervised else _asked(settings)
    ready = {part.name for part in parts if part.ok}
    return Overview(
        data=str(settings.data_dir),
        supervised=supervised,
        kafka=settings.kafka.servers,
        flink=f"https://{settings.flink.host}:{settings.flink.rest_port}",
        parts=tuple(parts),
        signals=tuple(_signal(settings, name, ready) for name in settings.signals),
        certificates=tuple(certificate_files(settings)),
    )


def _asked(settings: Settings) -> list[PartStatus]:
    reasons = {name: check() for name, check in part_checks(settings).items()}
    return [
        PartStatus(name, "ready" if reason is None else "stopped", None, 0.0, reason or "")
        for name, reason in reasons.items()
    ]


def _signal(settings: Settings, name: str, ready: Collection[str]) -> SignalOverview:
    """Asks the parts that are ready: waiting for one that is known to be down would tell nothing new."""
    control = JobControl(settings, name)
    problems: list[str] = []

    def ask(question: Callable[[], _Answer], *parts: str) -> _Answer | None:
        if not all(part in ready for part in parts):
            return None
        try:
            return question()
        except (NeardupError, NeardupClientError) as error:
            problems.append(str(error).partition("\n")[0])
            return None

    def stats() -> dict[str, Any]:
        with api_client(settings, name, timeout_s=3.0, retry=RetryPolicy(retries=0)) as api:
            return asdict(api.stats())

    def open_dead_letters() -> dict[str, int] | None:
        signal = settings.signals[name]
        return open_counts(signal.job_host, signal.job_metrics_port)

    kafka = ["broker"] if settings.kafka.own_broker else []
    problems += ask(control.topic_problems, *kafka) or []
    return SignalOverview(
        name=name,
        http_api=api_url(settings, name),
        stats=ask(stats, f"{name}-storage"),
        job=ask(control.state, "jobmanager"),
        job_wanted=control.wanted,
        lag=ask(control.lag, *kafka, f"{name}-storage"),
        open_dead_letters=ask(open_dead_letters, f"{name}-job"),
        problems=tuple(problems),
    )
