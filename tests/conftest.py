"""What holds for every test."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# No property fails because the machine is busy.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(autouse=True)
def log_levels_as_before() -> Iterator[None]:
    """The command line sets the level of its process, which here is that of all later tests."""
    loggers = [logging.getLogger(name) for name in ("", "kafka", "httpx")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """Moto's S3 server, one for all tests of a process; see `tests.support.moto_s3`."""
    from tests.support.moto_s3 import moto_server

    with moto_server() as url:
        yield url
