"""The scorer benchmark's turns, medians and goals. `make bench-scorer` runs it."""

from __future__ import annotations

from collections import defaultdict

from benchmarks.scorer import alternate, measurements
from benchmarks.scorer_models import Product, work_per_pair

TITLES = {name: name for name in ("large", "compact", "served")}


def test_measurements_take_turns() -> None:
    order: list[str] = []

    def turn(name: str) -> dict[str, float]:
        order.append(name)
        return {name: float(len(order))}

    found = alternate([lambda: turn("a"), lambda: turn("b")], 3)
    assert "".join(order) == "ababab"
    assert found == {"a": [1.0, 3.0, 5.0], "b": [2.0, 4.0, 6.0]}


def test_the_table_has_medians_with_the_lowest_and_highest() -> None:
    found = defaultdict(lambda: [1.0]) | {"compact": [400_000.0, 900_000.0, 500_000.0], "half p99": [20.0, 99.0, 25.0]}
    lines = {one.what: one for one in measurements(found, TITLES)}
    compact = lines["compact, in process"]
    assert (compact.value, compact.low, compact.high, compact.met) == (500_000.0, 400_000.0, 900_000.0, True)
    assert lines["100 pairs at half load, p99"].met is False
    assert lines["served, in process"].met is False
    assert lines["half load of 100 pairs"].met is None


def test_work_counts_multiplications_and_additions() -> None:
    assert work_per_pair([Product(512, 128, late=False), Product(128, 1, late=True)]) == 2 * (512 * 128 + 128)
