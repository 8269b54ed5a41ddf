"""The stages of the demo: start everything, send the sample, wait for every verdict, report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from core.access import Right
from core.errors import BadInputError, NeardupError, UnavailableError
from manifests.image_files import ImageFile
from neardup.client import ApiClient
from neardup.errors import NeardupClientError
from storage.serving.client import StorageClient
from stream.access import api_client, credentials
from stream.data_folders import demo_settings, runs, wipe
from stream.demo.look_back import decide_again, explained_verdict, replayed_images
from stream.demo.picture import SheetMember, draw_cluster, most_pictures, picture_files
from stream.demo.quality import quality
from stream.demo.report import DemoReport, LargeCluster, LawCheck
from stream.demo.sample import PICTURE_FOLDER, PICTURES, SAMPLE, LabelledImage, read_labels
from stream.demo.view import Bars, DemoView
from stream.interrupts import undisturbed
from stream.job_control import JobControl
from stream.local.supervisor import Deployment
from stream.names import client_id
from stream.publish import Publisher, publish
from stream.settings import Settings
from stream.topic_reader import TopicReader
from stream.verdicts import Verdicts, latency

__all__ = ["DemoFailedError", "DemoOptions", "run_demo"]

_PUBLISHING, _VERDICTS = "publishing", "verdicts"
_LARGEST, _MEMBERS_SHOWN = 5, 4
_POLL_EVERY = 20
"""Images between two polls for verdicts while publishing."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options of the demo."""

    rate: float = 120.0
    """Images per second: what two cores can handle right after the start."""
    keep: bool = False
    """Leave everything running at the end."""
    keep_data: bool = False
    """Keep the data of an earlier demo."""
    stall_s: float = 90.0
    """The demo fails after this time without a verdict."""


class DemoFailedError(NeardupError):
    """A stage failed. The message names it and the logs to read."""


def run_demo(settings: Settings, options: DemoOptions, view: DemoView) -> DemoReport:
    """Runs the demo in its own data folder, and stops everything afterwards, also after an interrupt.

    Args:
        settings: The user's, with their ports and signals. The data lies in `demo` below their data folder.
        options: The user's choices.
        view: Shows the progress.

    Raises:
        DemoFailedError: A stage failed. Everything is stopped.
        BadInputError: The service uses these ports, or the sample or the demo's folder is not usable. Nothing was
            started.
    """
    if runs(settings):
        raise BadInputError(f"the service is up ({settings.data_dir}), on the ports of the demo: `neardup down` first")
    demo = _Demo(demo_settings(settings), options, view)
    demo.clear()
    try:
        report = demo.run()
    except BaseException:  # Ctrl-C too: nothing is left running
        demo.stop()
        raise
    if not options.keep:
        demo.stop()
    return report


class _Demo:
    def __init__(self, settings: Settings, options: DemoOptions, view: DemoView) -> None:
        self._settings = settings
        self._options = options
        self._view = view
        self._deployment = Deployment(settings)
        self._name, self._signal = settings.signal()
        self._kafka = settings.kafka_access(client_id(self._name, "demo"))
        files = [settings.path(file) for file in (SAMPLE, PICTURES)]
        self._labels: list[LabelledImage] = [label for file in files for label in read_labels(file)]
        dimensions = (self._signal.search_embedding.dimension, self._signal.score_embedding.dimension)
        self._images = [ImageFile(file, *dimensions) for file in files]
        self._seconds: dict[str, float] = {}

    def clear(self) -> None:
        """Stops an earlier demo, and wipes its data."""
        if self._settings.data_dir.exists():
            self._deployment.down(self._view.part)
        if not self._options.keep_data:
            wipe(self._settings.data_dir)

    def run(self) -> DemoReport:
        """All stages."""
        with self._stage("starting all parts", "supervisord"):
            self._deployment.up(self._view.part)
        with self._stage("waiting for the job to run", "taskmanager", f"{self._name}-job"):
            self._wait_for_job()
        with self._stage("sending the sample, receiving verdicts", "taskmanager", f"{self._name}-job", "broker"):
            verdicts, published_per_s = self._stream()
        with self._stage("checking law 2 over the whole store", f"{self._name}-storage"):
            law = self._verify()
        with self._stage("collecting the results", f"{self._name}-storage"):
            report = self._report(verdicts, law, published_per_s)
        with self._stage("explaining one verdict", f"{self._name}-storage"), self._api() as api:
            report = replace(report, explained=explained_verdict(verdicts.clusters(), api))
        images = replayed_images(verdicts.clusters())
        if images:
            with self._stage("deciding ten images again", "taskmanager", f"{self._name}-storage"):
                report = replace(report, replay=decide_again(self._settings, self._name, images))
        (self._settings.data_dir / "report.json").write_text(report.to_json() + "\n", encoding="utf-8")
        return report

    def stop(self) -> None:
        """Stops everything; a second Ctrl-C does not interrupt this."""
        with undisturbed():
            self._view.stage("stopping all parts")
            self._deployment.down(self._view.part)

    @contextmanager
    def _stage(self, text: str, *logs: str) -> Iterator[None]:
        self._view.stage(text)
        started = time.monotonic()
        try:
            yield
        except (NeardupError, NeardupClientError) as error:
            read = "\n".join(f"  {self._deployment.log(name)}" for name in logs)
            raise DemoFailedError(f"the demo failed while {text}: {error}\nmore may be in\n{read}") from error
        self._seconds[text] = round(time.monotonic() - started, 2)

    def _wait_for_job(self) -> None:
        control = JobControl(self._settings, self._name)
        until = time.monotonic() + self._options.stall_s
        while True:
            state = control.state()
            if state is not None and state.state == "RUNNING" and control.flink.running(state.job_id):
                self._view.note(f"{state.name} runs: job {state.job_id}")
                return
            if time.monotonic() > until:
                raise UnavailableError(f"the job is {state.state if state else 'not there'} still")
            time.sleep(0.2)

    def _stream(self) -> tuple[Verdicts, float]:
        """Sends the sample and reads `assignments` until every image has its verdict."""
        verdicts, wanted = Verdicts(), {label.image_id for label in self._labels}
        topic = self._signal.topic("assignments")
        with (
            TopicReader(self._kafka, topic) as reader,
            Publisher(self._settings, self._name) as publisher,
            self._view.bars() as bars,
        ):
            bars.add(_PUBLISHING, sum(file.rows for file in self._images))
            bars.add(_VERDICTS, len(wanted))

            def on_sent(sent: int) -> None:
                bars.set(_PUBLISHING, sent)
                if sent % _POLL_EVERY == 0:
                    verdicts.take(reader.poll(0.0))
                    _show(bars, verdicts)

            started = time.monotonic()
            sent = publish(chain(*self._images), publisher, rate=self._options.rate, on_sent=on_sent)
            took_s = time.monotonic() - started
            self._await_verdicts(reader, verdicts, wanted, bars)
        return verdicts, round(sent / took_s, 1)

    def _await_verdicts(self, reader: TopicReader, verdicts: Verdicts, wanted: set[str], bars: Bars) -> None:
        seen_at = time.monotonic()
        while wanted - verdicts.heads.keys() or verdicts.history_number < self._history_number():
            before = verdicts.history_number
            verdicts.take(reader.poll(0.2))
            _show(bars, verdicts)
            if verdicts.history_number > before:
                seen_at = time.monotonic()
            elif time.monotonic() - seen_at > self._options.stall_s:
                missing = sorted(wanted - verdicts.heads.keys())
                raise UnavailableError(
                    f"{len(missing):,} of {len(wanted):,} images have no verdict, and for {self._options.stall_s:.0f} s"
                    f" none came; {self._dead_letters():,} records lie in {self._signal.topic('dead_letter')}."
                    f" Images without verdict: {', '.join(missing[:3])} ..."
                )

    def _history_number(self) -> int:
        """Of the last change in the store: the last image may still move others."""
        with self._api() as api:
            return api.stats().history_number

    def _verify(self) -> LawCheck:
        server, proof = self._signal.storage, credentials(self._settings, Right.READ)
        with closing(StorageClient(server.address, 10.0, server.max_message_bytes, proof)) as storage:
            for progress in storage.verify():
                if progress.done:
                    return LawCheck(
                        progress.images, progress.clusters, progress.problem_count, tuple(progress.problems)
                    )
        raise UnavailableError("the storage server broke off the check")

    def _report(self, verdicts: Verdicts, law: LawCheck, published_per_s: float) -> DemoReport:
        clusters = verdicts.clusters()
        with self._api() as api:
            largest = tuple(
                LargeCluster(head, len(members), tuple(api.members(head, _MEMBERS_SHOWN)))
                for head, members in list(clusters.items())[:_LARGEST]
            )
            picture = self._draw(clusters, api)
        return DemoReport(
            images=len(verdicts.heads),
            clusters=len(clusters),
            alone=sum(len(members) == 1 for members in clusters.values()),
            causes=dict(verdicts.causes),
            dead_letters=self._dead_letters(),
            largest=largest,
            picture=None if picture is None else str(picture),
            quality=quality(self._labels, verdicts.heads),
            latency=latency(verdicts.waits_ms.values()),
            law=law,
            published_per_s=published_per_s,
            seconds=self._seconds,
        )

    def _draw(self, clusters: dict[str, list[str]], api: ApiClient) -> Path | None:
        """Draws the largest cluster with pictures."""
        pictures = picture_files(self._settings.path(PICTURE_FOLDER))
        head = most_pictures(clusters, pictures)
        if head is None:
            return None
        verdicts = [api.image(image_id) for image_id in sorted(clusters[head])]
        members = [SheetMember(each.image_id, each.cause, each.score, each.matched) for each in verdicts]
        file = self._settings.data_dir / "cluster.png"
        draw_cluster(head, members, pictures, file)
        return file

    def _dead_letters(self) -> int:
        with TopicReader(self._kafka, self._signal.topic("dead_letter")) as reader:
            first, end = reader.ends()
        return end - first

    def _api(self) -> ApiClient:
        return api_client(self._settings, self._settings.default_signal)


def _show(bars: Bars, verdicts: Verdicts) -> None:
    bars.set(_VERDICTS, len(verdicts.heads), f"{len(set(verdicts.heads.values())):,} clusters")
