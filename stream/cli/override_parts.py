"""A split or a pin of more images than one override takes: several overrides, one after the other.

The oldest image leads the new cluster of a split, so it is in the first override. The other overrides pin the rest to
it. Each begins once the images of the one before have moved. The parts are always the same, so after an interruption
the same command says what is left, and names what is there already.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from core.errors import BadInputError, UnavailableError
from stream.cli.output import line, progress_bar, show_json
from stream.cli.override_calls import said, storage_client, told

if TYPE_CHECKING:
    from core.overrides import Override, OverrideOutcome, OverrideRequest
    from core.types import ImageId
    from storage.records import ImageRecord
    from storage.serving.client import StorageClient

__all__ = ["say_in_parts"]

_POLL_S = 0.5

_PAGE = 1_000
"""Images that are looked up, and overrides that are read, at once."""


def say_in_parts(context: typer.Context, signal: str | None, request: OverrideRequest, *, as_json: bool) -> None:
    """Says a split or a pin of more images than one override takes, and tells the number of each override.

    Raises:
        BadInputError: The server refuses a part.
        ConflictError: Another override says the contrary of a part.
        UnavailableError: The server is down, too slow or cannot write, or a bulk move was paused.
    """
    outcomes: list[OverrideOutcome] = []
    with storage_client(context, signal, writes=True) as storage, progress_bar() as bar:
        task = bar.add_task("moving", total=len(request.images), note="")
        for part in _parts(storage, request):
            outcome = said(storage, part, dry_run=False)
            _wait(storage, outcome.override.number)
            outcomes.append(outcome)
            bar.update(task, advance=len(outcome.override.images), note=f"override {outcome.override.number}")
    if as_json:
        show_json({"overrides": [_json(each) for each in outcomes]})
        return
    for each in outcomes:
        line(told(each, moving=None))


def _parts(storage: StorageClient, request: OverrideRequest) -> Iterator[OverrideRequest]:
    """The overrides to say, each once the one before is there."""
    from core.overrides import MAX_IMAGES, OverrideKind

    left, target = sorted(request.images), request.target
    if request.kind is OverrideKind.SPLIT:
        assert target is not None
        known = _known_split(storage, left, target)
        first = known.images if known is not None else _with_oldest(storage, left)[:MAX_IMAGES]
        yield replace(request, images=tuple(first))
        taken = set(first)
        left = [each for each in left if each not in taken]
        target = first[0]
    for at in range(0, len(left), MAX_IMAGES):
        yield replace(request, kind=OverrideKind.PIN, images=tuple(left[at : at + MAX_IMAGES]), target=target)


def _known_split(storage: StorageClient, images: Sequence[ImageId], target: ImageId) -> Override | None:
    """The first part of this split, if it was said before. The first image of all is in it."""
    from core.overrides import OverrideKind

    wanted, head = set(images), storage.heads([target]).heads.get(target, target)
    for each in storage.overrides(0, _PAGE, images[0]):
        found = each.override
        stands = found.kind is OverrideKind.SPLIT and found.target == head and each.undone_by is None
        if stands and wanted.issuperset(found.images):
            return found
    return None


def _with_oldest(storage: StorageClient, images: Sequence[ImageId]) -> list[ImageId]:
    """The images, the oldest one first.

    Raises:
        BadInputError: One of them is unknown.
    """
    oldest: ImageRecord | None = None
    for at in range(0, len(images), _PAGE):
        some = images[at : at + _PAGE]
        found = [each.image for each in storage.named(some)]
        unknown = set(some).difference(each.image_id for each in found)
        if unknown:
            raise BadInputError(f"no image {min(unknown)!r} is known, so it has no cluster")
        oldest = min([*found, *([oldest] if oldest else [])], key=lambda image: image.place)
    assert oldest is not None  # images are named
    return [oldest.image_id, *(each for each in images if each != oldest.image_id)]


def _wait(storage: StorageClient, override: int) -> None:
    """Waits until the bulk move of an override is over, if it is one.

    Raises:
        UnavailableError: The server is down or too slow, or the bulk move was paused.
    """
    from storage.bulk.operations import OperationState

    found = storage.operation_of_override(override)
    while found is not None and found.state is not OperationState.DONE:
        number = found.number
        if found.state is OperationState.PAUSED:
            raise UnavailableError(
                f"the bulk move {number} rests: `neardup operations resume {number}`, then give this command again"
            )
        time.sleep(_POLL_S)
        listed = storage.operation(number)
        found = None if listed is None else listed.operation


def _json(outcome: OverrideOutcome) -> dict[str, object]:
    override = outcome.override
    return {
        "number": override.number,
        "kind": override.kind.value,
        "target": override.target,
        "images": len(override.images),
        "moved": len(outcome.moves) + outcome.unlisted,
        "created": outcome.created,
    }
