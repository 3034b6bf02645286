"""README.md beside a model: written by us with a mark, so that what anybody else wrote, or changed, is kept."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from converters.files import open_regular

README = "README.md"
# A card of ours is a few thousand bytes.
_LONGEST = 2**17
_MARK = re.compile(rb"<!-- by albert; SHA-256 of all above: ([0-9a-f]{64}) -->\n\Z")


def marked(text: str) -> bytes:
    """A page as it is written: with the mark by which it is known again as long as nobody changes it."""
    above = (text.rstrip("\n") + "\n\n").encode()
    return above + f"<!-- by albert; SHA-256 of all above: {hashlib.sha256(above).hexdigest()} -->\n".encode()


def is_free(directory: Path) -> bool:
    """Whether a README.md may be written there: there is none, or one of ours as we wrote it."""
    path = directory / README
    if path.is_symlink() or not path.is_file():
        return not path.is_symlink() and not path.exists()
    try:
        if path.stat().st_size > _LONGEST:
            return False
        with open_regular(path) as file:
            content = file.read()
    except OSError:
        return False
    mark = _MARK.search(content)
    return mark is not None and hashlib.sha256(content[: mark.start()]).hexdigest().encode() == mark[1]


def with_readme(ours: re.Pattern[str]) -> re.Pattern[str]:
    """The names of a format's files, and README.md."""
    return re.compile(f"{ours.pattern}|{re.escape(README)}")
