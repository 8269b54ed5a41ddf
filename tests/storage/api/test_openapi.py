"""`docs/openapi.json` is what the app says of itself. After a change that is meant:

python -m tests.storage.api.test_openapi
"""

from __future__ import annotations

import json
from pathlib import Path

from prometheus_client import CollectorRegistry

from core.files import write_text
from storage.api.app import create_app
from storage.memory import MemoryStore

FILE = Path(__file__).parents[3] / "docs" / "openapi.json"

DEFAULT_MAX_PAGE = 1000


def described() -> str:
    app = create_app(MemoryStore(), DEFAULT_MAX_PAGE, CollectorRegistry())
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


def test_the_committed_description_is_current() -> None:
    assert FILE.read_text(encoding="utf-8") == described(), __doc__


if __name__ == "__main__":
    write_text(FILE, described())
