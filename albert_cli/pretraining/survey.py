"""What is in a corpus that its reader may not expect: looked for before any work, said in lines, faults all at once."""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from albert_cli.errors import DataError, TextError
from albert_cli.pretraining.corpus import SUFFIXES, Corpus, Files, is_held_out, lines
from converters.errors import CorruptError

# Shares from which a note is worth a line.
_MANY_MARKS = 0.005
_MANY_UNKNOWN = 0.01
_MANY_BEYOND = 0.01
# A text has no NUL; UTF-16 has one for every ASCII character.
_BINARY = 0.05
_SHOWN = 5


@dataclass
class Survey:
    """Counts over the whole corpus: `characters` without white space, `marks` that go with accents."""

    characters: int = 0
    marks: int = 0
    nuls: int = 0

    @property
    def share_of_marks(self) -> float:
        """Of the characters."""
        return self.marks / max(1, self.characters)


def survey(files: Files, hold_out: int, progress: Callable[[int], None] | None = None) -> Survey:
    """Read the files once; DataError names every one that is no text, and a corpus that is too small to hold out of."""
    found, faults = Survey(), []
    for path in files.paths:
        characters = nuls = 0
        try:
            for line in lines(path, progress):
                nuls += line.count("\0")
                characters += len(line) - line.count(" ")
                if not line.isascii():
                    decomposed = unicodedata.normalize("NFKD", line)
                    found.marks += len(decomposed) - len(_combining().sub("", decomposed))
        except (TextError, CorruptError, DataError) as error:
            faults.append(str(error))
            continue
        if nuls > _BINARY * characters:
            faults.append(f"{path}: {nuls / characters:.0%} of its characters are NUL: binary, or UTF-16, not UTF-8")
        elif characters == nuls:
            faults.append(f"{path}: there is no text in it")
        found.characters += characters
        found.nuls += nuls
    if faults:
        more = f"; and {len(faults) - _SHOWN} files more" if len(faults) > _SHOWN else ""
        raise DataError("; ".join(faults[:_SHOWN]) + more)
    _check_split(files, hold_out)
    return found


@functools.cache
def _combining() -> re.Pattern[str]:
    """Any run of marks that combine with the character before them."""
    marks = (chr(code) for code in range(0x300, sys.maxunicode + 1) if unicodedata.combining(chr(code)))
    return re.compile(f"[{''.join(marks)}]+")


def _check_split(files: Files, hold_out: int) -> None:
    """Stops at the first document held out, so it reads little of a large corpus."""
    number, trained, held = -1, False, False
    for number, (source, _) in enumerate(files.documents()):
        if files.weights[source] > 0:
            held = held or is_held_out(number, hold_out)
            trained = trained or not is_held_out(number, hold_out)
        if trained and held:
            return
    if not trained:
        raise DataError("there is no document to train on: every file's weight is 0, or what has one is held out")
    raise DataError(
        f"every {hold_out}{_suffix(hold_out)} document is held out, which leaves none of {number + 1}"
        f"{'' if all(files.weights) else ' in a file whose weight is not 0'}; pass more text, or a lower --hold-out"
    )


def _suffix(number: int) -> str:
    return "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def notes_of_files(files: Files, found: Survey) -> list[str]:
    """What of the files is not read as it stands."""
    notes = []
    if files.left_out:
        more = f" and {len(files.left_out) - _SHOWN} more" if len(files.left_out) > _SHOWN else ""
        notes.append(
            f"left out of the corpus, as they are hidden or no {', '.join(SUFFIXES)} files: "
            f"{', '.join(files.left_out[:_SHOWN])}{more}"
        )
    if files.repeated:
        notes.append(f"named twice, read once: {', '.join(files.repeated)}")
    if found.nuls:
        notes.append(f"{found.nuls:,} NUL characters of the corpus are left out")
    return notes


def note_of_marks(found: Survey, remedy: str) -> list[str]:
    """Where accents are common and the tokenizer drops them: that it does, and what to do."""
    share = found.share_of_marks
    if share < _MANY_MARKS:
        return []
    return [
        (
            f"the tokenizer drops accents and other marks, {share:.1%} of the corpus's characters (é becomes e, で "
            f"becomes て), as Google's English models do; {remedy}"
        )
    ]


def notes_of_tokens(
    corpus: Corpus, ordered: NDArray[np.bool_], hold_out: int, max_length: int, unknown: int
) -> list[str]:
    """What the tokens have too few or too many of: order pairs, unknown pieces, sentences beyond the length."""
    lengths = np.diff(corpus.sentences)
    tokens = int(lengths.sum())
    filled = np.concatenate([[0], np.cumsum(lengths > 0)])
    sizes = np.diff(filled[corpus.documents])  # sentences with a token, of each document
    notes = _notes_of_order(corpus, sizes, ordered, hold_out)
    if (empty := int((sizes == 0).sum())) > 0:
        notes.append(f"{empty:,} of {len(corpus):,} documents are empty to the tokenizer")
    if (parts := int(corpus.facts.get("parts", 0))) > 0:
        longest = corpus.facts["fingerprint"]["most_sentences"]
        notes.append(f"documents of more than {longest} sentences are cut into parts, {parts:,} of them of {longest}")
    beyond = int(np.maximum(0, lengths - (max_length - 2)).sum())
    if beyond > _MANY_BEYOND * tokens:
        notes.append(
            f"{beyond / tokens:.1%} of the tokens are beyond --max-length ({max_length}) of their sentence: an epoch "
            "reads a random window of each such sentence"
        )
    unknowns = int(np.count_nonzero(corpus.ids == unknown))
    if unknowns > _MANY_UNKNOWN * tokens:
        notes.append(f"{unknowns / tokens:.1%} of the tokens are unknown: the vocabulary has no pieces for them")
    return notes


def _notes_of_order(corpus: Corpus, sizes: NDArray[np.int64], ordered: NDArray[np.bool_], hold_out: int) -> list[str]:
    paired = (sizes > 1) & ordered[corpus.sources]
    held = np.array([is_held_out(number, hold_out) for number in range(len(corpus))], bool)
    if not paired.any():
        return [
            (
                "no document has two sentences that follow on one another, so there are no sentence-order pairs: only "
                "masked words are trained and judged, and the sentence-order head keeps its initial weights"
            )
        ]
    if not paired[~held].any():
        return ["no training document has two sentences in order: the sentence-order head keeps its initial weights"]
    if not paired[held].any():
        return ["no held-out document has two sentences in order: sentence order is trained, but not judged"]
    return []
