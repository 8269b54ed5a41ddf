"""The demo's stages against a small world in memory: what it reports, and that it stops everything whatever happens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib import pyplot as plt

import stream.demo.run as run_module
from core.errors import BadInputError, UnavailableError
from core.types import ImageId
from manifests.image_files import ImageRow
from stream.demo.look_back import REPLAYED, replayed_images
from stream.demo.report import DemoReplay
from stream.demo.run import DemoFailedError, DemoOptions, run_demo
from stream.kafka_access import KafkaAccess
from stream.local.errors import PartFailedError
from stream.settings import Settings, load_settings
from stream.topic_reader import TopicRecord

GROUPS = {"a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "b", "c1": "c"}
"""Image ids and their groups; the first of a group founds its cluster."""


@dataclass
class World:
    """Everything that the demo meets: it gives each image the head of its group at once."""

    events: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    up_fails: BaseException | None = None
    silent_about: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)

    def records(self) -> list[TopicRecord]:
        found = []
        for number, image in enumerate((name for name in self.sent if name not in self.silent_about), start=1):
            head = next(name for name in GROUPS if GROUPS[name] == GROUPS[image])
            value = {
                "history_number": number,
                "image_id": image,
                "head": head,
                "cause": "founded" if head == image else "matched",
                "version": 1,
                "arrived_at_ms": 1_000,
            }
            found.append(TopicRecord(number, 1_000 + 10 * number, image.encode(), json.dumps(value).encode()))
        return found

    def deployment(self, settings: Settings) -> Any:
        def up(progress: Any) -> None:
            self.events.append("up")
            progress("broker", "ready", "")
            if self.up_fails is not None:
                raise self.up_fails

        def log(name: str) -> Path:
            return settings.data_dir / "log" / f"{name}.log"

        return SimpleNamespace(up=up, down=lambda progress: self.events.append("down"), log=log)

    def publisher(self, *_: Any) -> Any:
        world = self

        class Publisher:
            def __enter__(self) -> Publisher:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def send(self, row: ImageRow, *, trace: bool = False) -> None:
                world.sent.append(row.image_id)

            def flush(self) -> None:
                pass

        return Publisher()

    def reader(self, access: KafkaAccess, topic: str) -> Any:
        world = self

        class Reader:
            def __enter__(self) -> Reader:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def poll(self, timeout_s: float) -> list[TopicRecord]:
                return world.records()

            def ends(self) -> tuple[int, int]:
                return 2, 5

        return Reader()

    def api(self, settings: Settings, signal_name: str) -> Any:
        world = self

        class Api:
            def __enter__(self) -> Api:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def stats(self) -> SimpleNamespace:
                return SimpleNamespace(history_number=len(world.records()))

            def members(self, head: str, limit: int) -> Iterator[str]:
                return iter([name for name in GROUPS if GROUPS[name] == GROUPS[head]][:limit])

            def explain(self, image_id: str) -> Any:
                return {"at_place": {"verdict": {"image_id": image_id}}}

            def image(self, image_id: str) -> Any:
                founded = next(name for name in GROUPS if GROUPS[name] == GROUPS[image_id]) == image_id
                rest = {"score": None, "matched": None} if founded else {"score": 0.99, "matched": image_id[0] + "1"}
                return SimpleNamespace(image_id=image_id, cause="founded" if founded else "matched", **rest)

        return Api()

    def storage(self, *_: Any) -> Any:
        def verify() -> Iterable[Any]:
            yield SimpleNamespace(done=False, checked=3)
            yield SimpleNamespace(
                done=True, images=6, clusters=3, problem_count=len(self.problems), problems=self.problems
            )

        return SimpleNamespace(verify=verify, close=lambda: None)

    def decide_again(self, settings: Settings, name: str, images: Sequence[ImageId]) -> DemoReplay:
        self.again += images
        return DemoReplay(len(images), {"same": len(images)}, ())

    def control(self, settings: Settings, name: str) -> Any:
        state = SimpleNamespace(state="RUNNING", job_id="j", name="neardup-photos")
        return SimpleNamespace(state=lambda: state, flink=SimpleNamespace(running=lambda _: True))


@dataclass
class Told:
    """A view that remembers."""

    stages: list[str] = field(default_factory=list)
    bars_set: dict[str, int] = field(default_factory=dict)

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def part(self, name: str, state: str, detail: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    @contextmanager
    def bars(self) -> Iterator[Any]:
        def put(name: str, done: int, note: str = "") -> None:
            self.bars_set[name] = done

        yield SimpleNamespace(add=lambda name, total: None, set=put)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    for name, fake in {
        "Deployment": world.deployment,
        "Publisher": world.publisher,
        "TopicReader": world.reader,
        "api_client": world.api,
        "StorageClient": world.storage,
        "JobControl": world.control,
        "decide_again": world.decide_again,
    }.items():
        monkeypatch.setattr(run_module, name, fake)
    return world


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a project with a sample of five images, the first group for training, and one edited picture."""
    folder = tmp_path / "examples" / "photos"
    (folder / "demo").mkdir(parents=True)
    names = list(GROUPS)
    for file, ids in (("photos.parquet", names[:-1]), ("demo/pictures.parquet", names[-1:])):
        rows = len(ids)
        content = {
            "image_id": ids,
            "group_id": [GROUPS[name] for name in ids],
            "ignore_group": [""] * rows,
            "split": ["train" if GROUPS[name] == "a" else "test" for name in ids],
            "search": pa.array(list(np.ones((rows, 1280), np.float16)), pa.list_(pa.float16(), 1280)),
            "score": pa.array(list(np.ones((rows, 768), np.float16)), pa.list_(pa.float16(), 768)),
        }
        pq.write_table(pa.table(content), folder / file)
    (tmp_path / "some.toml").write_text("")
    return load_settings(tmp_path / "some.toml")


FAST = DemoOptions(rate=10_000, stall_s=0.2)


def test_it_reports_what_it_found_and_stops(world: World, settings: Settings) -> None:
    told = Told()
    report = run_demo(settings, FAST, told)
    assert world.sent == list(GROUPS)
    assert (report.images, report.clusters, report.alone, report.dead_letters) == (6, 3, 1, 3)
    assert report.causes == {"founded": 3, "matched": 3}
    assert [(each.head, each.count, each.members) for each in report.largest] == [
        ("a1", 3, ("a1", "a2", "a3")),
        ("b1", 2, ("b1", "b2")),
        ("c1", 1, ("c1",)),
    ]
    assert (report.quality.images, report.quality.groups) == (3, 2)
    assert report.quality.bcubed.f1 == report.quality.pairwise.f1 == 1.0
    assert (report.latency.count, report.latency.p50_ms, report.latency.max_ms) == (6, 30, 60)
    assert report.law.sound
    assert report.explained == {"image_id": "a3"}
    assert report.replay == DemoReplay(3, {"same": 3}, ())
    assert world.again == ["a2", "a3", "b2"]
    assert world.events == ["up", "down"]
    assert told.bars_set == {"publishing": 6, "verdicts": 6}
    written = json.loads((settings.data_dir / "demo" / "report.json").read_text())
    assert written["images"] == 6
    assert written["law"]["sound"] is True


def test_no_more_than_ten_images_are_decided_again() -> None:
    clusters = {"h": ["h", *(f"m{number}" for number in range(20))], "alone": ["alone"]}
    chosen = replayed_images(clusters)
    assert len(chosen) == REPLAYED
    assert "h" not in chosen
    assert replayed_images({"alone": ["alone"]}) == []


def test_it_draws_the_largest_cluster_with_pictures(world: World, settings: Settings, tmp_path: Path) -> None:
    for name in ("b1", "b2", "a1"):
        plt.imsave(tmp_path / "examples" / "photos" / "demo" / f"{name}.jpg", np.zeros((8, 6, 3), np.uint8))
    report = run_demo(settings, FAST, Told())
    drawn = settings.data_dir / "demo" / "cluster.png"
    assert report.picture == str(drawn)
    assert plt.imread(drawn).shape[1] == 1200


def test_without_pictures_nothing_is_drawn(world: World, settings: Settings) -> None:
    assert run_demo(settings, FAST, Told()).picture is None
    assert not (settings.data_dir / "demo" / "cluster.png").exists()


def test_kept_up_when_asked(world: World, settings: Settings) -> None:
    run_demo(settings, DemoOptions(rate=10_000, keep=True), Told())
    assert world.events == ["up"]


def test_a_second_run_starts_from_nothing_and_a_third_goes_on(world: World, settings: Settings) -> None:
    left = settings.data_dir / "demo" / "left"
    run_demo(settings, FAST, Told())
    left.write_text("of the first")
    run_demo(settings, FAST, Told())
    assert not left.exists()
    left.write_text("of the second")
    run_demo(settings, DemoOptions(rate=10_000, keep_data=True), Told())
    assert left.exists()
    assert world.events == ["up", "down", "down", "up", "down", "down", "up", "down"]


def test_a_part_that_does_not_come_stops_all(world: World, settings: Settings) -> None:
    world.up_fails = PartFailedError("photos-scorer", "it ended", "no model here")
    with pytest.raises(DemoFailedError, match=r"starting all parts(.|\n)*photos-scorer(.|\n)*no model here"):
        run_demo(settings, FAST, Told())
    assert world.events == ["up", "down"]


@pytest.mark.parametrize("keep", [False, True])
def test_an_interrupt_stops_all(world: World, settings: Settings, keep: bool) -> None:
    world.up_fails = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run_demo(settings, DemoOptions(keep=keep), Told())
    assert world.events == ["up", "down"]


def test_images_without_a_verdict_are_named_with_the_logs(world: World, settings: Settings) -> None:
    world.silent_about = {"b2", "c1"}
    with pytest.raises(DemoFailedError, match="2 of 6 images have no verdict") as failure:
        run_demo(settings, FAST, Told())
    text = str(failure.value)
    assert "b2, c1" in text
    assert "3 records lie in neardup.photos.dead-letter" in text
    assert str(settings.data_dir / "demo" / "log" / "taskmanager.log") in text
    assert isinstance(failure.value.__cause__, UnavailableError)
    assert world.events == ["up", "down"]


def test_an_unsound_store_is_reported_not_hidden(world: World, settings: Settings) -> None:
    world.problems = ["a2 is a member of nobody"]
    report = run_demo(settings, FAST, Told())
    assert not report.law.sound
    assert report.law.problems == ("a2 is a member of nobody",)


def test_a_running_service_is_left_alone(world: World, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "runs", lambda asked: asked is settings)
    with pytest.raises(BadInputError, match="neardup down"):
        run_demo(settings, FAST, Told())
    assert world.events == []


def test_nothing_is_started_over_a_strangers_folder(world: World, settings: Settings) -> None:
    (settings.data_dir / "demo").mkdir(parents=True)
    (settings.data_dir / "demo" / "precious").write_text("work of years")
    with pytest.raises(BadInputError, match="not wiped"):
        run_demo(settings, FAST, Told())
    assert "up" not in world.events
