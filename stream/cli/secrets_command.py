"""`neardup secrets`: the keys and the certificate of a deployment. No command prints a key."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from core.errors import MismatchError
from stream.cli.context import of
from stream.cli.output import line, table

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make the keys and certificates of a deployment, and tell where they are.")


@app.command()
def make(context: typer.Context) -> None:
    """Make the keys and the certificate that are missing. `neardup up` does the same.

    Example:

        neardup secrets make
    """
    from stream.access import make_keys
    from stream.local.certificates import ensure_certificate

    settings = of(context).settings()
    for file in make_keys(settings):
        line(f"made {file}")
    line(f"Flink's certificate is {ensure_certificate(settings).pem}")


@app.command()
def add(
    context: typer.Context,
    owner: Annotated[str, typer.Argument(metavar="NAME", help="Of a person or a program.")],
) -> None:
    """Make a key for writing that belongs to somebody: what is written with it over HTTP has NAME as its author.

    The servers know it from their next start on. To end it, remove its file and start them again.

    Example:

        neardup secrets add moderation
    """
    from stream.access import add_owner

    line(f"made {add_owner(of(context).settings(), owner)}: known from the next start of the servers on")


@app.command()
def renew(context: typer.Context) -> None:
    """Make a new certificate for Flink. Its processes read it at their start, so it is refused while they run.

    Example:

        neardup down && neardup secrets renew && neardup up
    """
    from stream.data_folders import runs
    from stream.local.certificates import VALID_DAYS, renew_certificate
    from stream.local.parts import part_checks

    settings = of(context).settings()
    if runs(settings) or part_checks(settings)["jobmanager"]() is None:
        raise MismatchError(
            "Flink runs, and would no longer accept its callers: run `neardup down` first"
            " (containers: `docker compose down`)"
        )
    tls = renew_certificate(settings)
    line(f"made {tls.pem}, valid for {VALID_DAYS} days: `neardup up` starts all parts with it")


@app.command("list")
def list_(context: typer.Context) -> None:
    """Show the files of the keys, and when each certificate ends.

    Example:

        neardup secrets list
    """
    from stream.access import key_file, owned_keys
    from stream.certificate_files import certificate_files

    settings = of(context).settings()
    files = (
        ("the parts' own calls", key_file(settings, "parts")),
        ("reading", key_file(settings, "read")),
        ("writing", key_file(settings, "write")),
        *((f"writing, by {owner}", file) for owner, file in owned_keys(settings).items()),
    )
    rows = [(use, str(file), "" if file.is_file() else "missing") for use, file in files]
    rows += [(each.name, str(each.file), each.validity(time.time())) for each in certificate_files(settings)]
    table(("for", "file", ""), rows)
