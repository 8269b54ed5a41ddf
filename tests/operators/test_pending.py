"""State of waiting records that is damaged: the task fails by name, and nothing is lost in silence."""

from __future__ import annotations

import pytest

from operators.in_flight_pb2 import BatchState, IsolatedItem
from operators.sealed_state import StateDamagedError, seal, unseal
from tests.operators.micro_batch_bench import Bench, item, items


@pytest.mark.parametrize("kind", ["maps", "values"])
def test_changed_state_fails_the_task_by_name(kind: str) -> None:
    bench = Bench()
    bench.server.down = True
    bench.harness.send(b"i0 i1")
    backend = bench.harness.backend
    stored = backend.values if kind == "values" else next(each for each in backend.maps.values() if each)
    for key, value in stored.items():
        stored[key] = bytes([value[0] ^ 1]) + value[1:]
    bench.restart()
    with pytest.raises(StateDamagedError, match="is damaged"):
        bench.harness.send(b"i2")


@pytest.mark.parametrize("missing", [0, 2, 3])
def test_a_missing_chunk_fails_the_task_by_name(missing: int) -> None:
    """The oldest, one in the middle, the newest. Without a check, what lies behind the gap would be lost in silence."""
    bench = Bench()
    bench.server.down = True
    bench.send(0, 1, 2, 3)
    chunks = next(each for each in bench.harness.backend.maps.values() if each)
    del chunks[missing]
    bench.restart()
    with pytest.raises(StateDamagedError, match=f"records 0 to 4 wait, but the chunks hold 0 to {missing}"):
        bench.harness.send(item(4))


def test_chunks_without_their_progress_fail_the_task_by_name() -> None:
    bench = Bench()
    bench.server.down = True
    bench.send(0, 1)
    bench.harness.backend.values.clear()
    bench.restart()
    with pytest.raises(StateDamagedError, match="it is missing, and there are chunks"):
        bench.harness.advance(1_000)


@pytest.mark.parametrize(
    ("progress", "message"),
    [
        (BatchState(tail=2, isolated=[IsolatedItem(sequence=1, reason="of tomorrow")]), "of tomorrow"),
        (BatchState(head=3, tail=2), "records 3 to 2 wait"),
        (BatchState(oldest=1, head=0, tail=2), "records 0 to 2 wait, but the chunks hold 1 to 2"),
    ],
)
def test_progress_that_makes_no_sense_fails_the_task_by_name(progress: BatchState, message: str) -> None:
    bench = Bench()
    bench.server.down = True
    bench.send(0, 1)
    (name,) = bench.harness.backend.values
    bench.harness.backend.values[name] = seal(progress.SerializeToString())
    bench.restart()
    with pytest.raises(StateDamagedError, match=message):
        bench.send(2)


@pytest.mark.parametrize("chunk", [b"", b"\xff\xff"])
def test_a_chunk_that_holds_no_records_fails_the_task_by_name(chunk: bytes) -> None:
    bench = Bench()
    bench.server.down = True
    bench.send(0)
    next(each for each in bench.harness.backend.maps.values() if each)[0] = seal(chunk)
    bench.restart()
    with pytest.raises(StateDamagedError, match="the chunk of waiting records that begins at 0 is damaged"):
        bench.send(1)


def test_progress_of_a_version_that_saved_no_end_is_read() -> None:
    bench = Bench()
    bench.server.down = True
    bench.send(0, 1)
    (name,) = bench.harness.backend.values
    saved = BatchState.FromString(unseal(bench.harness.backend.values[name], "it"))
    saved.ClearField("tail")
    bench.harness.backend.values[name] = seal(saved.SerializeToString())
    bench.restart()
    bench.server.down = False
    bench.harness.advance(1_000)
    assert bench.out == items(0, 1)
