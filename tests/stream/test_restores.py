"""Which failures mean that a snapshot cannot be restored."""

from __future__ import annotations

import pytest

from stream.restores import fails_again, is_failed_restore


@pytest.mark.parametrize(
    "failure",
    [
        "java.lang.Exception: Exception while creating StreamOperatorStateContext.\n\tat org.apache",
        "Caused by: java.io.IOException: Could not restore keyed state backend for KeyedProcessOperator",
        "Caused by: java.lang.IllegalStateException: Failed to rollback to checkpoint/savepoint file:/x/chk-3",
        "JobInitializationException: Could not start the JobMaster.\nCaused by: java.io.EOFException\n\tat java.base",
        "pemja.core.PythonException: <class 'operators.sealed_state.StateDamagedError'>: the pairing state is damaged",
    ],
)
def test_failures_of_the_state(failure: str) -> None:
    assert is_failed_restore(failure)


@pytest.mark.parametrize(
    "failure",
    [
        "org.apache.kafka.common.errors.TimeoutException: Topic joined not present",
        "LogGapError: storage is at 7",
        "Exception while creating StreamOperatorStateContext.\nCaused by: java.io.IOException: No space left on device",
    ],
)
def test_other_failures(failure: str) -> None:
    assert not is_failed_restore(failure)


@pytest.mark.parametrize(
    ("minutes", "again"), [([], False), ([5], False), ([40, 5], False), ([40, 29], False), ([40, 31, 5], True)]
)
def test_a_job_fails_again_when_two_failures_lie_within_ten_minutes(minutes: list[int], again: bool) -> None:
    assert fails_again([60_000 * each for each in minutes]) == again
