"""`neardup model`: the versions of the classifier, and which one is served."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import line, note, show_json, table
from stream.cli.texts import time_text

if TYPE_CHECKING:
    from scoring.code_identity import CodeIdentity
    from scoring.model_folder import ModelFolder
    from scoring.serving.client import ScorerClient
    from stream.model_versions import Change, ModelVersion

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="List the versions of the classifier, and choose the one that is served.")

_DESCRIBE_S = 2.0
"""Deadline of one call to the scorer, in seconds."""

_NUMBERS = ("parameters", "precision", "recall", "accept", "head_accept", "adopt", "gate")

_COLUMNS = ("", "version", "made", "data", "parameters", "split", *_NUMBERS[1:])


@app.command("list")
def list_versions(context: typer.Context, signal: SignalName = None, as_json: AsJson = False) -> None:
    """List the versions: when each was made, its results and its thresholds. A star marks the served one.

    The last line says since when it is served, and which version was served before.

    Precision and recall are those at `accept`, on images of the split in the same row: `test` has images that training
    never saw; on `val`, training chose the thresholds. `data` is the start of the SHA-256 of the training data:
    versions with equal `data` were trained on the same file.

    Examples:

        neardup model list

        neardup model list --json
    """
    from stream.model_versions import kept_versions

    folder = _folder(context, signal)
    versions, since_ms = kept_versions(folder), folder.served_from_ms()
    served = [] if since_ms is None else folder.served_since()
    since = None if since_ms is None else time_text(since_ms)
    if as_json:
        about = {"folder": str(folder.folder), "served_since": since, "served_before": served[1:]}
        show_json({**about, "versions": [_json(one) for one in versions]})
        return
    if not versions:
        note(f"no model in {folder.folder}: `neardup train` makes one")
        return
    problems = ("problem",) if any(one.problem for one in versions) else ()
    table((*_COLUMNS, *problems), [_row(one)[: len(_COLUMNS) + len(problems)] for one in versions], right=_NUMBERS)
    if served:
        line(f"{served[0]} is served since {since}" + (f", before it {served[1]}" if len(served) > 1 else ""))


@app.command()
def use(
    context: typer.Context,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A version from `neardup model list`.")],
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Serve a version. A running scorer switches at once, without losing a request.

    The version's files are checked first. If the scorer cannot load the version, it goes on serving the old one.

    Example:

        neardup model use pair-7dd155a834
    """
    from stream.model_versions import change_served

    folder, codes, scorer = _parts(context, signal)
    with closing(scorer):
        _show(change_served(folder, version, codes, scorer), as_json)


@app.command()
def rollback(context: typer.Context, signal: SignalName = None, as_json: AsJson = False) -> None:
    """Serve the previous version again.

    Verdicts stay as they are. The last line says how to have those decided again that the other version gave.

    Example:

        neardup model rollback
    """
    from stream.model_versions import roll_back_served

    folder, codes, scorer = _parts(context, signal)
    since_ms = folder.served_from_ms()
    with closing(scorer):
        change = roll_back_served(folder, codes, scorer)
    _show(change, as_json)
    if since_ms is not None:
        of_signal = "" if signal is None else f"--signal {signal} "
        again = f"`neardup replay {of_signal}--since {time_text(since_ms)} --diff`"
        note(f"verdicts of {change.before} stay; to have them decided again: {again}")


def _folder(context: typer.Context, signal: str | None) -> ModelFolder:
    from scoring.model_folder import ModelFolder

    settings = of(context).running()
    return ModelFolder(settings.path(settings.signal(signal)[1].model))


def _parts(context: typer.Context, signal: str | None) -> tuple[ModelFolder, CodeIdentity, ScorerClient]:
    from core.access import Right
    from scoring.serving.client import ScorerClient
    from stream.access import credentials
    from stream.hashing import code_identity

    settings = of(context).running()
    chosen = settings.signal(signal)[1]
    server = chosen.scorer
    proof = credentials(settings, Right.READ)
    client = ScorerClient(server.address, _DESCRIBE_S, server.max_message_bytes, proof)
    return _folder(context, signal), code_identity(settings, chosen), client


def _show(change: Change, as_json: bool) -> None:
    if as_json:
        show_json(asdict(change))
        return
    where = "the scorer serves it" if change.confirmed else "no scorer is running; the next one to start will serve it"
    if change.before == change.now:
        line(f"{change.now} as before; {where}")
    else:
        line(f"{change.now} instead of {change.before or 'none'}; {where}")


def _json(one: ModelVersion) -> dict[str, Any]:
    values: dict[str, Any] = {"version": one.version, "served": one.served, "problem": one.problem or None}
    if one.card is not None:
        values |= {
            "exported_at": one.card.exported_at or None,
            "training_sha256": one.card.training_sha256 or None,
            "split": one.split or None,
            "precision": one.precision,
            "recall": one.recall,
            "bits": one.card.bits,
            "values": one.card.values,
            "parameters": one.card.parameters,
            "thresholds": asdict(one.card.thresholds),
            "gate": one.card.gate,
            "embedding": {"name": one.card.embedding_name, "version": one.card.embedding_version},
            "code_fingerprint": one.card.code_fingerprint,
            "metrics": dict(one.card.metrics),
        }
    return values


def _row(one: ModelVersion) -> tuple[object, ...]:
    mark = "*" if one.served else ""
    if one.card is None:
        return (mark, one.version, *("",) * (len(_COLUMNS) - 2), one.problem)
    limits = one.card.thresholds
    return (
        mark,
        one.version,
        one.card.exported_at[:10] or "unknown",
        one.card.training_sha256[:8],
        f"{one.card.parameters:,}",
        one.split,
        *(_number(value) for value in (one.precision, one.recall, limits.accept, limits.head_accept, limits.adopt)),
        "none" if one.card.gate is None else one.card.gate,
        "",
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
