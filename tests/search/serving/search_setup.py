"""A small search server and what is sent to it; also a program.

    search_setup.py FOLDER PORT METRICS_PORT [HOLD [ROWS_PER_S]]

With HOLD it makes that file when it is about to open the index, and goes on when the file is gone. ROWS_PER_S is the
pace of a first load.
"""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import NeardupError
from core.protos.joined_pb2 import JoinedImage
from core.rpc import Listen
from neardup.events_pb2 import FLOAT16, FLOAT32
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from search.index.interface import TermIndex
from search.index.opening import open_term_index
from search.ranking import Order, Ranking
from search.serving import search_pb2 as pb
from search.serving import server as search_server
from search.serving.server import SearchServerSettings, serve

LOG = "topic-1"
SEARCH_DIMENSION = 24
SCORE_DIMENSION = 12
MAX_MESSAGE_BYTES = 1 << 20
SIGNAL = "photos; search s 1 of 24; score c 1 of 12"
RANKING = Ranking(5, order=Order.OVERLAP)


def server_settings(
    folder: Path, port: int = 0, metrics_port: int = 0, ranking: Ranking = RANKING, **terms: Any
) -> SearchServerSettings:
    values = {"seed": 1, "bits": 64, "groups": 16, "bits_per_group": 6, **terms}
    return SearchServerSettings(
        listen=Listen("127.0.0.1", port, metrics_port, MAX_MESSAGE_BYTES),
        folder=folder,
        terms=TermSettings(SEARCH_DIMENSION, centre=np.full(SEARCH_DIMENSION, 0.1), **values),
        code=CodeSettings(SCORE_DIMENSION, bits=32, seed=2),
        search_dimension=SEARCH_DIMENSION,
        score_dimension=SCORE_DIMENSION,
        ranking=ranking,
        signal=SIGNAL,
    )


def vector(dimension: int, seed: int, near: float = 0.0) -> np.ndarray:
    """A random vector of a seed, or one near it."""
    random = np.random.RandomState(seed)
    values = random.standard_normal(dimension)
    noise = np.random.RandomState(int(1000 * near)).standard_normal(dimension)
    return (values + near * noise).astype(np.float32)


def image(image_id: str, seed: int, near: float = 0.0, version: int = 1, half: bool = True) -> JoinedImage:
    dtype = "<f2" if half else "<f4"
    return JoinedImage(
        image_id=image_id,
        image_version=version,
        search_type=FLOAT16 if half else FLOAT32,
        search_vector=vector(SEARCH_DIMENSION, seed, near).astype(dtype).tobytes(),
        score_type=FLOAT16 if half else FLOAT32,
        score_vector=vector(SCORE_DIMENSION, seed, near).astype(dtype).tobytes(),
    )


def entry(offset: int, image_id: str, seed: int, near: float = 0.0, **fields: Any) -> pb.LogEntry:
    return pb.LogEntry(offset=offset, checksum=offset + 7, insert=image(image_id, seed, near, **fields))


def skip(offset: int, image_id: str = "", version: int = 0) -> pb.LogEntry:
    return pb.LogEntry(
        offset=offset, checksum=offset + 7, skip=pb.Skip(image_id=image_id, image_version=version, reason="test")
    )


def remove(offset: int, image_id: str, version: int | None = None) -> pb.LogEntry:
    removed = pb.Remove(image_id=image_id, image_version=version)
    return pb.LogEntry(offset=offset, checksum=offset + 7, remove=removed)


def replay(offset: int, image_id: str, carried: JoinedImage | None = None) -> pb.LogEntry:
    return pb.LogEntry(offset=offset, checksum=offset + 7, replay=pb.Replay(image_id=image_id, image=carried))


def open_when_gone(hold: Path, *args: Any) -> TermIndex:
    hold.touch()
    while hold.exists():
        time.sleep(0.01)
    return open_term_index(*args)


def main(folder: str, port: str, metrics_port: str, hold: str = "", rows_per_s: str = "0") -> int:
    logging.basicConfig(level=logging.INFO)
    if hold:
        search_server.open_term_index = partial(open_when_gone, Path(hold))
    try:
        settings = server_settings(Path(folder), int(port), int(metrics_port))
        serve(replace(settings, load_rows_per_s=float(rows_per_s)))
    except NeardupError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
