"""Writing to the terminal: results to standard output, everything else to standard error.

Text that comes from others (ids, names, messages) is never taken as markup, and never reaches the terminal with its
control characters: everything that is written here passes `stream.printable`.
"""

from __future__ import annotations

import json
import re
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from stream.cli.exits import Exit
from stream.printable import json_text, printable, printable_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.tree import Tree

    from stream.on_progress import OnProgress

__all__ = [
    "MOST_SHOWN",
    "complain",
    "counted",
    "line",
    "note",
    "notes",
    "progress_bar",
    "reader_gone",
    "show_first",
    "show_json",
    "show_json_with_list",
    "show_tree",
    "stages",
    "step_bars",
    "table",
    "working",
    "write_json_line",
]

_PIPE_WIDTH = 10_000
"""The width of a table in a file or a pipe, wide enough for any id."""


def line(text: str, *, flush: bool = False) -> None:
    """One line of a result; `flush` writes it at once, also into a pipe."""
    _write(printable(text), flush=flush)


def _write(text: str, *, flush: bool = False) -> None:
    """Text that is safe to show, and a line break."""
    sys.stdout.write(f"{text}\n")
    if flush:
        sys.stdout.flush()


def show_json(value: Any, *, indent: int | None = 2) -> None:
    """A result as JSON, exact: every character comes back when it is read."""
    _write(json_text(value, indent))


def write_json_line(text: str) -> None:
    """JSON of one line that somebody else wrote, at once, also into a pipe."""
    _write(printable_json(text), flush=True)


def show_json_with_list(about: dict[str, Any], name: str, items: Iterable[Any]) -> None:
    """A result as JSON whose last key is a list that may not fit into memory."""
    opening = json_text(about, 2).removesuffix("\n}")
    sys.stdout.write(f"{opening},\n  {json.dumps(name)}: [")
    separator = "\n"
    for item in items:
        sys.stdout.write(f"{separator}    {json_text(item)}")
        separator = ",\n"
    sys.stdout.write("\n  ]\n}\n" if separator == ",\n" else "]\n}\n")


def notes() -> Console:
    """The console for progress and notes, which are not results."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


MOST_SHOWN = 100
"""Texts of a long list that have a line."""


def show_first(texts: Iterable[str], count: int, hint: str = "") -> None:
    """The first texts of a list as lines of a result, then how many of `count` are left out, and the hint."""
    shown = list(islice(texts, MOST_SHOWN))
    for text in shown:
        line(text)
    if count > len(shown):
        line(f"and {count - len(shown):,} more{hint}")


def note(text: str, style: str = "") -> None:
    """One line that is not a result, on standard error."""
    notes().print(printable(text), style=style or None)


def complain(text: str, code: Exit) -> None:
    """An error: the first line in red, further lines plain."""
    # A message of several lines is ours; a line break in an id is harmless there.
    from rich.text import Text

    first, _, rest = text.partition("\n")
    console = notes()
    message = Text()
    message.append("error: ", style="bold red")
    message.append(printable(first), style="red")
    message.append(f" [{code.name.lower().replace('_', ' ')}, exit code {code.value}]", style="dim")
    console.print(message)
    if rest:
        console.print(Text("\n".join(map(printable, rest.split("\n")))))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """A result as a table; the columns named in `right` hold numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        shown.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in row))
    _results().print(shown)


def show_tree(shown: Tree) -> None:
    """A result as a tree. Its texts must be safe to show."""
    _results().print(shown)
    sys.stdout.flush()


def reader_gone() -> bool:
    """Whether the program that reads the output through a pipe has ended."""
    try:
        watched = select.poll()
        watched.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in watched.poll(0))
    except (OSError, ValueError):  # it is no file, or closed
        return False


def _results() -> Console:
    """The console for results."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        return console
    return Console(highlight=False, markup=False, emoji=False, width=_PIPE_WIDTH)


def progress_bar(*, time_left: bool = False) -> Progress:
    """A bar for work of a known size; `time_left` shows how long the rest takes at this pace."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        *((TextColumn("left"), TimeRemainingColumn()) if time_left else ()),
        console=notes(),
    )


@contextmanager
def step_bars(names: Mapping[str, str]) -> Iterator[OnProgress]:
    """A bar for each step of a work, once it has begun.

    Args:
        names: What is shown of each step.

    Yields:
        What shows one of these steps.
    """
    with progress_bar(time_left=True) as bars:
        tasks: dict[str, Any] = {}

        def tell(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(names[step], total=total, note="")
            bars.update(tasks[step], completed=done, total=total)

        yield tell


def stages() -> Callable[[str], None]:
    """What takes a text again and again, and notes it if more than its numbers has changed.

    It is silent on a terminal, where bars show the text. Elsewhere they appear once all is done.
    """
    last, silent = "", notes().is_terminal

    def tell(text: str) -> None:
        nonlocal last
        stage = _NUMBER.sub("", text)
        if not silent and stage != last:
            note(text)
        last = stage

    return tell


_NUMBER = re.compile(r"\d[\d,]*")


@contextmanager
def working(text: str) -> Iterator[None]:
    """Shows a note while something of unknown length goes on. It stands on a terminal alone."""
    console = notes()
    if not console.is_terminal:
        yield
        return
    with console.status(printable(text)):
        yield


def counted(number: int, one: str, many: str = "") -> str:
    """A number and its noun: "1 image", "2 images"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
