"""`neardup alias`: names under which readers find one signal or another."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import UnavailableError
from stream.cli.context import AsJson, of
from stream.cli.output import line, note, show_json, table
from stream.cli.texts import time_text

if TYPE_CHECKING:
    from core.aliases import Alias, SignalPlace
    from stream.settings import Settings

__all__ = ["app"]

Name = Annotated[str, typer.Argument(metavar="NAME", help="The alias.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the alias.")]
Author = Annotated[str, typer.Option(metavar="NAME", help="Who; without it the user of this machine.")]
Force = Annotated[bool, typer.Option("--force", help="Also if the signal's job does not run, or lags.")]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _alias() -> None:
    """Switch readers from one signal to another, and back, while they change nothing.

    Readers ask the HTTP API of any signal for /v1/aliases/NAME/..., or follow the topic of aliases. The commands that
    write need the write key. They switch the readers of the API first, then they tell Kafka.
    """


@app.command("set")
def set_command(
    context: typer.Context,
    name: Name,
    signal: Annotated[str, typer.Argument(metavar="SIGNAL", help="The signal that it names from now on.")],
    expect: Annotated[
        str | None, typer.Option(metavar="SIGNAL", help="Only if it names this signal now, else nothing is changed.")
    ] = None,
    reason: Reason = "",
    author: Author = "",
    force: Force = False,
) -> None:
    """Make an alias name a signal: a new alias, or one that names another signal so far.

    Given again, it changes nothing, and tells Kafka again.

    Examples:

        neardup alias set live photos

        neardup alias set live photos --expect old --reason "loaded and compared"
    """
    from core.aliases import Alias
    from stream.aliases import check_free, listed_aliases, set_alias
    from stream.requests import user_name

    settings = of(context).running()
    check_free(settings, name)
    wanted = Alias(settings.signal(signal)[0], _now_ms(), author or user_name(), reason)
    now = listed_aliases(settings).get(name)
    if now is None or now.signal != signal:
        _require_ready(settings, signal, force=force)
    with _ended_by(name, f"neardup alias set {name} {signal}"):
        _tell(name, set_alias(settings, name, wanted, expect))


@app.command("list")
def list_command(context: typer.Context, as_json: AsJson = False) -> None:
    """List the aliases: which signal each names, since when, and who said so.

    Examples:

        neardup alias list

        neardup alias list --json | jq -r '.[] | select(.name == "live") | .api'
    """
    from stream.alias_places import signal_places
    from stream.aliases import listed_aliases

    settings = of(context).running()
    found, places = listed_aliases(settings), signal_places(settings)
    if as_json:
        show_json([_json(name, alias, places.get(alias.signal)) for name, alias in found.items()])
    elif found:
        table(
            ("alias", "signal", "since", "before", "author", "reason"),
            [
                (name, each.signal, time_text(each.since_ms), each.previous, each.author, each.reason)
                for name, each in found.items()
            ],
        )
    else:
        note("no alias")


@app.command()
def back(context: typer.Context, name: Name, reason: Reason = "", author: Author = "", force: Force = False) -> None:
    """Make an alias name the signal that it named before. Given twice, readers are where they were.

    If it was stopped before its end, look with `neardup alias list` first: readers may be back already, and
    `neardup alias set` with the same signal does the rest.

    Examples:

        neardup alias back live --reason "fewer copies are found"
    """
    from stream.aliases import known_alias, listed_aliases, move_back
    from stream.requests import user_name

    settings = of(context).running()
    before = known_alias(listed_aliases(settings), name).previous
    if before is not None:
        _require_ready(settings, settings.signal(before)[0], force=force)
    with _ended_by(name, f"neardup alias set {name} {before}"):
        _tell(name, move_back(settings, name, _now_ms(), author or user_name(), reason))


@app.command()
def drop(
    context: typer.Context,
    name: Name,
    again: Annotated[
        bool, typer.Option("--again", help="Also if there is no such alias any more: Kafka is told again.")
    ] = False,
) -> None:
    """End an alias. Readers that still use it get 404.

    Examples:

        neardup alias drop live
    """
    from stream.aliases import drop_alias

    with _ended_by(name, f"neardup alias drop {name} --again"):
        drop_alias(of(context).running(), name, again=again)
    line(f"there is no alias {name} any more")


@contextmanager
def _ended_by(name: str, command: str) -> Iterator[None]:
    """Says what does the rest, if the block is stopped: readers of Kafka may be left behind."""
    from stream.interrupts import interruptible

    try:
        with interruptible():
            yield
    except KeyboardInterrupt:
        note(f"`neardup alias list` shows whether {name} was changed; if it was, `{command}` tells Kafka too")
        raise


def _require_ready(settings: Settings, signal: str, *, force: bool) -> None:
    """Refuses a signal that is not ready for readers, unless it is forced.

    Raises:
        UnavailableError: Its job does not run, or lags.
    """
    from stream.alias_target import doubts

    if force:
        return
    found = doubts(settings, signal)
    if found:
        raise UnavailableError(
            f"the signal {signal} is not ready for readers: {'; '.join(found)}\n--force sends them there all the same"
        )


def _tell(name: str, alias: Alias) -> None:
    before = f"; `neardup alias back {name}` goes back to {alias.previous}" if alias.previous is not None else ""
    line(f"the alias {name} names {alias.signal} since {time_text(alias.since_ms)}{before}")


def _json(name: str, alias: Alias, place: SignalPlace | None) -> dict[str, Any]:
    """As the HTTP API has it."""
    from storage.api.alias_schemas import AliasOut

    return AliasOut.of(name, alias, place).model_dump()


def _now_ms() -> int:
    return time.time_ns() // 10**6
