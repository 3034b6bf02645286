"""A SentencePiece vocabulary trained with Google's options for ALBERT (README of google-research/albert, spm_train)."""

from __future__ import annotations

import io
import random
import re
import string
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import sentencepiece

from albert_cli.errors import DataError
from albert_cli.tokenization.preparation import prepare
from converters.tokenizers.sentencepiece_model import CONTROL_PIECES, USER_DEFINED_PIECES

# Enough for the counts of a vocabulary to settle; more only costs time.
_MOST_SENTENCES = 400_000
# In bytes; SentencePiece leaves out longer ones without a word, so they are cut.
_LONGEST = 4192
# SentencePiece's own mark of unknown text: it leaves out every sentence that holds one.
_RESERVED = "\u2585"
# Above a million seed pieces, SentencePiece's default, no text has more; a far larger size takes it hours to refuse.
_MOST_PIECES = 2_000_000


def train_vocabulary(
    sentences: Iterable[str],
    size: int,
    *,
    seed: int = 42,
    most: int = _MOST_SENTENCES,
    lowercase: bool = True,
    keep_accents: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> bytes:
    """A SentencePiece unigram model of `size` pieces, from a uniform sample of `most` sentences.

    Google's special and user-defined symbols, in its order. Text is prepared as for tokenizing; sentences too long for
    SentencePiece are cut. Every printable ASCII character gets a piece (`required_chars`), which a small clean corpus
    would leave some without, and digits stand alone. `note` is called where a sample is taken. Raises
    DataError where the text does not yield that many pieces.
    """
    sample = list(_texts(_sample(sentences, most, seed, note), lowercase, keep_accents))
    if not any(character.isalnum() for text in sample for character in text):
        raise DataError(
            f"there is no text to train a vocabulary on: {f'{len(sample):,} lines without' if sample else 'not'} "
            "one letter or digit; pass more text"
        )
    try:
        return _train(sample, max(2, min(size, _MOST_PIECES)), lowercase)
    except (RuntimeError, ValueError) as error:
        raise DataError(_reason(str(error), sample, size, lowercase)) from None


def _train(sample: list[str], size: int, lowercase: bool) -> bytes:
    model = io.BytesIO()
    left_out = string.ascii_uppercase if lowercase else ""
    required = "".join(
        char for char in map(chr, range(0x21, 0x7F)) if char not in left_out and char not in USER_DEFINED_PIECES
    )
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sample),
        model_writer=model,
        vocab_size=size,
        model_type="unigram",
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        control_symbols=list(CONTROL_PIECES[1:]),
        user_defined_symbols=list(USER_DEFINED_PIECES),
        character_coverage=0.99995,
        normalization_rule_name="nmt_nfkc",
        required_chars=required,
        split_digits=True,
        max_sentence_length=_LONGEST,
        num_threads=1,  # the same vocabulary on every machine
        minloglevel=2,
    )
    return model.getvalue()


_TOO_HIGH = re.compile(r"size too high .*<= (\d+)")
_TOO_LOW = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")


def _reason(said: str, sample: list[str], size: int, lowercase: bool) -> str:
    """What SentencePiece complains of, in our words where they are known."""
    if found := _TOO_LOW.search(said):
        return (
            f"no vocabulary of {size} pieces can be made of this text: its characters and the special pieces alone are "
            f"{found[1]}; raise --vocab-size"
        )
    found = _TOO_HIGH.search(said)
    if not found:
        return f"no vocabulary of {size} pieces can be made of this text: {' '.join(said.split())}"
    largest = int(found[1])
    try:
        _train(sample, 2, lowercase)
        fewest = 1
    except (RuntimeError, ValueError) as error:
        low = _TOO_LOW.search(str(error))
        fewest = int(low[1]) if low else 1
    begin = f"no vocabulary of {size} pieces can be made of this text: it yields {largest} at most"
    if largest <= fewest:
        return f"{begin}, single characters and special pieces: it is too little to find a word in; pass more text"
    return f"{begin}; lower --vocab-size to that, or pass more text"


def _sample(sentences: Iterable[str], most: int, seed: int, note: Callable[[str], None]) -> list[str]:
    """A uniform sample in one pass (reservoir), in a fixed order."""
    generator = random.Random(seed)
    iterator: Iterator[str] = iter(sentences)
    kept = list(islice(iterator, most))
    number = len(kept) - 1
    for number, sentence in enumerate(iterator, len(kept)):
        place = generator.randrange(number + 1)
        if place < most:
            kept[place] = sentence
    if number >= most:
        note(f"the vocabulary is trained on {most:,} of {number + 1:,} sentences, a uniform sample")
    return kept


def _texts(sentences: Iterable[str], lowercase: bool, keep_accents: bool) -> Iterator[str]:
    """What SentencePiece is to read: prepared as the tokenizer prepares text, and short enough for it."""
    for sentence in sentences:
        text = prepare(sentence.replace(_RESERVED, " "), lowercase=lowercase, keep_accents=keep_accents)
        yield from filter(None, cut(text, _LONGEST))


def cut(text: str, most: int) -> Iterator[str]:
    """Parts of at most `most` bytes, cut at blanks, which are left out, or where there is none between characters."""
    data = text.encode()
    start = 0
    while len(data) - start > most:
        end = data.rfind(b" ", start + 1, start + most + 1)
        if end < 0:
            end = start + most
            while data[end] & 0xC0 == 0x80:  # within a character
                end -= 1
            end = max(start + 1, end)
        yield data[start:end].decode()
        start = end + (data[end] == 0x20)
    yield data[start:].decode()
