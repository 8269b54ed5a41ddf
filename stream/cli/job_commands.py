"""`neardup job`: the Flink job of a signal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.context import AsJson, SignalName, of
from stream.cli.logs import configure_server_logs
from stream.cli.output import line, note, show_json
from stream.cli.texts import job_text

if TYPE_CHECKING:
    from stream.job_control import JobControl
    from stream.settings import Settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Start, stop and watch the Flink job of a signal.")


@app.command()
def start(
    context: typer.Context,
    signal: SignalName = None,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss",
            help="Go on without records that Kafka deleted before they were read. They are counted, and named in "
            "the log and in `dead-letter`.",
        ),
    ] = False,
) -> None:
    """Submit the job unless it runs. It resumes from the newest complete savepoint or checkpoint.

    Example:

        neardup job start
    """
    control = _control(of(context).running(), signal)
    note("submitting, which takes about 15 s", style="dim")
    line(job_text(control.start(accept_loss=accept_loss)))


@app.command()
def stop(
    context: typer.Context,
    signal: SignalName = None,
    savepoint: Annotated[
        bool, typer.Option(help="Take a savepoint; a job whose topics are gone cannot, and stops only without one.")
    ] = True,
) -> None:
    """Stop the job with a savepoint, and leave it stopped until `job start`.

    Without a savepoint, the next start resumes from the newest checkpoint.

    Examples:

        neardup job stop

        neardup job stop --no-savepoint
    """
    control = _control(of(context).running(), signal)
    if savepoint:
        line(f"stopped, savepoint {control.stop()}")
    else:
        control.cancel()
        line("stopped without a savepoint")


@app.command()
def status(context: typer.Context, signal: SignalName = None, as_json: AsJson = False) -> None:
    """Show the state of the job, and its lag by topic.

    Example:

        neardup job status --json
    """
    control = _control(of(context).running(), signal)
    state, lag = control.state(), control.lag()
    if as_json:
        job = {"id": state.job_id, "state": state.state, "started_ms": state.started_ms} if state is not None else None
        show_json({"signal": control.name, "wanted": control.wanted, "job": job, "lag": lag})
        return
    line(job_text(state) + ("" if control.wanted else " (stopped by hand: `neardup job start` starts it)"))
    for topic, records in lag.items():
        line(f"{topic}: {records:,} behind")


@app.command()
def run(context: typer.Context, signal: SignalName = None) -> None:
    """Keep the job running until SIGTERM: submit it, watch it, submit it again if Flink loses it.

    The supervisor runs this command. The job itself runs on when it ends.

    Example:

        neardup job run --signal photos
    """
    from stream.job_watch import run as watch

    settings = of(context).settings()
    name, _ = settings.signal(signal)
    configure_server_logs(f"{name}-job")
    watch(settings, name)


@app.command("skip-damaged")
def skip_damaged(
    context: typer.Context,
    signal: SignalName = None,
    yes: Annotated[bool, typer.Option("--yes", help="Skip what was found, and submit the job again.")] = False,
) -> None:
    """Find records of the embedding topics that are damaged on the broker's disk, and go on behind them.

    Without --yes nothing is changed. Intact records before the damage are sent to their topic again. The damaged ones
    are counted as lost, and named in the log and in `dead-letter`.

    Examples:

        neardup job skip-damaged

        neardup job skip-damaged --yes
    """
    control = _control(of(context).running(), signal)
    damage = control.damage()
    for each in damage:
        line(f"{each.topic} partition {each.partition}: offsets {each.first} to {each.end - 1} cannot be read")
    if not damage:
        line("all records that the job has not read are intact")
    elif yes:
        line(job_text(control.skip(damage)))
    else:
        line("`neardup job skip-damaged --yes` goes on behind them")


def _control(settings: Settings, signal: str | None) -> JobControl:
    from stream.job_control import JobControl

    return JobControl(settings, settings.signal(signal)[0])
