"""`neardup index`: statistics and rebuilds of the term index. Its snapshots: `stream.cli.index_snapshot_commands`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.context import AsJson, SignalName, of
from stream.cli.index_snapshot_commands import restore, snapshot, snapshots
from stream.cli.output import counted, line, note, progress_bar, show_json, table

if TYPE_CHECKING:
    from rich.progress import Progress

    from core.access import Right
    from operators.decided import Decided, StoreDecisions
    from search.serving import search_pb2
    from search.serving.client import SearchClient
    from storage.serving.client import StorageClient
    from stream.index_build.joined import KafkaJoined
    from stream.index_build.sources import ImageSource, StoreSource
    from stream.settings import Settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Inspect, copy, restore and rebuild the term index.")
for _command in (snapshot, snapshots, restore):
    app.command()(_command)

CALL_S = 10.0
"""The deadline of one call, in seconds."""

SWITCH_S = 60.0
"""How long to wait for a running server to come back with the new index, in seconds."""

STORAGE = "storage"
"""The value of --from that means the storage server instead of a file."""

JOINED = "joined"
"""The value of --from that means the order alone."""

BACKGROUND = 10
"""The nice value of a build; the stream has priority."""


@app.command()
def stats(context: typer.Context, signal: SignalName = None, as_json: AsJson = False) -> None:
    """Show the content of the index, its size by part, and whether its density still fits its terms.

    Examples:

        neardup index stats

        neardup index stats --json
    """
    from core.access import Right

    with _client(of(context).running(), signal, Right.READ) as search:
        found = search.stats()
    if as_json:
        show_json(_plain(found))
        return
    rows: list[tuple[str, object]] = [
        ("folder", found.folder),
        ("last offset applied", found.offset),
        ("images", f"{found.images:,}"),
        ("placed versions", f"{found.entries:,}"),
        ("sealed segments", f"{found.segments}{' (merging)' if found.merging else ''}"),
        ("not sealed yet", f"{found.tail:,}"),
        ("distinct term sets", f"{found.term_sets:,}"),
        ("postings of a search", f"{found.expected_postings:,.0f} expected, on average"),
        ("searches since its start", f"{found.queries:,}"),
        *((f"bytes of {part}", f"{size:,}") for part, size in sorted(found.bytes.items()) if size),
        ("bytes", f"{sum(found.bytes.values()):,}"),
    ]
    if found.HasField("density"):
        rows.append(("density", f"{found.density.drift}: {found.density.ratio:.2f} of what was planned"))
    table(("", "value"), rows)


@app.command()
def build(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="storage|joined|FILE",
            help="Where the embeddings are; repeat the option for several files.",
        ),
    ],
    signal: SignalName = None,
    catch_up: Annotated[
        bool,
        typer.Option(help="Whether to apply the later records of `joined`; without them the job does it."),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Build a new index beside the live one, with the current settings, then switch to it.

    Reads the embeddings of all images from `storage`, or from Parquet files with the columns of `neardup publish` and
    `place`. Then it applies the later records of `joined` and switches. With `joined` it applies all records of the
    order, which must still be there from the first one on. A running search server restarts on the new index within
    seconds, and the job continues where it was. Deleted images stay deleted; files need the storage server for that.

    With --no-catch-up, the index stands where storage stands, whatever `joined` has: before `neardup log renew`, or
    after `neardup store convert`. Where the service is stopped, `storage` is read from its folder.

    Use it after the index was lost or damaged, or to change the terms: change the settings, build, run `neardup up`.
    If the build is stopped, the live index stays as it is.

    Examples:

        neardup index build --from storage

        neardup index build --from storage --no-catch-up

        neardup index build --from images-1.parquet --from images-2.parquet

        neardup index build --from joined
    """
    from core.blas import use_one_blas_thread
    from search.index.generations import IndexGenerations
    from search.serving.request_parser import RequestParser
    from search.serving.server import index_settings
    from stream.index_build.build import build_index
    from stream.index_build.joined import KafkaJoined
    from stream.interrupts import interruptible
    from stream.names import client_id
    from stream.servers import search_server_settings

    settings = of(context).running()
    name, chosen = settings.signal(signal)
    os.nice(BACKGROUND)
    use_one_blas_thread()
    server = search_server_settings(settings, name)
    parser = RequestParser(server.terms.build(), server.code.build())
    told = index_settings(server, parser.extractor, parser.coder)
    started = time.monotonic()
    with ExitStack() as parts:
        parts.enter_context(interruptible())
        access = settings.kafka_access(client_id(name, "index-build"))
        joined = parts.enter_context(KafkaJoined(access, chosen.topic("joined"))) if catch_up else None
        source, decided = parts.enter_context(_source(settings, name, sources, joined))
        bars = parts.enter_context(progress_bar())
        built = build_index(IndexGenerations(server.folder), told, parser, source, joined, _Bars(bars), decided)
    took_s = time.monotonic() - started
    serves = _wait_for(settings, name, built.folder)
    if as_json:
        show_json(
            {
                "signal": name,
                "folder": str(built.folder),
                "images": built.images,
                "unfindable": built.unfindable,
                "offset": built.position.offset,
                "seconds": round(took_s, 3),
                "serves": serves,
            }
        )
        return
    line(f"{built.folder}: {counted(built.images, 'image')} up to offset {built.position.offset}")
    if built.unfindable:
        note(f"{counted(built.unfindable, 'image')} cannot be found: search or scorer could not process them")
    note(f"built in {took_s:.1f} s; {_NOW[serves]}")


_NOW = {
    True: "the search server serves it now",
    False: "the search server will open it when it starts with these settings (`neardup up`)",
}


def _plain(stats: search_pb2.StatsResponse) -> dict[str, Any]:
    """The statistics for JSON; protobuf's own JSON would write 64-bit numbers as strings."""
    density = stats.density
    plain = {field.name: getattr(stats, field.name) for field in stats.DESCRIPTOR.fields}
    return plain | {
        "bytes": dict(sorted(stats.bytes.items())),
        "bytes_total": sum(stats.bytes.values()),
        "density": {"drift": density.drift, "ratio": density.ratio, "size": density.size}
        if stats.HasField("density")
        else None,
    }


class _Bars:
    """The two progress bars of a build."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._embeddings = bars.add_task("embeddings", total=None, note="")
        self._order = bars.add_task("joined", total=None, note="")

    def embeddings(self, done: int, total: int) -> None:
        """See `Watcher`."""
        self._bars.update(self._embeddings, completed=done, total=max(done, total))

    def order(self, done: int, total: int) -> None:
        """See `Watcher`."""
        self._bars.update(self._order, completed=done, total=total)


@contextmanager
def _client(settings: Settings, signal: str | None, right: Right) -> Iterator[SearchClient]:
    from search.serving.client import SearchClient
    from stream.access import credentials

    _, chosen = settings.signal(signal)
    proof = credentials(settings, right)
    server = chosen.search
    with closing(SearchClient(server.address, CALL_S, server.max_message_bytes, credentials=proof)) as client:
        yield client


@contextmanager
def _source(
    settings: Settings, name: str, sources: list[str], joined: KafkaJoined | None
) -> Iterator[tuple[ImageSource, Decided | None]]:
    """The embeddings, and what storage has decided after them where that matters."""
    from core.access import Right
    from core.errors import BadInputError, UnavailableError
    from operators.decided import StoreDecisions
    from storage.serving.client import StorageClient
    from stream.access import credentials
    from stream.errors import NoStoreError
    from stream.index_build.sources import Deletes, FileSource, OrderSource, deletes_of
    from stream.index_build.turns import in_turn
    from stream.index_restore import storage_position

    _, chosen = settings.signal(name)
    if len(sources) > 1 and {STORAGE, JOINED} & set(sources):
        raise BadInputError("an index is built from storage, from joined or from files, not from several of them")
    server, proof = chosen.storage, credentials(settings, Right.READ)
    with closing(StorageClient(server.address, CALL_S, server.max_message_bytes, proof)) as storage:
        if sources == [STORAGE]:
            with _from_storage(settings, name, storage) as (source, decided):
                if joined is not None:
                    joined.follow(source.position)
                yield source, decided
            return
        if joined is None:
            raise BadInputError("only storage says how far its images reach: an index from others must catch up")
        # Without a store nothing was applied, so positions are Kafka's offsets.
        with suppress(NoStoreError):
            joined.follow(storage_position(settings, name))
        decided, deleted = None, Deletes()
        try:
            if storage.describe().log_id == joined.topic_id:
                decided = StoreDecisions(storage)
                deleted = in_turn(lambda: deletes_of(storage.embeddings()), note)
        except UnavailableError as error:
            note(f"the storage server does not say what was deleted or could not be scored: {error}")
        if sources == [JOINED]:
            yield OrderSource(), decided
            return
        paths = [Path(each) for each in sources]
        dimensions = chosen.search_embedding.dimension, chosen.score_embedding.dimension
        yield FileSource(paths, *dimensions, joined.log(), joined.checksum, deleted), decided


@contextmanager
def _from_storage(
    settings: Settings, name: str, storage: StorageClient
) -> Iterator[tuple[StoreSource, StoreDecisions | None]]:
    """The embeddings of the storage server, or those of its folder where the service is stopped."""
    from core.errors import BusyError, UnavailableError
    from operators.decided import StoreDecisions
    from stream.index_build.sources import StoreSource
    from stream.index_build.stored import stored_pages
    from stream.index_build.turns import in_turn

    try:
        source = in_turn(lambda: StoreSource(storage.embeddings()), note)
    except BusyError:
        raise
    except UnavailableError as error:
        unanswered = error
    else:
        yield source, StoreDecisions(storage, source.released)
        return
    with stored_pages(settings, name, unanswered) as pages:
        note("the storage server does not run: reading its store")
        yield StoreSource(pages), None  # a stopped storage has decided nothing after its position


def _wait_for(settings: Settings, name: str, folder: Path) -> bool:
    """Whether a running server came back with the new index."""
    from core.access import Right
    from core.errors import NeardupError
    from search.index.generations import IndexGenerations

    current = IndexGenerations(folder.parent).current()
    assert current is not None
    deadline = time.monotonic() + SWITCH_S
    with _client(settings, name, Right.READ) as search:
        try:
            described = search.describe()
        except NeardupError:
            return False
        if (described.terms_fingerprint, described.code_fingerprint) != (
            current.terms_fingerprint,
            current.code_fingerprint,
        ):
            return False
        while time.monotonic() < deadline:
            try:
                if Path(search.stats().folder).name == folder.name:
                    return True
            except NeardupError:
                pass  # it is restarting
            time.sleep(0.2)
    return False
