"""The README tells the truth: its commands exist, its files are there, its figures are those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from stream.cli.exits import Exit

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
OTHERS = (ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md")
DOCUMENTS = [README, *OTHERS, *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = README.read_text(encoding="utf-8")

SECTIONS = ["Figures", "Try it", "How it works", "Use it on your data", "Limits", "Operate it"]


def shell_lines(text: str) -> list[str]:
    """Every line of the shell blocks, fenced or indented by four."""
    fenced = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    indented = re.findall(r"^ {4}((?:neardup|make|docker|python) .*)$", text, re.MULTILINE)
    return [line for line in fenced + indented if line.strip()]


def inline_commands(text: str) -> list[str]:
    """Targets of make inside of sentences and tables."""
    return re.findall(r"`(make [a-z]+(?: [A-Z]+=\d)?)`", text)


COMMANDS = sorted(
    {
        line
        for path in DOCUMENTS
        for text in [path.read_text(encoding="utf-8")]
        for line in shell_lines(text) + inline_commands(text)
    }
)


def test_sections_are_there_in_their_order() -> None:
    assert re.findall(r"^## (.*)$", TEXT, re.MULTILINE) == SECTIONS


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_exists(command: str) -> None:
    words = shlex.split(command.partition("|")[0])
    match words[0].removeprefix(".venv/bin/"), words[1:]:
        case "make", [target, *_]:
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        case "neardup", _:
            pass  # tests/docs/test_commands.py checks more
        case "curl", [*_, url]:
            assert url.startswith("http://127.0.0.1:18080/v1/")
        case "python", [script, *_] if script.endswith(".py"):
            assert (ROOT / script).is_file() or [*(ROOT / "examples").rglob(script)]
        case "docker", ["compose", *_]:
            assert (ROOT / "docker-compose.yml").is_file()
        case "python", ["-m", module, *_]:
            assert (ROOT / Path(*module.split("."))).with_suffix(".py").is_file() or module == "pytest"
        case other:
            pytest.fail(f"nobody knows how to check {other}")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    top = "core|search|scoring|clustering|storage|operators|training|stream|tests|benchmarks|examples|deploy|jvm|docs"
    named = re.findall(rf"`((?:{top})/[\w./-]*|[\w.-]+\.(?:toml|yml|md))`", text)
    assert [name for name in named if not (ROOT / name).exists() and not (ROOT / "docs" / name).exists()] == []


def test_it_is_short_enough_to_be_read() -> None:
    assert len(TEXT.splitlines()) < 170


def figures(document: str) -> set[str]:
    """All numbers of a document, without signs that only set them off."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    return set(re.findall(r"\d[\d,]*(?:\.\d+)?", text))


@pytest.mark.parametrize(("title", "document"), [("Quality", "quality.md"), ("Search", "benchmarks.md")])
def test_every_figure_of_a_table_stands_in_the_document_it_is_from(title: str, document: str) -> None:
    section = re.search(rf"^\*\*{title}\.\*\*.*?\n\n(.*?)\n\n", TEXT, re.MULTILINE | re.DOTALL)
    assert section is not None
    rows = re.findall(r"^\| \*{0,2}[a-zA-Z].*$", section.group(1), re.MULTILINE)[1:]
    cells = {cell.strip(" *") for row in rows for cell in row.split("|")}
    numbers = {cell for cell in cells if re.fullmatch(r"[\d,.]+", cell)}
    assert len(numbers) >= 11
    rounded = {"73", "39"}
    assert numbers - figures(document) - rounded == set()


def test_every_exit_code_is_named() -> None:
    sentence = re.search(r"Commands end with (.*?)`--json`", TEXT, re.DOTALL)
    assert sentence is not None
    named = {int(number) for number in re.findall(r"\b(\d+) *\n?\(", sentence.group(1))}
    assert named == {code.value for code in Exit}


def test_the_number_of_images_of_the_demo_is_right() -> None:
    import pyarrow.parquet as pq

    from stream.demo.sample import PICTURES, SAMPLE

    rows = sum(pq.read_metadata(ROOT / file).num_rows for file in (SAMPLE, PICTURES))
    assert f"sends {rows:,} photographs" in TEXT
    assert f"images in         {rows:,}, " in TEXT


def test_the_answer_that_it_shows_is_of_the_form_that_the_api_gives() -> None:
    import json

    from storage.api import schemas

    shown = re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert shown is not None
    assert json.loads(shown.group(1)).keys() == schemas.ImageOut.model_fields.keys()


def test_the_address_of_the_api_is_the_default() -> None:
    from stream.access import api_url
    from stream.settings import load_settings

    url = api_url(load_settings(ROOT / "neardup.toml"), "photos")
    assert set(re.findall(r"http://127\.0\.0\.1:\d+", TEXT)) == {url}
