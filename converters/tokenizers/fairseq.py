"""A RoBERTa's tokenizer as fairseq has it, in the terms of Hugging Face.

fairseq cuts texts with GPT-2's byte-level BPE (`vocab.bpe`, and `encoder.json` from piece to GPT-2's id) and has a
dictionary of its own over those ids (`dict.txt`, lines of `ID COUNT`), which orders the model's rows: four special
tokens, the lines, and `<mask>`, which its task adds last (fairseq's data/dictionary.py and tasks/masked_lm.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from converters.config import parse_texts
from converters.errors import ConfigError, CorruptError
from converters.files import read_optional
from converters.messages import brief
from converters.tokenizers.bpe import byte_symbols, in_order, merge_lines, written
from converters.tokenizers.files import BPE_TOKENS, TokenizerFiles

DICTIONARY, ENCODER, MERGES = "dict.txt", "encoder.json", "vocab.bpe"
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_MASK = BPE_TOKENS["mask"]
_FILLING = "madeupword{:04d}"  # fairseq's own name for a row that stands for nothing
_END = "<|endoftext|>"  # GPT-2's last piece, beside those that its merges make
_MOST_LINES, _MOST_SHOWN, _MOST_DIGITS = 500_000, 120, 10


def read_fairseq(directory: Path, rows: int | None = None) -> TokenizerFiles:
    """The tokenizer in a directory of fairseq's, with Hugging Face's files and the ids of the model's rows.

    Empty where there is nothing of it. `rows`: how many the model has; where they are more than the dictionary's,
    `<mask>` is the last of them all the same. `encoder.json` may be absent. Where more is, or the dictionary is of
    another kind of pieces, that is the `fault`. Raises CorruptError, one line, for damaged files.
    """
    dictionary, encoder, merges = (read_optional(directory / name) for name in (DICTIONARY, ENCODER, MERGES))
    found = {DICTIONARY: dictionary, ENCODER: encoder, MERGES: merges}
    lacking = [name for name, content in found.items() if content is None]
    if len(lacking) == len(found):
        return TokenizerFiles()
    if dictionary is None or merges is None:
        return TokenizerFiles(
            fault=f"{directory}: lacks {' and '.join(lacking)}; RoBERTa's archives hold no {ENCODER} and no {MERGES}, "
            "which are GPT-2's: put them there, beside the weights"
        )
    try:
        vocabulary = _vocabulary(directory, dictionary, encoder, merges, rows)
        return TokenizerFiles.of(
            str(directory),
            vocab_json=written(vocabulary, ())[0],
            merges=merges,
            origin=f"{DICTIONARY}, {MERGES}" + (f" and {ENCODER}" if encoder else ""),
        )
    except ConfigError as error:
        return TokenizerFiles(fault=str(error))


def _vocabulary(
    directory: Path, dictionary: bytes, encoder: bytes | None, merges: bytes, rows: int | None
) -> Mapping[str, int]:
    """Ids by piece, in the order of the model's rows."""
    pieces = _gpt2(directory, encoder, merges)
    where = str(directory / DICTIONARY)
    found = dict.fromkeys(_SPECIAL)
    numbers = 0
    for line, entry in _entries(dictionary, where):
        piece = entry
        if entry.isascii() and entry.isdigit() and len(entry) < _MOST_DIGITS:
            numbers += 1
            if int(entry) >= len(pieces):
                raise CorruptError(where, f"line {line} is the id {entry}, but GPT-2's pieces are {len(pieces)}")
            piece = pieces[int(entry)]
        if piece in found or piece == _MASK:
            raise CorruptError(where, f"line {line} is {brief(entry)}, which is there already")
        found[piece] = None
    if not numbers:
        raise ConfigError(where, "holds no ids of GPT-2's BPE, so the tokenizer is of another kind, which is not read")
    if lacking := [piece for piece in pieces if piece not in found and piece != _END]:
        raise ConfigError(
            where,
            f"lacks {len(lacking)} of GPT-2's pieces, such as {brief(lacking[0])}, which fairseq would read as <unk>; "
            "such a tokenizer is not computed",
        )
    count = len(found) + 1 if rows is None else rows
    if count <= len(found):
        raise ConfigError(
            where, f"with the special tokens there are {len(found) + 1} entries, but the model has {count} rows"
        )
    names = (_FILLING.format(number) for number in range(count))
    for name in (name for name in names if name not in found):
        if len(found) < count - 1:
            found[name] = None
    return {piece: number for number, piece in enumerate((*found, _MASK))}


def _gpt2(directory: Path, encoder: bytes | None, merges: bytes) -> list[str]:
    """GPT-2's pieces in the order of its ids; without `encoder.json` they follow from the merges."""
    if encoder is None:
        pairs = merge_lines(merges, str(directory / MERGES))
        return [*byte_symbols().values(), *("".join(pair) for _, pair in pairs), _END]
    where = str(directory / ENCODER)
    try:
        return in_order(parse_texts(encoder, where), where)
    except ConfigError as error:
        raise CorruptError(where, error.detail) from None


def _entries(dictionary: bytes, where: str) -> Iterator[tuple[int, str]]:
    """The entries of a dictionary with the numbers of their lines; CorruptError for a line that is none."""
    if dictionary.count(b"\n") > _MOST_LINES:
        raise CorruptError(where, f"has more than {_MOST_LINES} lines")
    for number, line in enumerate(dictionary.removesuffix(b"\n").split(b"\n"), 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip()
        except UnicodeDecodeError:
            raise CorruptError(where, f"line {number} is not UTF-8") from None
        entry, _, count = text.removesuffix(" #fairseq:overwrite").rpartition(" ")
        if not entry or not (count.isascii() and count.isdigit()):
            raise CorruptError(where, f"line {number} is {brief(text, _MOST_SHOWN)}, not an entry and its count")
        yield number, entry
