"""The join of the two embeddings of an image: Flink's state and event-time timers around `operators.pairing`.

One timer per image id is kept, at the next instant at which a half expires, a paired version may be forgotten, or a
half has waited so long that it counts as late.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyflink.datastream import KeyedCoProcessFunction, RuntimeContext, TimerService
from pyflink.datastream.state import ValueStateDescriptor

from core.errors import SettingsError
from core.notifications import BadRecord, EmbeddingSpec, Half, decode, joined_record
from operators.metrics import JoinMetrics
from operators.outputs import DEAD_LETTERS
from operators.pairing import ArrivedHalf, JoinPolicy, Pair, PairingLogic, PairingState, Side, Unpaired
from operators.pairing_codec import decode_half, decode_state, encode_state
from operators.rows import record
from operators.state_bytes import StateBytes

__all__ = ["JoinFunction"]


class JoinFunction(KeyedCoProcessFunction):  # type: ignore[misc]
    """Bytes of halves in, rows (image id, joined record) out, dead letters of halves without a partner aside."""

    def __init__(
        self, policy: JoinPolicy, search_spec: EmbeddingSpec, score_spec: EmbeddingSpec, late_after_ms: int
    ) -> None:
        """Keeps settings.

        Args:
            policy: How long halves wait.
            search_spec: The embedding of the first input.
            score_spec: The embedding of the second input.
            late_after_ms: A half that waits longer is counted as late.

        Raises:
            SettingsError: Halves would expire before they are late.
        """
        if late_after_ms > policy.timeout_ms:
            raise SettingsError(f"late_after_ms ({late_after_ms}) must not exceed timeout_ms ({policy.timeout_ms})")
        self._policy = policy
        self._specs = {Side.SEARCH: search_spec, Side.SCORE: score_spec}
        self._late_after_ms = late_after_ms

    def open(self, runtime_context: RuntimeContext) -> None:
        """Called by Flink at the start of the task."""
        self._state = runtime_context.get_state(ValueStateDescriptor("pairing", StateBytes()))
        self._metrics = JoinMetrics(runtime_context)

    def process_element1(self, value: bytes, ctx: KeyedCoProcessFunction.Context) -> Sequence[Any]:
        """Takes a search half."""
        return self._on_half(decode_half(value), ctx)

    def process_element2(self, value: bytes, ctx: KeyedCoProcessFunction.Context) -> Sequence[Any]:
        """Takes a score half."""
        return self._on_half(decode_half(value), ctx)

    def on_timer(self, timestamp: int, ctx: KeyedCoProcessFunction.OnTimerContext) -> Sequence[Any]:
        """Counts late halves and expires those that waited too long."""
        before = self._load()
        logic = self._policy.build(before)
        self._metrics.late(sum(self._late_ms(w.deadline_ms) == timestamp for w in before.waiting))
        unpaired = logic.on_time(timestamp)
        self._save(before, logic, timestamp, ctx.timer_service(), fired_ms=timestamp)
        return self._dead_letters(ctx.get_current_key(), unpaired)

    def _on_half(self, half: ArrivedHalf, ctx: KeyedCoProcessFunction.Context) -> Sequence[Any]:
        timers = ctx.timer_service()
        now_ms = timers.current_watermark()
        before = self._load()
        logic = self._policy.build(before)
        result = logic.on_half(half, now_ms)
        if result.duplicate:
            self._metrics.duplicate()
            return ()
        self._save(before, logic, now_ms, timers)
        if result.pair is None:
            self._metrics.waits()
            return self._dead_letters(ctx.get_current_key(), result.unpaired) if result.unpaired else ()
        return self._joined(ctx.get_current_key(), result.pair)

    def _joined(self, image_id: str, pair: Pair) -> Sequence[Any]:
        halves = [self._decoded(half) for half in (pair.search, pair.score)]
        bad = next((half for half in halves if isinstance(half, BadRecord)), None)
        if bad is not None:  # a half that decode accepted under other settings
            return self._dead_letters(image_id, [Unpaired(pair.search, bad), Unpaired(pair.score, bad)])
        search_half, score_half = (half for half in halves if isinstance(half, Half))
        wait_ms = abs(pair.search.source.timestamp_ms - pair.score.source.timestamp_ms)
        self._metrics.joined(wait_ms / 1000)
        joined = joined_record(search_half, score_half, pair.search.source, pair.score.source)
        return [record(image_id.encode(), joined, pair.traceparent)]

    def _decoded(self, half: ArrivedHalf) -> Half | BadRecord:
        return decode(half.payload, self._specs[half.side])

    def _dead_letters(self, image_id: str, unpaired: Sequence[Unpaired]) -> Sequence[Any]:
        for each in unpaired:
            self._metrics.unpaired(each.bad.reason)
        return [
            (DEAD_LETTERS, record(image_id.encode(), each.dead_letter(), each.half.traceparent)) for each in unpaired
        ]

    def _load(self) -> PairingState:
        data = self._state.value()
        return PairingState() if data is None else decode_state(data)

    def _save(
        self,
        before: PairingState,
        logic: PairingLogic,
        now_ms: int,
        timers: TimerService,
        fired_ms: int | None = None,
    ) -> None:
        """Writes the state and moves the timer. The timer of `fired_ms` has just fired and is gone."""
        after = logic.state()
        if after is None:
            self._state.clear()
        else:
            self._state.update(encode_state(after))
        old_ms = self._wake_ms(before, now_ms) if fired_ms is None else None
        new_ms = self._wake_ms(after or PairingState(), now_ms)
        if old_ms == new_ms:
            return
        if old_ms is not None:
            timers.delete_event_time_timer(old_ms)
        if new_ms is not None:
            timers.register_event_time_timer(new_ms)

    def _wake_ms(self, state: PairingState, now_ms: int) -> int | None:
        wakes = [until_ms for _, until_ms in state.paired]
        for waiting in state.waiting:
            late_ms = self._late_ms(waiting.deadline_ms)
            wakes.append(late_ms if late_ms > now_ms else waiting.deadline_ms)
        return min(wakes, default=None)

    def _late_ms(self, deadline_ms: int) -> int:
        return deadline_ms - self._policy.timeout_ms + self._late_after_ms
