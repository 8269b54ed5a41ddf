"""Flink as an operator sees it: keyed state, timers, a runtime context, metrics; and a harness that drives a function.

Strict where Flink is: state can only be touched while a key is set, only bytes can be stored, a function must never
return None, and functions are pickled before they are opened if the test asks for it. Map state has no scans: none of
ours may need one. It can only tell whether it is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from pyflink.datastream import OutputTag

from operators.state_bytes import StateBytes
from tests.support.clock import FakeClock

BEGINNING_MS = -(2**63)


@dataclass
class Backend:
    """What survives a restart: keyed state as bytes, and timers."""

    values: dict[tuple[str, Any], bytes] = field(default_factory=dict)
    maps: dict[tuple[str, Any], dict[Any, bytes]] = field(default_factory=dict)
    timers: set[tuple[str, int, Any]] = field(default_factory=set)
    """(domain, time, key)"""
    key: Any = None
    working: bool = False

    def copy(self) -> Backend:
        """A checkpoint."""
        maps = {name: dict(entries) for name, entries in self.maps.items()}
        return Backend(dict(self.values), maps, set(self.timers))

    @contextmanager
    def on(self, key: Any) -> Iterator[None]:
        """Works on one key."""
        self.key, self.working = key, True
        try:
            yield
        finally:
            self.key, self.working = None, False

    def at(self, name: str) -> tuple[str, Any]:
        assert self.working, "keyed state was touched while no key was set"
        return name, self.key


class FakeValueState:
    """A value per key."""

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend, self._name = backend, name

    def value(self) -> Any:
        return self._backend.values.get(self._backend.at(self._name))

    def update(self, value: Any) -> None:
        assert isinstance(value, bytes)
        self._backend.values[self._backend.at(self._name)] = value

    def clear(self) -> None:
        self._backend.values.pop(self._backend.at(self._name), None)


class FakeMapState:
    """A map per key, read entry by entry."""

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend, self._name = backend, name

    def _map(self) -> dict[Any, bytes]:
        return self._backend.maps.setdefault(self._backend.at(self._name), {})

    def get(self, key: Any) -> Any:
        return self._map().get(key)

    def is_empty(self) -> bool:
        return not self._map()

    def put(self, key: Any, value: Any) -> None:
        assert isinstance(value, bytes)
        self._map()[key] = value

    def remove(self, key: Any) -> None:
        self._map().pop(key, None)


@dataclass
class FakeMetric:
    """A counter or a gauge that is set."""

    value: int = 0

    def inc(self, n: int = 1) -> None:
        assert isinstance(n, int)
        self.value += n

    def update(self, value: int) -> None:
        assert isinstance(value, int)
        self.value = value


@dataclass
class FakeMetricGroup:
    """Metrics by the name they would have in Prometheus: `neardup_bad_total{reason=empty}`."""

    metrics: dict[str, FakeMetric] = field(default_factory=dict)
    path: str = ""
    labels: str = ""

    def add_group(self, name: str, extra: str | None = None) -> FakeMetricGroup:
        if extra is None:
            return FakeMetricGroup(self.metrics, f"{self.path}{name}_", self.labels)
        return FakeMetricGroup(self.metrics, self.path, f"{{{name}={extra}}}")

    def counter(self, name: str) -> FakeMetric:
        return self.metrics.setdefault(f"{self.path}{name}{self.labels}", FakeMetric())

    def distribution(self, name: str) -> FakeMetric:
        return self.counter(name)


@dataclass
class FakeRuntimeContext:
    """What `open` gets."""

    backend: Backend = field(default_factory=Backend)
    group: FakeMetricGroup = field(default_factory=FakeMetricGroup)

    def get_state(self, descriptor: Any) -> FakeValueState:
        assert isinstance(descriptor.type_info, StateBytes)
        return FakeValueState(self.backend, descriptor.get_name())

    def get_map_state(self, descriptor: Any) -> FakeMapState:
        assert isinstance(descriptor.type_info._value_type_info, StateBytes)
        return FakeMapState(self.backend, descriptor.get_name())

    def get_metrics_group(self) -> FakeMetricGroup:
        return self.group

    def metric(self, name: str) -> int:
        """The value of one of our metrics, by its name and label: `bad_total{reason=empty}`."""
        return self.group.metrics[f"neardup_{name}"].value


class FakeContext:
    """What `process_element` and `on_timer` get, and the timer service in one."""

    def __init__(self, harness: Harness, timestamp: int | None) -> None:
        self._harness, self._timestamp = harness, timestamp

    def timer_service(self) -> FakeContext:
        return self

    def timestamp(self) -> int | None:
        return self._timestamp

    def get_current_key(self) -> Any:
        assert self._harness.backend.working
        return self._harness.backend.key

    def current_processing_time(self) -> int:
        return self._harness.clock()

    def current_watermark(self) -> int:
        return self._harness.watermark

    def register_processing_time_timer(self, timestamp: int) -> None:
        self._harness.register_processing_time_timer(timestamp, self.get_current_key())

    def delete_processing_time_timer(self, timestamp: int) -> None:
        self._harness.backend.timers.discard(("processing", timestamp, self.get_current_key()))

    def register_event_time_timer(self, timestamp: int) -> None:
        self._harness.backend.timers.add(("event", timestamp, self.get_current_key()))

    def delete_event_time_timer(self, timestamp: int) -> None:
        self._harness.backend.timers.discard(("event", timestamp, self.get_current_key()))


class Harness:
    """Drives one function: elements, the passing of time, restarts. Collects what comes out."""

    def __init__(self, function: Any, clock: FakeClock | None = None, backend: Backend | None = None) -> None:
        self.clock = clock or FakeClock()
        self.backend = backend or Backend()
        self.watermark = BEGINNING_MS
        self.main: list[Any] = []
        self.side: dict[str, list[Any]] = {}
        self.context = FakeRuntimeContext(self.backend)
        self.function = function
        function.open(self.context)

    def send(self, value: Any, key: Any = 0, timestamp: int | None = None, side: Literal[1, 2] | None = None) -> None:
        """One element; `side` names the input of a co-process function."""
        process = getattr(self.function, "process_element" + ("" if side is None else str(side)))
        self._run(lambda context: process(value, context), key, timestamp)

    def advance(self, ms: int) -> None:
        """Lets processing time pass, firing timers as it goes; time that a function sleeps passes too."""
        end_ms = self.clock() + ms
        while (due := self._next("processing", end_ms)) is not None:
            self.clock.advance(max(0, due[1] - self.clock()))
            self._fire(due)
        self.clock.advance(max(0, end_ms - self.clock()))

    def advance_watermark(self, to_ms: int) -> None:
        """Lets event time pass, firing timers."""
        self.watermark = max(self.watermark, to_ms)
        while (due := self._next("event", self.watermark)) is not None:
            self._fire(due)

    def restart(self, function: Any, checkpoint: Backend | None = None) -> Harness:
        """Another life of the task, on the state as it is or on a checkpoint of it; this harness is done with."""
        self.function.close()
        return Harness(function, self.clock, checkpoint or self.backend.copy())

    def timers(self, domain: str) -> list[int]:
        """Times of the timers that are set."""
        return sorted(time for kind, time, _ in self.backend.timers if kind == domain)

    def register_processing_time_timer(self, timestamp: int, key: Any) -> None:
        """Sets a timer."""
        self.backend.timers.add(("processing", timestamp, key))

    def _next(self, domain: str, until_ms: int) -> tuple[str, int, Any] | None:
        due = [timer for timer in self.backend.timers if timer[0] == domain and timer[1] <= until_ms]
        return min(due, key=lambda timer: timer[1], default=None)

    def _fire(self, timer: tuple[str, int, Any]) -> None:
        self.backend.timers.discard(timer)
        self._run(lambda context: self.function.on_timer(timer[1], context), timer[2], timer[1])

    def _run(self, call: Callable[[FakeContext], Any], key: Any, timestamp: int | None) -> None:
        with self.backend.on(key):
            outputs = call(FakeContext(self, timestamp))
            assert outputs is not None, "a function must never return None"
            for output in outputs:
                if isinstance(output, tuple) and isinstance(output[0], OutputTag):
                    self.side.setdefault(output[0].tag_id, []).append(output[1])
                else:
                    self.main.append(output)


class MailboxHarness(Harness):
    """A harness whose processing-time timers come through a mailbox, behind elements, as those of Flink do.

    Flink's `InternalTimerServiceImpl` keeps a queue of timers and schedules one wake-up, for the first of them. The
    wake-up puts a mail into the task's mailbox. The mail fires what is due, and schedules the next.
    """

    def __init__(self, function: Any, clock: FakeClock | None = None) -> None:
        self.scheduled: list[int] = []
        """When wake-ups come."""
        self._own: int | None = None
        """The wake-up that the timer service knows of, and could cancel."""
        super().__init__(function, clock)

    def register_processing_time_timer(self, timestamp: int, key: Any) -> None:
        before = self.timers("processing")
        super().register_processing_time_timer(timestamp, key)
        if timestamp not in before and (not before or timestamp < before[0]):
            if self._own in self.scheduled:
                self.scheduled.remove(self._own)
            self._schedule(timestamp)

    def wake(self) -> list[int]:
        """The timer thread: what is due becomes mails."""
        mails = [at for at in self.scheduled if at <= self.clock()]
        self.scheduled = [at for at in self.scheduled if at > self.clock()]
        return mails

    def deliver(self, mails: list[int]) -> None:
        """The task reads mails."""
        for at in mails:
            self._own = None
            while (due := self._next("processing", at)) is not None:
                self._fire(due)
            waiting = self.timers("processing")
            if waiting and self._own is None:
                self._schedule(waiting[0])

    def _schedule(self, timestamp: int) -> None:
        self.scheduled.append(timestamp)
        self._own = timestamp
