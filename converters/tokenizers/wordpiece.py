"""BERT's WordPiece lists."""

from __future__ import annotations

from converters.errors import CorruptError

# Far above any vocabulary.
_MOST_LINES = 500_000


def parse_wordpiece(vocab: bytes, where: str, unknown: str = "[UNK]") -> list[str]:
    """The tokens of a WordPiece list, line n for id n, as BERT's tokenizers read it; CorruptError names a bad line.

    Blanks at the end of a line are no part of the token. Of a token that is listed again the last id counts. `unknown`
    must be there; where it only begins a line, each token is its line's first word, as Google's `load_vocab` has it.
    """
    try:
        text = vocab.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = vocab.count(b"\n", 0, error.start) + 1
        raise CorruptError(where, f"line {bad} of the WordPiece list is not UTF-8") from None
    lines = text.removesuffix("\n").split("\n")
    if len(lines) > _MOST_LINES:
        raise CorruptError(where, f"the WordPiece list has more than {_MOST_LINES} lines")
    tokens = [line.rstrip() for line in lines]
    if unknown not in tokens:
        tokens = [(line.split() or [""])[0] for line in lines]
    if unknown not in tokens:
        raise CorruptError(where, f"the list has no {unknown} token, so it is not a WordPiece one")
    return tokens
