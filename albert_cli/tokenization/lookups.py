"""What is computed once: replacements of characters, and ids of words."""

from __future__ import annotations

from collections.abc import Callable

# Some 30 MB of words. They are few in most texts; where they are many, a full table is begun again.
_WORDS = 1 << 17
_LONGEST = 64  # characters of a word that is kept


class Characters(dict[int, str]):
    """What each character becomes, by code point, as str.translate wants it; filled as characters come."""

    def __init__(self, rule: Callable[[str], str]) -> None:
        super().__init__()
        self.rule = rule

    def __missing__(self, code: int) -> str:
        self[code] = self.rule(chr(code))
        return self[code]


class WordIds(dict[str, tuple[int, ...]]):
    """The ids of each word; filled as words come."""

    def __init__(self, rule: Callable[[str], tuple[int, ...]]) -> None:
        super().__init__()
        self.rule = rule

    def __missing__(self, word: str) -> tuple[int, ...]:
        ids = self.rule(word)
        if len(word) <= _LONGEST:
            if len(self) >= _WORDS:
                self.clear()
            self[word] = ids
        return ids
