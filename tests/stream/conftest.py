"""What several modules use."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from stream.local.certificates import ensure_certificate
from stream.local.flink_home import flink_environment, prepare_flink
from stream.settings import Settings
from tests.support.stack import stack_settings


@pytest.fixture(scope="module")
def flink_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings with a Flink home, which this process' JVM is started from."""
    settings = stack_settings(tmp_path_factory.mktemp("job"))
    ensure_certificate(settings)
    prepare_flink(settings)
    before = dict(os.environ)
    os.environ.update(flink_environment(settings))
    yield settings
    os.environ.clear()
    os.environ.update(before)
