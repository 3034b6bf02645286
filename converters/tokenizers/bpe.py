"""GPT-2's byte-level BPE: a vocabulary from piece to id, and the pairs of pieces that are joined, in order.

A piece is written in characters that stand for bytes (openai/gpt-2, encoder.py): printable ones for themselves,
the others as the code points from 256 on, so that a space is `Ġ`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from converters.config import parse_texts
from converters.errors import ConfigError, CorruptError
from converters.messages import brief, listing

# Far above any vocabulary: GPT-2's has 50,257 pieces and a file of a megabyte.
_MOST_PIECES = 500_000
_MOST_BYTES = 32 * 2**20
_MOST_SHOWN = 120
_VERSION = "#version"


@functools.cache
def byte_symbols() -> Mapping[int, str]:
    """The character that stands for each byte, in the order of GPT-2's ids."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def parse_bpe(vocab_json: bytes | None, merges: bytes | None, where: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The pieces in the order of their ids, and the merges, most important first.

    Raises CorruptError, one line, for what is no such vocabulary: see `in_order` and `joining`, and a line of
    the merges that is no pair.
    """
    if vocab_json is None or merges is None:
        has, lacks = ("merges.txt", "vocab.json") if vocab_json is None else ("vocab.json", "merges.txt")
        raise CorruptError(where, f"a byte-level BPE of {has} without {lacks}, which belongs beside it")
    if len(vocab_json) > _MOST_BYTES:
        raise CorruptError(where, f"the BPE vocabulary is larger than {_MOST_BYTES // 2**20} MiB")
    try:
        found = parse_texts(vocab_json, where)
    except ConfigError as error:
        raise CorruptError(where, f"the BPE vocabulary {error.detail}") from None
    pieces = in_order(found, where)
    return pieces, joining(pieces, merge_lines(merges, where), where)


def joining(pieces: Sequence[str], merges: Iterable[tuple[int, tuple[str, str]]], where: str) -> list[tuple[str, str]]:
    """The numbered merges of a vocabulary, checked: CorruptError where a byte has no piece, or a merge joins, or makes,
    what is none."""
    known = set(pieces)
    if missing := [symbol for symbol in byte_symbols().values() if symbol not in known]:
        names = listing(map(repr, missing))
        raise CorruptError(where, f"the BPE vocabulary has no piece for {len(missing)} of the 256 bytes: {names}")
    pairs = []
    for number, pair in merges:
        for piece in (*pair, "".join(pair)):
            if piece not in known:
                shown = _shown(" ".join(pair))
                raise CorruptError(where, f"line {number} of the merges is {shown}, but {_shown(piece)} is no piece")
        pairs.append(pair)
    return pairs


def written(vocabulary: Mapping[str, int], merges: Iterable[Sequence[str]]) -> tuple[bytes, bytes]:
    """The bytes of vocab.json and merges.txt, as Hugging Face's are."""
    pairs = "".join(f"{' '.join(pair)}\n" for pair in merges)
    return json.dumps(vocabulary, ensure_ascii=False).encode(), f"{_VERSION}: 0.2\n{pairs}".encode()


def in_order(found: object, where: str) -> list[str]:
    """The pieces of an object from piece to id, in the order of the ids; CorruptError where those are no 0 to n."""
    if not isinstance(found, dict) or not found:
        raise CorruptError(where, f"the BPE vocabulary is {_shown(found)}, not an object from piece to id")
    if len(found) > _MOST_PIECES:
        raise CorruptError(where, f"the BPE vocabulary has more than {_MOST_PIECES} pieces")
    pieces: list[str | None] = [None] * len(found)
    for piece, number in found.items():
        if isinstance(number, bool) or not isinstance(number, int):
            raise CorruptError(
                where, f"the id of {_shown(piece)} in the BPE vocabulary is {_shown(number)}, not a number"
            )
        if not 0 <= number < len(pieces):
            raise CorruptError(
                where,
                f"the id of {_shown(piece)} in the BPE vocabulary is {_shown(number)}, but those of its {len(pieces)} "
                f"pieces are 0 to {len(pieces) - 1}",
            )
        if (other := pieces[number]) is not None:
            raise CorruptError(where, f"{_shown(other)} and {_shown(piece)} have the id {number} in the BPE vocabulary")
        if any("\ud800" <= character <= "\udfff" for character in piece):
            raise CorruptError(where, f"the piece {_shown(piece)} of the BPE vocabulary is no text")
        pieces[number] = piece
    return [piece for piece in pieces if piece is not None]


def merge_lines(merges: bytes, where: str) -> Iterator[tuple[int, tuple[str, str]]]:
    """The line number and the two pieces of each merge; CorruptError for a line that is no pair."""
    if merges.count(b"\n") > _MOST_PIECES:
        raise CorruptError(where, f"the merges have more than {_MOST_PIECES} lines")
    try:
        text = merges.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = merges.count(b"\n", 0, error.start) + 1
        raise CorruptError(where, f"line {bad} of the merges is not UTF-8") from None
    # Only \n ends a line: pieces may hold other Unicode line ends.
    lines = text.rstrip("\r\n").split("\n")
    for number, line in enumerate(lines, 1):
        if number == 1 and (line.startswith(_VERSION) or not text.strip()):
            continue
        pair = line.removesuffix("\r").split(" ")
        if len(pair) != 2 or not all(pair):
            raise CorruptError(
                where, f"line {number} of the merges is {_shown(line)}, not two pieces and a space between"
            )
        yield number, (pair[0], pair[1])


def _shown(value: object) -> str:
    return brief(value, _MOST_SHOWN)
