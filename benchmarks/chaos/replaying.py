"""One large replay, and deletes beside it, while every part is killed.

The replay is one request. Its command is given again with the same request id whenever it fails, so it goes on where it
was. The next part is killed each time that the replay has come some way further. Then each image that is still there
was decided once by each of its requests.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

from benchmarks.chaos.faults import kill_supervisor
from benchmarks.chaos.storm import settled
from benchmarks.chaos.world import PARTS, World
from core.notifications import decode_joined
from core.protos.joined_pb2 import JoinedReplay
from core.replay_requests import Lane
from tests.support.stack import eventually, sample_rows

__all__ = ["decided_once", "replay_under_kills"]

REQUEST = "chaos-replay"
DELETES = 200
AT_ONCE = 10
"""Images of one `neardup delete`."""

_PATIENCE_S = 900.0


def replay_under_kills(world: World, images: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Publishes images, replays them by force, deletes some of them and some others, and kills every part meanwhile.

    Returns:
        Figures.

    Raises:
        AssertionError: The replay was over before every part was killed, or a request was decided twice or not at all.
    """
    sample = islice(cycle(sample_rows()), images + DELETES // 2)
    rows = [replace(row, image_id=f"kept-{number}") for number, row in enumerate(sample)]
    ids = [row.image_id for row in rows]
    world.stack.publish(rows)
    world.flow.start()
    world.stack.await_heads(ids, timeout_s=_PATIENCE_S)
    doomed = [*world.chance.sample(ids[:images], DELETES // 2), *ids[images:]]
    world.chance.shuffle(doomed)
    tell(f"{len(ids)} images are placed")
    file = world.data.parent / "ids.txt"
    file.write_text("".join(f"{each}\n" for each in ids[:images]), encoding="utf-8")
    replay = _Insisted("replay", [world.program("replay", "--ids-file", str(file), "--force", "--request", REQUEST)])
    parts = [doomed[at : at + AT_ONCE] for at in range(0, len(doomed), AT_ONCE)]
    deletes = _Insisted("delete", [world.program("delete", *part, "--reason", "chaos") for part in parts])
    started = time.monotonic()
    deletes.start()
    replay.start()
    kills = _kill_every_part(world, replay, images, tell)
    for each in (replay, deletes):
        each.join(_PATIENCE_S)
        assert not each.is_alive(), f"{each.name} does not end"
    took_s = time.monotonic() - started
    world.flow.stop()
    with settled(world):
        order = world.stack.records(world.stack.signal.topic("joined"))
        once = decided_once(order, _changes(world), REQUEST, ids[:images], set(doomed))
    gone = world.stack.heads(doomed)
    assert not gone, f"{len(gone)} images were not deleted"
    tell(f"{once} images were decided once each, {len(doomed)} are deleted")
    return {
        "replayed": images,
        "decided_once": once,
        "deletes": len(doomed),
        "replay_s": round(took_s, 1),
        "replay_runs": replay.runs,
        "by_kind": dict(sorted(kills.items())),
    }


def decided_once(
    order: Sequence[bytes],
    changes: Iterable[Mapping[str, Any]],
    request: str,
    replayed: Collection[str],
    doomed: Collection[str],
) -> int:
    """Checks the changes of heads against the requests in the order; returns how many images were decided.

    Args:
        order: The records of all that there was of `joined`.
        changes: All of them, each once, as `assignments` has them.
        request: The id of a replay by force.
        replayed: Its images.
        doomed: Images that were deleted, perhaps before they were asked for; they are not counted.

    Raises:
        AssertionError: A request of an image that is there has not exactly one change, or one of a deleted image two.
    """
    asked: dict[int, tuple[str, int, int]] = {}
    for position, record in enumerate(order):
        content = decode_joined(record)
        if isinstance(content, JoinedReplay) and content.origin.request_id == request:
            asked[position] = content.image_id, content.origin.partition, content.origin.offset
    requests = set(asked.values())
    lacking = set(replayed) - set(doomed) - {image_id for image_id, *_ in requests}
    assert not lacking, f"{len(lacking)} images were not asked for, such as {min(lacking)}"
    decided = Counter(
        asked[each["offset"]]
        for each in changes
        if each["offset"] in asked and each["image_id"] == asked[each["offset"]][0]
    )
    twice = sorted(each for each, times in decided.items() if times > 1)
    assert not twice, f"{len(twice)} requests were decided more than once, such as {twice[0]}"
    never = sorted(each for each in requests - decided.keys() if each[0] not in doomed)
    assert not never, f"{len(never)} requests were not decided, such as {never[0]}"
    return len({image_id for image_id, *_ in decided} - set(doomed))


def _changes(world: World) -> list[dict[str, Any]]:
    """All changes of heads, each once."""
    with world.stack.storage() as storage:
        last = int(storage.describe().history_number)

    def published() -> list[dict[str, Any]] | None:
        found = {each["history_number"]: each for each in world.stack.assignments()}
        return list(found.values()) if len(found) == last else None

    return eventually(published, 60.0, lambda: f"not all of {last} changes are published")


def _kill_every_part(world: World, replay: _Insisted, images: int, tell: Callable[[str], None]) -> Counter[str]:
    """Kills each part once, in random order: the next one each time that the replay has come some way further."""
    kills: Counter[str] = Counter()
    victims = world.chance.sample([*PARTS, "supervisor"], len(PARTS) + 1)
    for number, part in enumerate(victims, 1):
        wanted = images * number // (len(victims) + 1)
        eventually(
            lambda wanted=wanted: _applied(world) >= wanted or None,
            _PATIENCE_S,
            lambda wanted=wanted: f"{_applied(world)} of {wanted} requests are applied",
        )
        assert replay.is_alive(), f"the replay was over before the kill of {part}: ask for more images"
        tell(f"kill of {part}")
        if part == "supervisor":
            kill_supervisor(world)
        else:
            eventually(lambda part=part: world.killed(part) or None, 120.0, lambda part=part: f"{part} does not run")
        kills[f"kill:{part}"] += 1
    return kills


def _applied(world: World) -> int:
    """How many requests of selections storage has applied."""
    with world.stack.storage() as storage:
        requests = storage.look_up(()).requests
    return 1 + max((offset for source, offset in requests.items() if source.partition == Lane.BULK), default=-1)


class _Insisted(threading.Thread):
    """Runs commands one after the other, each until it succeeds."""

    def __init__(self, name: str, programs: Sequence[Sequence[str]]) -> None:
        super().__init__(name=name, daemon=True)
        self._programs = programs
        self.runs = 0
        """How many processes were started."""

    def run(self) -> None:
        """See the class."""
        for program in self._programs:
            self.runs += 1
            while subprocess.run(program, capture_output=True, check=False).returncode != 0:
                time.sleep(1.0)
                self.runs += 1
