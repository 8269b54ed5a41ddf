"""`neardup verify`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import BadInputError, UnavailableError
from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import counted, line, progress_bar, show_first, show_json
from stream.errors import NotSoundError

if TYPE_CHECKING:
    from core.types import ImageId
    from storage.verify import VerifyProgress
    from stream.index_comparison import Compared
    from stream.index_differences import Difference

__all__ = ["verify"]


class Against(StrEnum):
    """What a store is compared with."""

    INDEX = "index"


def verify(
    context: typer.Context,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what the images alone can mend, then check.")] = False,
    against: Annotated[
        Against | None, typer.Option(help="Also compare each image and each delete with the index, both ways.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Compare about N of each side with the index, always the same ones."),
    ] = None,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Check that heads and members agree, over the whole store.

    Every image must be a member of its head's cluster and of no other, every head must be its own head, and all counts
    must be right. The check runs on a snapshot, so the stream can go on.

    --repair takes the images as the truth. Edges, counts and lost clusters are made anew, and what belongs to no image
    is deleted, in small writes beside the stream's. It needs the write key. Lost embeddings and holes in the history
    stay: restore a snapshot, or send these images again.

    --against index shows whether searches find what storage holds, and nothing else. Images and deletes of storage are
    looked for in the index: place, version, score code, hidden or not. Then what the index holds is looked for in
    storage. What changes meanwhile is looked at again. What to do is said below the differences; mostly the index is
    built anew with `neardup index build --from storage`.

    The exit code is 0 if all is sound, 5 if it is not. It is 4 if index and storage are too far apart to be compared
    whole, and no difference was found that lasts.

    Examples:

        neardup verify

        neardup verify --repair

        neardup verify --against index --sample 10000
    """
    if sample is not None and against is None:
        raise BadInputError("--sample is of --against index: give both")
    from core.access import Right
    from search.serving.admission import Caller
    from search.serving.client import SearchClient
    from storage.serving.client import StorageClient
    from stream.access import credentials
    from stream.index_comparison import Side, compare_with_index

    settings = of(context).settings()
    name, chosen = settings.signal(signal)
    proof = credentials(settings, Right.WRITE if repair else Right.READ)
    server = chosen.storage
    found = 0
    with closing(StorageClient(server.address, 10.0, server.max_message_bytes, proof)) as storage:
        if repair:
            found = _followed("repairing", storage.repair()).problem_count
        done = _followed("checking", storage.verify())
        compared = None
        if against is not None:
            reader = credentials(settings, Right.READ)
            search = chosen.search
            with closing(SearchClient(search.address, 10.0, search.max_message_bytes, Caller.SHADOW, reader)) as index:
                compared = _compared(compare_with_index(storage, index, sample))
    unlike = {} if compared is None else compared.problems
    cut_short = compared is not None and compared.cut_short
    if as_json:
        show_json(
            {
                "signal": name,
                "sound": done.problem_count == 0 and not unlike and not cut_short,
                "images": done.images,
                "clusters": done.clusters,
                **({"repaired": max(0, found - done.problem_count)} if repair else {}),
                "problem_count": done.problem_count,
                "problems": list(done.problems),
                **({} if compared is None else _as_json(compared)),
            }
        )
    else:
        for problem in done.problems:
            line(problem)
        _show(unlike)
    if done.problem_count:
        raise NotSoundError(f"the store of {name} has {counted(done.problem_count, 'problem')}")
    if unlike:
        early = ", and the comparison ended early: there may be more" if cut_short else ""
        raise NotSoundError(f"the index of {name} differs from the store in {counted(len(unlike), 'image')}{early}")
    if cut_short:
        raise UnavailableError(
            f"the comparison with the index of {name} ended early and is incomplete: one of the two was far behind the "
            "other\ntry again once `neardup status` shows that it has caught up"
        )
    if not as_json:
        if repair:
            line(f"repaired: {counted(found, 'problem')}")
        line(f"sound: {counted(done.images, 'image')} in {counted(done.clusters, 'cluster')}")
        if compared is not None:
            looked_at = compared.compared
            deletes = counted(looked_at[Side.DELETES], "delete")
            line(f"the index has {counted(looked_at[Side.IMAGES], 'image')} and {deletes} as storage has")
            line(f"the {looked_at[Side.INDEX]} images and deletes of the index are those of storage")


def _followed(what: str, reports: Iterable[VerifyProgress]) -> VerifyProgress:
    """The last report of a check, whose progress is shown meanwhile."""
    done = None
    with progress_bar() as bar:
        task = bar.add_task(what, total=None, note="")
        for progress in reports:
            bar.update(task, completed=progress.checked, total=progress.total)
            done = progress if progress.done else None
    if done is None:
        raise UnavailableError("the storage server ended the check early")
    return done


def _compared(reports: Iterable[Compared]) -> Compared:
    """The last report of a comparison, whose progress is shown meanwhile."""
    last = None
    with progress_bar() as bar:
        task = bar.add_task("comparing", total=None, note="")
        for last in reports:
            bar.update(task, description=f"comparing {last.side}", completed=last.looked_at, total=last.total)
    assert last is not None  # there is always one
    return last


def _show(unlike: Mapping[ImageId, Difference]) -> None:
    """The first differences by image, and what to do about each kind of them."""
    texts = (f"image {image_id!r}: {difference.text}" for image_id, difference in unlike.items())
    show_first(texts, len(unlike), ": --json has all of them")
    kinds = Counter(difference.remedy for difference in unlike.values())
    for remedy, images in kinds.items():
        line(f"to do about {counted(images, 'image')}: {remedy}")


def _as_json(compared: Compared) -> dict[str, Any]:
    images, deletes, listed = compared.compared.values()
    return {
        "compared_with_index": images,
        "deletes_compared_with_index": deletes,
        "index_compared_with_storage": listed,
        "index_comparison_complete": not compared.cut_short,
        "index_problems": {image_id: each.text for image_id, each in compared.problems.items()},
        "index_remedies": {image_id: each.remedy.name.lower() for image_id, each in compared.problems.items()},
    }
