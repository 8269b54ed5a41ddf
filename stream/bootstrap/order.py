"""In which order are the rows of other systems written, and which head has each image?

What loading demands: versions of an image rise, and a head has a row before the last ones of its members. Rows that
are in such an order stay as they are. Otherwise the files are read several times, and each reading writes one *layer*
of the rows, in their order:

    layer 0      heads, and members whose head comes before them anyway
    layer 1      members that come before their head; and a version that comes behind a higher one
    layer 2 ...  only where several versions of an image come in falling order

So two readings are enough for most data, and no embedding has to be kept meanwhile.

Of an earlier version it matters alone whether the head founded its cluster with it. So such a row keeps its head if
that is the image itself, and still is.

The head of a cluster is the image that the row names. Or, where rows only name clusters, the oldest member: the one of
the lowest time of its lowest version (unknown times come last), then of the first row.

Ids, times and clusters of all rows are kept in a database on disk, and sorted there: some 500 bytes a row, and 200 MB
of memory.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from core.errors import UnavailableError

__all__ = ["Order"]

_CACHE_KB = 65_536
_LOOK_STEPS = 1_000_000
"""Steps of the database between two looks at whether the user wants to stop: a few milliseconds."""

_SET_UP = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -{_CACHE_KB};
PRAGMA temp_store = FILE;
CREATE TABLE rows (row INTEGER PRIMARY KEY, image TEXT NOT NULL, version INTEGER NOT NULL, created INTEGER, label TEXT);
"""

_VERSIONS = """
CREATE TABLE versions AS
SELECT image, row, label, last, first, born, same, before,
       sum(falls) OVER (PARTITION BY image ORDER BY version, row) AS layer
FROM (
  SELECT image, version, row, label,
         first_value(row) OVER w AS first,
         first_value(created) OVER w AS born,
         lag(row) OVER w AS before,
         coalesce(lag(row) OVER w > row, 0) AS falls,
         coalesce(lag(version) OVER w = version, 0) AS same,
         lead(row) OVER w IS NULL AS last
  FROM rows
  WINDOW w AS (PARTITION BY image ORDER BY version, row)
);
"""
"""One record for each row, sorted by image and version."""

_IMAGES = """
CREATE TABLE images (
  image TEXT PRIMARY KEY, row INTEGER, label TEXT, head TEXT, own INTEGER, base INTEGER
) WITHOUT ROWID;
INSERT INTO images
SELECT image, row, label, head, own,
       own AND image <> head AND layer = 0 AND row < head_first
FROM (
  SELECT image, row, layer, label,
         {head} AS head,
         {own} AS own,
         first_value(first) OVER c AS head_first
  FROM versions
  WHERE last
  WINDOW c AS (PARTITION BY label, CASE WHEN label IS NULL THEN image END ORDER BY {first_of_all})
)
ORDER BY image;
"""
"""One record for each image, by its highest version. `own`: its head is in its own cluster."""

_OF_HEADS = {
    "head": "label",
    "own": "coalesce(first_value(image) OVER c = label, 0)",
    "first_of_all": "image <> label",
}
_OF_CLUSTERS = {
    "head": "first_value(image) OVER c",
    "own": "1",
    "first_of_all": "born IS NULL, born, first",
}

_PLAN = """
CREATE TABLE plan (row INTEGER PRIMARY KEY, layer INTEGER, head TEXT);
INSERT INTO plan
SELECT versions.row, versions.layer + images.base,
       CASE WHEN last OR (versions.label = images.label AND head = versions.image) THEN head END
FROM versions CROSS JOIN images ON images.image = versions.image
ORDER BY versions.row;
"""

_SAME = "SELECT row, before FROM versions WHERE same ORDER BY row"

_NOT_OWN = """
SELECT row, label, (SELECT other.row FROM images AS other WHERE other.image = images.label)
FROM images WHERE NOT own ORDER BY row
"""


class Order:
    """Takes all rows, then tells their order. Use it as a context manager: its database is removed at the end."""

    def __init__(self, spool: Path, *, clusters: bool = False, heads_elsewhere: bool = False) -> None:
        """Makes the database.

        Args:
            spool: The folder where it is made.
            clusters: Whether rows name clusters, and not heads.
            heads_elsewhere: Whether a head may have no row here, as in a delta.

        Raises:
            UnavailableError: The disk is full.
        """
        self._clusters, self._heads_elsewhere, self._spool = clusters, heads_elsewhere, spool
        self._temporary = tempfile.TemporaryDirectory(dir=spool, prefix="order-")
        path = Path(self._temporary.name) / "rows.sqlite"
        self._database = sqlite3.connect(path, isolation_level=None)
        with self._told():
            # Sorting needs as much space as the rows; it is deprecated for libraries, this process is a program.
            self._database.execute(f"PRAGMA temp_store_directory = '{str(path.parent).replace(chr(39), 2 * chr(39))}'")
            self._database.executescript(_SET_UP)
            self._database.execute("BEGIN")
        # Python sees a Ctrl-C only when the database calls it.
        self._database.set_progress_handler(lambda: 0, _LOOK_STEPS)

    def __enter__(self) -> Order:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the database."""
        # The setting is one of the whole process.
        self._database.execute("PRAGMA temp_store_directory = ''")
        self._database.close()
        self._temporary.cleanup()

    def add(
        self,
        first: int,
        ids: Sequence[str],
        versions: Sequence[int],
        created_at_ms: Sequence[int],
        labels: Sequence[str | None],
    ) -> None:
        """Notes n rows.

        Args:
            first: The number of the first of them.
            ids: n image ids.
            versions: n versions.
            created_at_ms: n times; 0: not known.
            labels: n heads, or clusters; None: the row names none.

        Raises:
            UnavailableError: The disk is full.
        """
        numbers = range(first, first + len(ids))
        times = [time or None for time in created_at_ms]
        with self._told():
            self._database.executemany(
                "INSERT INTO rows VALUES (?, ?, ?, ?, ?)", zip(numbers, ids, versions, times, labels, strict=True)
            )

    def problems(self) -> Iterator[tuple[int, str, int | None]]:
        """Finds the order; no row can be added after that.

        Returns:
            What is wrong: a row, a text in which `{other}` stands for another row, and that row.

        Raises:
            UnavailableError: The disk is full.
        """
        with self._told():
            self._database.executescript(_VERSIONS)
            self._database.executescript(_IMAGES.format(**(_OF_CLUSTERS if self._clusters else _OF_HEADS)))
            for row, other in self._database.execute(_SAME):
                yield row, "has the same image and version as row {other}", other
            for row, head, other in self._database.execute(_NOT_OWN):
                if head is None:
                    yield row, "names no head", None
                elif other is not None:
                    yield row, f"names the head {head[:80]!r}, which is in another cluster by row {{other}}", other
                elif not self._heads_elsewhere:
                    yield row, f"names the head {head[:80]!r}, which has no row", None

    def plan(self) -> int:
        """Lays down the order, after `problems` found none; returns the number of layers.

        Raises:
            UnavailableError: The disk is full.
        """
        with self._told():
            self._database.executescript(_PLAN)
            (layers,) = self._database.execute("SELECT coalesce(max(layer) + 1, 0) FROM plan").fetchone()
        return int(layers)

    def layer(self, number: int) -> Iterator[tuple[int, str | None]]:
        """The rows of a layer in their order, each with its head; None: a later row has the image again.

        Raises:
            UnavailableError: The disk cannot be read.
        """
        with self._told():
            yield from self._database.execute("SELECT row, head FROM plan WHERE layer = ? ORDER BY row", (number,))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise KeyboardInterrupt from error
            raise UnavailableError(f"the rows cannot be sorted in {self._spool}: {error}") from error
