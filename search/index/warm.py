"""`python -m search.index.warm`: compiles the kernels of the index, unless they are cached.

Set-up runs it, so that the first search server starts quickly. It takes half a minute on two cores, once for each
version of the sources (see `search.index.compiled.kept_in`).
"""

from __future__ import annotations

from search.index.opening import warm_up

__all__: list[str] = []

if __name__ == "__main__":
    warm_up()
