"""What holds for every test."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup`, tests on the real parts run one after the other: together they need too much memory.

    First of all hooks: pytest-xdist reads the marks in a hook of its own.
    """
    for item in items:
        if item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.fixture(autouse=True)
def log_levels_as_before() -> Iterator[None]:
    """The command line sets the level of its process, which here is that of all later tests."""
    loggers = [logging.getLogger(name) for name in ("", "kafka", "httpx")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
