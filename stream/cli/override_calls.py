"""What all commands that say overrides share: the call, and how its answer is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import typer

from core.errors import BadInputError, NeardupError, RefusedError, UnavailableError
from stream.cli.context import of
from stream.cli.output import counted, line, note, show_json, table, working

if TYPE_CHECKING:
    from core.overrides import OverrideOutcome, OverrideRequest, Rollback
    from storage.serving.client import StorageClient

__all__ = ["rollback_text", "said", "say", "storage_client", "told"]

CALL_S = 30.0
"""The deadline of a call, in seconds."""

MOVING_S = 600.0
"""The deadline of an override, in seconds: it may move a million images."""


@contextmanager
def storage_client(context: typer.Context, signal: str | None, *, writes: bool) -> Iterator[StorageClient]:
    """A client of the storage server, with the key that the command needs."""
    from core.access import Right
    from storage.serving.client import StorageClient
    from stream.access import credentials

    settings = of(context).running()
    server = settings.signal(signal)[1].storage
    proof = credentials(settings, Right.WRITE if writes else Right.READ)
    with closing(StorageClient(server.address, CALL_S, server.max_message_bytes, proof)) as storage:
        yield storage


def say(context: typer.Context, signal: str | None, request: OverrideRequest, *, dry_run: bool, as_json: bool) -> None:
    """Says an override, and tells what it moved, or would move.

    Raises:
        BadInputError: The server refuses it.
        ConflictError: Another override says the contrary.
        UnavailableError: The server is down, too slow or cannot write.
    """
    with storage_client(context, signal, writes=True) as storage:
        with working("finding what would move" if dry_run else "moving the images: a million of them take minutes"):
            outcome = said(storage, request, dry_run=dry_run)
        stands = dry_run and bool(storage.overrides(outcome.override.number - 1, 1))
        moving = _moving(storage, outcome.override.number) if outcome.created and outcome.moves else None
    if as_json:
        from storage.api.override_schemas import OverrideOutcomeOut

        show_json(OverrideOutcomeOut.of(outcome).model_dump())
    elif stands or not dry_run:
        line(told(outcome, moving=moving))
    else:
        _show_trial(outcome)


def rollback_text(rollback: Rollback) -> str:
    """What a rollback goes back to, in one line."""
    where = rollback.where
    parts = [f"to {_point_text(*rollback.to)}"]
    if rollback.since > rollback.to:
        parts.append(f"changes after {_point_text(*rollback.since)}")
    if rollback.until is not None:
        parts.append(f"changes up to {_point_text(*rollback.until)}")
    if rollback.of:
        parts.append(f"changes by the override {rollback.of}")
    given = (("model", where.model), ("head", where.head), ("cause", where.cause))
    named = " ".join(f"{name}={value}" for name, value in given if value is not None)
    return ", ".join([*parts, *([f"where {named}"] if named else []), f"new: {rollback.new}"])


def _point_text(position: int, override: int) -> str:
    order = f"position {position}" if position >= 0 else "the beginning"
    return f"{order} and override {override}" if override else order


def said(storage: StorageClient, request: OverrideRequest, *, dry_run: bool) -> OverrideOutcome:
    """Says an override.

    Raises:
        BadInputError: The server refuses it.
        ConflictError: Another override says the contrary.
        UnavailableError: The server is down, too slow or cannot write.
    """
    from core.overrides import OverrideKind

    try:
        return storage.override(request, dry_run, MOVING_S)
    except RefusedError as error:
        # What the server refuses, the user has given.
        raise BadInputError(str(error)) from None
    except UnavailableError as error:
        if request.kind is not OverrideKind.ROLLBACK or dry_run:
            raise
        # Any other override may be said again.
        hint = "`neardup override list` tells whether it was said; given again, it is said twice"
        raise UnavailableError(f"{error}\n{hint}") from error


def _show_trial(outcome: OverrideOutcome) -> None:
    """What would move."""
    if outcome.moves:
        table(("image", "from", "to"), [(each.image_id, each.old_head, each.new_head) for each in outcome.moves])
    if outcome.unlisted:
        note(f"and {counted(outcome.unlisted, 'other image')}")
    note(f"nothing was written: {counted(_moved(outcome), 'image')} would move")


def _moving(storage: StorageClient, number: int) -> int | None:
    """The number of the bulk move under way of an override; None: it is none."""
    from storage.bulk.operations import OperationState

    with suppress(NeardupError):  # the override is said, whatever comes now
        found = storage.operation_of_override(number)
        return found.number if found is not None and found.state is not OperationState.DONE else None
    return None


def told(outcome: OverrideOutcome, *, moving: int | None) -> str:
    """What was done, in one line.

    Args:
        outcome: What the server answered.
        moving: The number of its bulk move under way; None: there is none.
    """
    from core.overrides import NewImages, OverrideKind

    override = outcome.override
    moved = f"{counted(_moved(outcome), 'image')} moved"
    if moving is not None:
        moved += f"; their records are rewritten: `neardup operations show {moving}`"
    if not outcome.created:
        return f"override {override.number} says so already: nothing was written"
    if override.kind is OverrideKind.ROLLBACK and override.rollback is not None:
        keep = override.rollback.new is NewImages.KEEP
        new = "new images keep their heads" if keep else "new images are queued to be decided again"
        return f"override {override.number}: {moved}; {new}; `neardup override undo {override.number}` takes it back"
    if override.kind is OverrideKind.UNDO:
        undone = f"override {override.number}: {override.undoes} is undone, {moved}"
        again = "the affected images are queued to be decided again"
        return undone if override.rollback is not None else f"{undone}; {again}"
    return f"override {override.number}: {moved}"


def _moved(outcome: OverrideOutcome) -> int:
    return len(outcome.moves) + outcome.unlisted
