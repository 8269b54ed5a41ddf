"""`python -m search.index.warm`: compiles the kernels of the index, or finds that they are kept already.

Set-up runs it, so that the first search server need not: on two cores it takes half a minute, once for each version of
the sources (see `search.index.compiled.kept_in`).
"""

from __future__ import annotations

from search.index.opening import warm_up

__all__: list[str] = []

if __name__ == "__main__":
    warm_up()
