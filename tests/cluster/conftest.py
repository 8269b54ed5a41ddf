"""One deployment, which takes most of a minute to start, for all tests that break nothing.

`test_faults` has its own. Its kills stop the broker for longer than the short timeout of the join here, so halves could
become dead letters. The tests of the shared deployment run last, so that it never runs beside another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.local.resolved import resolved_toml
from tests.support.bad_model import Texts, make_texts
from tests.support.stack import PHOTOS, ROOT, Stack, running, stack_settings
from tests.support.text_signal import TextSignal, make_text_signal
from tests.support.written_session import WrittenSession, commands_of

JOIN_TIMEOUT_S = 10.0
"""Short, so that a test can wait for halves to expire."""


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> TextSignal:
    """A second signal: text vectors of other dimensions, with a model of its own."""
    return make_text_signal(tmp_path_factory.mktemp("text"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of the shared deployment behind all others; both groups keep their order."""
    items.sort(key=lambda item: "stack" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, text: TextSignal) -> Iterator[Stack]:
    """A running deployment with every part of two signals."""
    settings = stack_settings(
        tmp_path_factory.mktemp("stack"),
        {"photos": PHOTOS, "text": text.settings},
        join={
            "timeout_s": JOIN_TIMEOUT_S,
            "alert_after_s": JOIN_TIMEOUT_S / 2,
            "idle_partition_s": 5.0,
            "out_of_orderness_s": 1.0,
        },
    )
    with running(settings) as stack:
        yield stack


@pytest.fixture
def session(request: pytest.FixtureRequest, stack: Stack, tmp_path: Path) -> Iterator[WrittenSession]:
    """The commands of the section of the operations page that the module names (`TITLE`), about the texts."""
    file = tmp_path / "neardup.toml"
    file.write_text(resolved_toml(stack.of("text").settings), encoding="utf-8")
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    with WrittenSession(commands_of(page, request.module.TITLE), file) as session:
        yield session


@pytest.fixture(scope="module")
def texts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Texts:
    """What is sent before, while and after a bad model serves. The module names ids and seed (`TEXTS`)."""
    prefix, seed = request.module.TEXTS
    return make_texts(tmp_path_factory.mktemp(prefix), prefix, seed)
