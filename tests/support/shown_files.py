"""Files that a page of the documents shows whole: the line `<!-- file: PATH -->`, then the file as a block.

`python -m tests.support.shown_files PAGE...` writes the files into the pages anew.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

__all__ = ["shown", "with_files"]

_SHOWN = re.compile(r"^<!-- file: (\S+) -->\n(?:\n```python\n.*?^```\n)?", re.MULTILINE | re.DOTALL)


def shown(page: Path) -> list[Path]:
    """The files that a page shows, in its order."""
    return [(page.parent / name).resolve() for name in _SHOWN.findall(page.read_text(encoding="utf-8"))]


def with_files(page: Path) -> str:
    """The page's text with its files as they are now."""

    def block(found: re.Match[str]) -> str:
        content = (page.parent / found[1]).read_text(encoding="utf-8")
        return f"<!-- file: {found[1]} -->\n\n```python\n{content}```\n"

    return _SHOWN.sub(block, page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(with_files(Path(name)), encoding="utf-8")
