"""The page on extending shows every example as it is, each short, and its own code runs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import httpx
import pytest

import neardup.client
from tests.support.shown_files import shown, with_files

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "extending.md"
EXAMPLES = sorted((ROOT / "examples" / "extending").glob("*.py"))


def test_the_page_shows_every_file_as_it_is() -> None:
    assert sorted(shown(PAGE)) == EXAMPLES
    assert PAGE.read_text(encoding="utf-8") == with_files(PAGE), (
        "python -m tests.support.shown_files docs/extending.md writes the files into the page"
    )


def lines_of_code(source: str) -> int:
    """Lines that are neither blank nor comments nor docstrings."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            texts.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and n not in texts for n, line in lines)


def test_lines_are_counted() -> None:
    assert lines_of_code('"""A\nB"""\n\n# c\nx = 1\n\ndef f():\n    """D"""\n    return x\n') == 3


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_short(path: Path) -> None:
    assert lines_of_code(path.read_text(encoding="utf-8")) < 30


@pytest.mark.parametrize(
    ("image", "printed"),
    [
        (
            httpx.Response(
                200,
                json={
                    "image_id": "b",
                    "head": "a",
                    "score": 0.9,
                    "matched": "a",
                    "cause": "matched",
                    "place": 1,
                    "decided_at": "2026-01-01T00:00:00.000Z",
                    "version": 1,
                    "versions": {"model": "m", "index": "i"},
                    "truncated": False,
                },
            ),
            "a 0.9 matched\na\nb\n",
        ),
        (httpx.Response(404, json={"message": "unknown"}), "not seen yet, or still on its way\n"),
    ],
)
def test_the_client_of_the_page_runs(
    image: httpx.Response, printed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def service(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/similar"):
            page = {"image_id": "b", "head": "a", "count": 2, "members": ["a", "b"], "next_page_token": None}
            return httpx.Response(200, json=page)
        return image

    http = httpx.Client(transport=httpx.MockTransport(service))
    monkeypatch.setattr(neardup.client.httpx, "Client", lambda **_: http)
    section = PAGE.read_text(encoding="utf-8").partition("## A client of the HTTP API")[2]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    exec(compile(found[1], str(PAGE), "exec"), {})
    assert capsys.readouterr().out == printed
