"""`neardup secrets`: the keys and the certificate of a deployment. No command prints a key."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

import typer

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
def renew(context: typer.Context) -> None:
    """Make a new certificate for Flink. Its processes use it from their next start.

    Example:

        neardup down && neardup secrets renew && neardup up
    """
    from stream.local.certificates import VALID_DAYS, ensure_certificate

    tls = ensure_certificate(of(context).settings(), least_days=math.inf)
    line(f"made {tls.pem}, valid for {VALID_DAYS} days: run `neardup down` and `neardup up`, so that all parts use it")


@app.command("list")
def list_(context: typer.Context) -> None:
    """Show the files of the keys, and when the certificate ends.

    Example:

        neardup secrets list
    """
    from stream.access import key_file
    from stream.flink_tls import flink_tls

    settings = of(context).settings()
    files = (
        ("the parts' own calls", key_file(settings, "parts")),
        ("reading", key_file(settings, "read")),
        ("writing", key_file(settings, "write")),
    )
    rows = [(use, str(file), "" if file.is_file() else "missing") for use, file in files]
    tls = flink_tls(settings)
    ends = "missing"
    if tls.there:
        until = datetime.fromtimestamp(tls.expires_s(), UTC)
        ends = f"until {until:%Y-%m-%d}, {tls.days_left(time.time()):.0f} days"
    table(("for", "file", ""), [*rows, ("Flink", str(tls.pem), ends)])
