"""`neardup operations`: bulk moves, how far each is, and what steers them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import BadInputError, RefusedError
from stream.cli.context import AsJson, SignalName
from stream.cli.nested import show_nested
from stream.cli.output import line, note, progress_bar, show_json, show_json_with_list, table
from stream.cli.override_calls import storage_client
from stream.cli.texts import duration_text, time_text
from stream.errors import NotKnownError

if TYPE_CHECKING:
    from storage.bulk.operations import Operation
    from storage.operation_pages import ListedOperation
    from storage.serving.client import StorageClient

__all__ = ["app"]

_PAGE = 1000

WAIT_S = 0.5
"""Between two looks at a bulk move that is waited for, in seconds."""

_COLUMNS = ("number", "kind", "of", "state", "progress", "rate", "left", "started")

Number = Annotated[int, typer.Argument(metavar="NUMBER", min=1, max=2**63 - 1, help="The number of the bulk move.")]

app = typer.Typer(no_args_is_help=True, help="See how far bulk moves are; pause, resume or cancel them.")


@app.callback()
def _operations() -> None:
    """See how far bulk moves are; pause, resume or cancel them.

    An override that moves more than 10,000 images is a bulk move, and so is to forget the head of so many. From one
    moment on all readers see the whole of it; its records are rewritten afterwards, bit by bit, while the stream goes
    on. The commands that steer it need the write key.
    """


@app.command("list")
def list_command(
    context: typer.Context,
    after: Annotated[
        int, typer.Option(metavar="N", min=0, max=2**63 - 1, help="Only bulk moves with higher numbers.")
    ] = 0,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """List bulk moves by number: those that are over, the one under way, and the one that is planned.

    Examples:

        neardup operations list

        neardup operations list --json | jq '.operations[] | select(.state != "done")'
    """
    with storage_client(context, signal, writes=False) as storage:
        found = _all(storage, after)
        if as_json:
            show_json_with_list({"after": after}, "operations", map(_json, found))
            return
        now_ms = _now_ms()
        rows = [tuple(_shown(each, now_ms)[column] for column in _COLUMNS) for each in found]
    if rows:
        table(_COLUMNS, rows, right=("number",))
    else:
        note("no bulk move")


@app.command("show")
def show_command(
    context: typer.Context,
    number: Number,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all its records are rewritten.")] = False,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Show one bulk move: how far it is, how fast it goes on, and how long the rest takes at this rate.

    With --wait a progress bar is shown until it is over. Ctrl-C ends the waiting, and the bulk move goes on.

    Examples:

        neardup operations show 17

        neardup operations show 17 --wait

        neardup operations show 17 --json
    """
    with storage_client(context, signal, writes=False) as storage:
        found = _waited(storage, number) if wait else _known(storage, number)
    if as_json:
        show_json(_json(found))
    else:
        show_nested(_shown(found, _now_ms()))


@app.command()
def pause(context: typer.Context, number: Number, signal: SignalName = None, as_json: AsJson = False) -> None:
    """Let the rewriting of a bulk move rest. All readers see the whole move all the same.

    Until it is over, no other bulk move and no rollback begins.

    Examples:

        neardup operations pause 17
    """
    with _steering(context, signal) as storage:
        storage.pause_operation(number, rests=True)
        found = _known(storage, number)
    if as_json:
        show_json(_json(found))
    else:
        line(f"bulk move {number} rests at {_progress(found.operation)}: `neardup operations resume {number}` goes on")


@app.command()
def resume(context: typer.Context, number: Number, signal: SignalName = None, as_json: AsJson = False) -> None:
    """Go on with the rewriting of a bulk move that rests.

    Examples:

        neardup operations resume 17
    """
    with _steering(context, signal) as storage:
        storage.pause_operation(number, rests=False)
        found = _known(storage, number)
    if as_json:
        show_json(_json(found))
    else:
        line(f"bulk move {number} goes on from {_progress(found.operation)}")


@app.command()
def cancel(context: typer.Context, number: Number, signal: SignalName = None, as_json: AsJson = False) -> None:
    """End the planning of a bulk move: nothing moves, and no override is kept.

    One that has begun is seen by everybody. `neardup override undo` ends its override. A forget cannot be cancelled.

    Examples:

        neardup operations cancel 17
    """
    with _steering(context, signal) as storage:
        found = _known(storage, number)
        storage.cancel_operation(number)
    if as_json:
        show_json(_json(found))
    else:
        line(f"bulk move {number} is cancelled: nothing has moved")


@contextmanager
def _steering(context: typer.Context, signal: str | None) -> Iterator[StorageClient]:
    """A client with the write key.

    Raises:
        BadInputError: The server refuses what is asked: the bulk move is in another state.
    """
    with storage_client(context, signal, writes=True) as storage:
        try:
            yield storage
        except RefusedError as error:
            # What the server refuses, the user has given.
            raise BadInputError(str(error)) from None


def _all(storage: StorageClient, after: int) -> Iterator[ListedOperation]:
    """All bulk moves with higher numbers, read page by page."""
    while True:
        page = storage.operations(after, _PAGE)
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].operation.number


def _known(storage: StorageClient, number: int) -> ListedOperation:
    """The bulk move with this number.

    Raises:
        NotKnownError: There is none.
    """
    found = storage.operation(number)
    if found is None:
        raise NotKnownError(f"there is no bulk move {number}: `neardup operations list` has those that there are")
    return found


def _waited(storage: StorageClient, number: int) -> ListedOperation:
    """The same once it is over, with a progress bar meanwhile.

    Raises:
        NotKnownError: There is none, or its planning ended.
    """
    from storage.bulk.operations import OperationState
    from stream.interrupts import interruptible

    found: ListedOperation | None = _known(storage, number)
    with interruptible(), progress_bar(time_left=True) as bar:
        task = bar.add_task("rewriting", total=None, note="")
        while found is not None:
            operation = found.operation
            if operation.state is OperationState.PLANNING:
                bar.update(task, completed=operation.total, note="planned")
            else:
                bar.update(task, completed=operation.moved, total=operation.total, note=operation.state)
            if operation.state is OperationState.DONE:
                return found
            time.sleep(WAIT_S)
            found = storage.operation(number)
    raise NotKnownError(
        f"the bulk move {number} is planned no more: it was cancelled, or the stream has met it and it has another "
        f"number now\n`neardup operations list` has it then"
    )


def _json(listed: ListedOperation) -> dict[str, Any]:
    """As the HTTP API has it."""
    from storage.api.operation_schemas import OperationOut

    return OperationOut.of(listed).model_dump()


def _shown(listed: ListedOperation, now_ms: int) -> dict[str, Any]:
    operation = listed.operation
    per_s, left_s = _pace(operation, now_ms)
    return {
        "number": operation.number,
        "kind": listed.kind or "",
        "of": _cause(operation),
        "state": operation.state,
        "progress": _progress(operation),
        "rate": "" if per_s is None else f"{per_s:,.0f}/s",
        "left": "" if left_s is None else duration_text(left_s),
        "started": time_text(operation.started_ms),
        "ended": "" if operation.ended_ms is None else time_text(operation.ended_ms),
    }


def _cause(operation: Operation) -> str:
    """What asked for it."""
    return f"record {operation.position}" if operation.override is None else f"override {operation.override}"


def _progress(operation: Operation) -> str:
    from storage.bulk.operations import OperationState

    if operation.state is OperationState.PLANNING:
        return f"{operation.total:,} planned"
    percent = 100 * operation.moved // max(1, operation.total)
    return f"{operation.moved:,} of {operation.total:,} ({percent} %)"


def _pace(operation: Operation, now_ms: int) -> tuple[float | None, float | None]:
    """Images a second since it began, and the seconds that the rest takes; None: this cannot be told."""
    from storage.bulk.operations import OperationState

    if operation.state not in (OperationState.MOVING, OperationState.DONE):
        return None, None
    took_ms = (now_ms if operation.ended_ms is None else operation.ended_ms) - operation.started_ms
    if took_ms <= 0 or not operation.moved:
        return None, None
    per_s = 1000 * operation.moved / took_ms
    moving = operation.state is OperationState.MOVING
    return per_s, (operation.total - operation.moved) / per_s if moving else None


def _now_ms() -> int:
    return time.time_ns() // 10**6
