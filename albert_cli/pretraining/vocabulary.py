"""A SentencePiece vocabulary trained with Google's options for ALBERT (README of google-research/albert, spm_train)."""

from __future__ import annotations

import io
import random
import re
import string
from collections.abc import Iterable, Iterator
from itertools import islice

import sentencepiece

from albert_cli.errors import DataError
from albert_cli.text_preparation import prepare
from converters.tokenizer_files import CONTROL_PIECES, USER_DEFINED_PIECES

# Enough for the counts of a vocabulary to settle; more only costs time.
_MOST_SENTENCES = 400_000
_LONGEST = 4192


def train_vocabulary(sentences: Iterable[str], size: int, *, seed: int = 42, most: int = _MOST_SENTENCES) -> bytes:
    """A SentencePiece unigram model of `size` pieces, from a uniform sample of `most` sentences.

    Google's special and user-defined symbols, in its order. Text is prepared as for tokenizing. Every printable ASCII
    character gets a piece (`required_chars`), which a small clean corpus would leave some without, and digits stand
    alone. Raises DataError where the text does not yield that many pieces.
    """
    sample = _sample(sentences, most, seed)
    if not sample:
        raise DataError("there is no text to train a vocabulary on")
    model = io.BytesIO()
    required = "".join(
        char
        for char in map(chr, range(0x21, 0x7F))
        if char not in string.ascii_uppercase and char not in USER_DEFINED_PIECES
    )
    try:
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
    except (RuntimeError, ValueError) as error:
        raise DataError(f"no vocabulary of {size} pieces can be made of this text: {_reason(str(error))}") from None
    return model.getvalue()


def _reason(said: str) -> str:
    """What SentencePiece complains of, in our words where they are known."""
    if found := re.search(r"size too high .*<= (\d+)", said):
        return f"it yields {found[1]} at most; lower --vocab-size to that, or pass more text"
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", said):
        return f"its characters and the special pieces alone are {found[1]}; raise --vocab-size"
    return " ".join(said.split())


def _sample(sentences: Iterable[str], most: int, seed: int) -> list[str]:
    """A uniform sample in one pass (reservoir), prepared as the tokenizer prepares text, in a fixed order."""
    generator = random.Random(seed)
    iterator: Iterator[str] = iter(sentences)
    kept = list(islice(iterator, most))
    for number, sentence in enumerate(iterator, len(kept)):
        place = generator.randrange(number + 1)
        if place < most:
            kept[place] = sentence
    prepared = (prepare(sentence, lowercase=True, keep_accents=False) for sentence in kept)
    return [text for text in prepared if text and len(text.encode()) <= _LONGEST]
