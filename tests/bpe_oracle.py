"""GPT-2's byte-level BPE and fairseq's ids, written from the published description and with nothing of the package."""

import functools
import itertools

import regex

PATTERN = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
# The bytes that are shown as they are; the others take the code points from 256 on, in order.
SHOWN = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
SYMBOLS = {byte: chr(byte) for byte in SHOWN}
SYMBOLS |= {byte: chr(256 + n) for n, byte in enumerate(b for b in range(256) if b not in SHOWN)}


class BytePairs:
    """Ids by a vocabulary (piece to id) and merges (lines of two pieces, the first of which count most)."""

    def __init__(self, vocabulary, merges):
        lines = [line for line in merges.split("\n") if line and not line.startswith("#version")]
        self.ids, self.ranks = vocabulary, {tuple(line.split(" ")): rank for rank, line in enumerate(lines)}
        self.of_word = functools.cache(self.pieces_of)

    def __call__(self, text):
        return [self.ids[piece] for piece in self.pieces(text)]

    def pieces(self, text):
        return [piece for word in PATTERN.findall(text) for piece in self.of_word(word)]

    def pieces_of(self, word):
        parts = [SYMBOLS[byte] for byte in word.encode()]
        while len(parts) > 1:
            pair = min(itertools.pairwise(parts), key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if pair not in self.ranks:
                break
            joined, n = [], 0
            while n < len(parts):
                both = tuple(parts[n : n + 2]) == pair
                joined.append("".join(pair) if both else parts[n])
                n += 1 + both
            parts = joined
        return parts
