"""The README tells the truth: its commands exist, its files are there, its figures are those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from stream.cli.exits import Exit
from stream.cli.main import main

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = README.read_text(encoding="utf-8")

SECTIONS = ["The way of an image", "Quick start", "What the demo shows", "Use it on your data", "Folders", "Settings"]
SECTIONS += ["Operations", "Development"]


def shell_lines(text: str) -> list[str]:
    """Every line of the shell blocks, fenced or indented by four."""
    fenced = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    indented = re.findall(r"^ {4}((?:neardup|make|docker|python) .*)$", text, re.MULTILINE)
    return [line for line in fenced + indented if line.strip()]


def inline_commands(text: str) -> list[str]:
    """Commands of ours inside of sentences and tables."""
    return re.findall(r"`((?:\.venv/bin/)?neardup [a-z][^`]*|make [a-z]+(?: [A-Z]+=\d)?)`", text)


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
def test_every_command_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command.partition("|")[0])
    match words[0].removeprefix(".venv/bin/"), words[1:]:
        case "make", [target, *_]:
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        case "neardup", rest:
            known = _command_words(rest)
            assert main([*known, "--help"]) == Exit.OK
            shown = capsys.readouterr().out
            missing = [word for word in rest if word.startswith("--") and word not in shown]
            assert missing == []
        case "curl", [*_, url]:
            assert url.startswith("http://127.0.0.1:18080/v1/")
        case "docker", ["compose", *_]:
            assert (ROOT / "docker-compose.yml").is_file()
        case "python", ["-m", module, *_]:
            assert (ROOT / Path(*module.split("."))).with_suffix(".py").is_file() or module == "pytest"
        case other:
            pytest.fail(f"nobody knows how to check {other}")


def _command_words(words: list[str]) -> list[str]:
    """The words before the first option, and of these only those that name a command."""
    groups = {"index", "topics", "job", "serve", "tail"}
    return words[:2] if words[0] in groups else words[:1]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    top = "search|storage|operators|stream|tests|benchmarks|examples|deploy|jvm|docs"
    named = re.findall(rf"`((?:{top})/[\w./-]*|[\w.-]+\.(?:toml|yml|md))`", text)
    assert [name for name in named if not (ROOT / name).exists() and not (ROOT / "docs" / name).exists()] == []


def test_every_folder_of_the_tree_is_in_the_table() -> None:
    ours = {"search", "storage", "operators", "stream", "tests", "benchmarks", "examples", "deploy", "jvm", "docs"}
    assert {name for name in ours if f"`{name}/" not in TEXT} == set()


def test_every_exit_code_is_named() -> None:
    sentence = re.search(r"Commands end with (.*?)`--json`", TEXT, re.DOTALL)
    assert sentence is not None
    named = {int(number) for number in re.findall(r"\b(\d+) *\n?\(", sentence.group(1))}
    assert named == {code.value for code in Exit}


def test_the_number_of_sample_images_is_right() -> None:
    import pyarrow.parquet as pq

    rows = pq.read_metadata(ROOT / "examples/photos/photos.parquet").num_rows
    assert f"({rows:,} photographs" in TEXT


def test_the_address_of_the_api_is_the_default() -> None:
    from stream.settings import load_settings

    url = load_settings(ROOT / "neardup.toml").signals["photos"].api.url
    assert set(re.findall(r"http://127\.0\.0\.1:\d+", TEXT)) == {url}
