"""What is wrong with the rows of a file, collected while it is read: the first few, and how many more."""

from __future__ import annotations

from converters.messages import NAMES

SKIP_BAD = "; --skip-bad leaves such rows out"


class Faults:
    """Descriptions of faults, each with its line; false while there is none."""

    def __init__(self) -> None:
        self.first: list[str] = []
        self.count = 0

    def add(self, text: str) -> None:
        self.count += 1
        if self.count <= NAMES:
            self.first.append(text)

    def __bool__(self) -> bool:
        return self.count > 0

    def joined(self, separator: str = "; ") -> str:
        """The first faults, and how many more there are."""
        return separator.join(self.first) + (f" and {self.count - NAMES} more" if self.count > NAMES else "")
