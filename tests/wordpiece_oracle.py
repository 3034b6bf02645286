"""BERT's and ELECTRA's rules for ids, written from their description and with nothing of the package."""

import functools
import unicodedata

# CJK Unified Ideographs, extensions A to E, and the compatibility ideographs.
IDEOGRAPHS = [
    range(0x4E00, 0xA000),
    range(0x3400, 0x4DC0),
    range(0x20000, 0x2A6E0),
    range(0x2A700, 0x2B740),
    range(0x2B740, 0x2B820),
    range(0x2B820, 0x2CEB0),
    range(0xF900, 0xFB00),
    range(0x2F800, 0x2FA20),
]
ASCII_MARKS = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


class WordPiece:
    """FullTokenizer: BasicTokenizer, then WordpieceTokenizer."""

    def __init__(self, lines, *, lower, electra=False, strip=None, chinese=True, limit=200):
        self.ids = {token: number for number, token in enumerate(lines)}
        self.lower, self.electra, self.chinese, self.limit = lower, electra, chinese, limit
        self.strip = lower if strip is None else strip
        self.of_word = functools.cache(self.pieces_of)

    def __call__(self, text):
        return [self.ids[piece] for word in self.words(text) for piece in self.of_word(word)]

    def words(self, text):
        cleaned = "".join(self.cleaned(c) for c in text)
        spaced = "".join(f" {c} " if self.chinese and any(ord(c) in r for r in IDEOGRAPHS) else c for c in cleaned)
        found = []
        for original in spaced.strip().split():
            token = original.lower() if self.lower else original
            if self.strip:
                decomposed = unicodedata.normalize("NFD", token)
                token = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
            word = ""
            for c in token:
                if c in ASCII_MARKS or unicodedata.category(c).startswith("P"):
                    found += [word, c]
                    word = ""
                else:
                    word += c
            found.append(word)
        return " ".join(found).split()

    def cleaned(self, c):
        if c in " \t\n\r":
            return " "
        category = unicodedata.category(c)
        control = category.startswith("C") if self.electra else category in ("Cc", "Cf")
        if control or c in "\0\ufffd":
            return ""
        return " " if category == "Zs" else c

    def pieces_of(self, word):
        if len(word) > self.limit:
            return ["[UNK]"]
        pieces = []
        while word:
            mark = "##" if pieces else ""
            taken = next((n for n in range(len(word), 0, -1) if mark + word[:n] in self.ids), None)
            if taken is None:
                return ["[UNK]"]
            pieces.append(mark + word[:taken])
            word = word[taken:]
        return pieces
