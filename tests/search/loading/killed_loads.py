"""A program that loads until it is killed: `killed_loads.py TASK`, the file of a pickled task.

Each line on stdin starts a process of its own that loads. Lines on stdout:

    loader PID     it has started
    rows DONE      so many rows were taken
    verifying      all of them were
    loaded IMAGES  it has ended by itself
    dead           it is gone
"""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from search.index.opening import warm_up
from search.loading import loader
from search.loading.load_task import LoadTask, Progress
from search.loading.loader import load

AT_ONCE = 10
"""Rows that are told at once."""


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def tell(progress: Progress) -> None:
    say(*(["verifying"] if progress.verifying else ["rows", progress.rows_done]))


def main(path: str) -> None:
    task: LoadTask = pickle.loads(Path(path).read_bytes())
    loader._AT_ONCE = AT_ONCE
    warm_up()
    with tempfile.TemporaryDirectory() as folder:  # starting the loaders anew would take seconds each
        load(replace(task, index=Path(folder)), lambda _: None)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            say("loader", os.getpid())
            say("loaded", load(task, tell))
            os._exit(0)
        os.waitpid(child, 0)
        say("dead")


if __name__ == "__main__":
    main(sys.argv[1])
