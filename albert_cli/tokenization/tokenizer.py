"""Tokenizer: text -> token ids as Google's reference tokenizer gives them, with spans into the original text.

`encode` explains one text or pair; `encode_batch` and `ids` are for millions of them. How a text is cut into pieces is
in segmenters, the special tokens around it in converters.tokenizers.template, cutting to a length in truncation.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from albert_cli import batching
from albert_cli.errors import Notice, TokenizerError
from albert_cli.registry.resolve import resolve
from albert_cli.tokenization.added_tokens import AddedTokenSegmenter
from albert_cli.tokenization.batch import TokenBatch, framed
from albert_cli.tokenization.encoding import Encoding, join
from albert_cli.tokenization.loading import NO_TOKENIZER, find_tokenizer_files, is_one_of_several, segmenter_of
from albert_cli.tokenization.pieces import CONTROL, Piece, Pieces
from albert_cli.tokenization.segmenters import BYTE_SPACE, Segmenter, TokenizersSegmenter
from albert_cli.tokenization.truncation import Limit, Truncation
from converters.errors import ConfigError
from converters.files import read_small
from converters.tokenizers.files import BPE_TOKENS, SENTENCEPIECE_TOKENS, WORDPIECE_TOKENS, TokenizerFiles
from converters.tokenizers.template import CLS_A_SEP_B_SEP, S_A_S_S_B_S, Template
from converters.tokenizers.vocabulary import misfits

if TYPE_CHECKING:
    from converters.checkpoint import Checkpoint

# Texts handed to SentencePiece at once: enough to keep its threads busy, few enough to hold in memory.
_CHUNK = 32768

# How people write a mask, whatever a model's own vocabulary calls it: [MASK], <mask>.
_MASKS = tuple(dict.fromkeys(tokens["mask"] for tokens in (SENTENCEPIECE_TOKENS, WORDPIECE_TOKENS, BPE_TOKENS)))


class Tokenizer:
    """The tokenizer of a model: SentencePiece or WordPiece under Google's rules, or byte-level BPE under fairseq's.

    `roles`: the template of special tokens, by what they are called in `segmenter.special_tokens`. `cut_left`: a long
    text loses its beginning.
    """

    def __init__(self, segmenter: Segmenter, *, roles: Template[str] = CLS_A_SEP_B_SEP, cut_left: bool = False) -> None:
        self.segmenter = segmenter
        self._roles, self._cut_left = roles, cut_left
        named = segmenter.special_tokens
        self._special_ids = {name: segmenter.id_of(token) for name, token in named.items()}
        self._reserved = {number: named[name] for name, number in self._special_ids.items() if number is not None}
        unknown = self._special_ids["unk"]
        self._control_ids = {number: token for number, token in self._reserved.items() if number != unknown}
        if isinstance(segmenter, AddedTokenSegmenter):
            self._control_ids |= segmenter.special_added

    def __repr__(self) -> str:
        kind = type(getattr(self.segmenter, "inner", self.segmenter)).__name__.removesuffix("Segmenter")
        return f"<Tokenizer {kind}: {len(self):,} pieces>"

    @classmethod
    def from_files(
        cls,
        files: TokenizerFiles,
        *,
        lowercase: bool | None = None,
        keep_accents: bool | None = None,
        raw: bool = False,
    ) -> Tokenizer:
        """The tokenizer of a checkpoint's files; what is not given is as the files say.

        `raw`: no preparation and no digit-comma rule, SentencePiece alone. Raises CorruptError for damaged files,
        ConfigError for settings that are not computed here and TokenizerError where there are none.
        """
        if files.fault is not None:
            raise ConfigError(files.fault)
        for note in files.notes:
            warnings.warn(note, Notice, stacklevel=2)
        files = replace(
            files,
            lowercase=files.lowercase if lowercase is None else lowercase,
            keep_accents=files.keep_accents if keep_accents is None else keep_accents,
            strip_accents=files.strip_accents if keep_accents is None else not keep_accents,
        )
        return cls(segmenter_of(files, raw=raw), roles=files.template, cut_left=files.cut_left)

    @classmethod
    def of_model(cls, checkpoint: Checkpoint, name: str | None = None, *, lowercase: bool | None = None) -> Tokenizer:
        """The tokenizer of a model that is to compute; TokenizerError where it has ids without a row in the model."""
        if not checkpoint.tokenizer and checkpoint.tokenizer.fault is None:
            raise TokenizerError(name or checkpoint.where, NO_TOKENIZER)
        tokenizer = cls.from_files(checkpoint.tokenizer, lowercase=lowercase)
        if len(tokenizer) > checkpoint.config.vocab_size:
            raise TokenizerError(
                f"{name or checkpoint.where}: the tokenizer has {len(tokenizer)} pieces, the model only "
                f"{checkpoint.config.vocab_size}"
            )
        if faults := misfits(checkpoint.tokenizer, checkpoint.config):
            raise TokenizerError(name or checkpoint.where, "; ".join(faults))
        return tokenizer

    @classmethod
    def from_pretrained(
        cls,
        path: Path | str | None = None,
        *,
        lowercase: bool | None = None,
        keep_accents: bool | None = None,
        raw: bool = False,
    ) -> Tokenizer:
        """The tokenizer of a model by path, of any format, by name or Hub repository, or of a file alone.

        None is the default model (`albert_cli.registry.resolve.resolve`). Files: a SentencePiece `.model`, a `.vocab`
        of pieces and scores, a WordPiece list (`vocab.txt`), `vocab.json` with `merges.txt` beside it, a
        `tokenizer.json` (taken as it is). Raises AlbertError's children, each with one line.
        """
        path = resolve(path, tokenizer_only=True).path
        piped = path.suffix == ".json" and path.is_file() and path.name != "config.json"
        if piped and not is_one_of_several(path):
            pipeline = TokenizersSegmenter(read_small(path), str(path))
            return cls(pipeline, roles=S_A_S_S_B_S if pipeline.mark == BYTE_SPACE else CLS_A_SEP_B_SEP)
        return cls.from_files(find_tokenizer_files(path), lowercase=lowercase, keep_accents=keep_accents, raw=raw)

    @property
    def cls_id(self) -> int:
        return self._special("cls")

    @property
    def sep_id(self) -> int:
        return self._special("sep")

    @property
    def mask_id(self) -> int:
        return self._special("mask")

    @property
    def pad_id(self) -> int:
        return self._special("pad")

    @property
    def unk_id(self) -> int:
        return self._special("unk")

    @functools.cached_property
    def masks(self) -> tuple[str, ...]:
        """How a text may spell the mask: as the vocabulary does, or as other models do (`<mask>` for `[MASK]`, and the
        reverse) where that is no other piece of this vocabulary."""
        known = self.segmenter.id_of
        return (self.segmenter.special_tokens["mask"], *(token for token in _MASKS if known(token) is None))

    def mask_spans(self, text: str) -> list[tuple[int, int]]:
        """Where a text has masks, in any of these spellings: (start, end) of each, in order."""
        return [match.span() for match in re.finditer("|".join(map(re.escape, self.masks)), text)]

    @functools.cached_property
    def template(self) -> Template[int]:
        """The ids of the special tokens around a text or a pair; TokenizerError where the vocabulary lacks one."""
        return self._roles.map(self._special)

    def __len__(self) -> int:
        """The size of the vocabulary."""
        return len(self.segmenter)

    def is_added(self, piece: str) -> bool:
        """Whether this is a token beside the vocabulary's own."""
        return isinstance(self.segmenter, AddedTokenSegmenter) and self.segmenter.is_added(piece)

    def prepare(self, text: str) -> str:
        """The text as it is before it is cut into pieces."""
        return self.segmenter.prepare(text)

    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        special_tokens: bool = True,
        special_in_text: bool | Collection[str] = False,
        max_length: int | None = None,
        truncation: Truncation = "longest_first",
        stride: int | None = None,
        pad_to: int | None = None,
    ) -> Encoding:
        """Encode a text or a pair, with spans into the original text.

        `special_tokens`: put `[CLS]` and `[SEP]` around. `special_in_text`: a literal `[MASK]`, `[CLS]`, … in the text
        is that token, where it is plain text otherwise; or only those named are, a mask however it is spelt (`masks`).
        `max_length` counts special tokens; what exceeds it is left out, or with `stride` comes in further windows, each
        beginning with the last `stride` tokens of the one before.
        Raises TokenizerError where the lengths cannot be met.
        """
        first = self._pieces(text, special_in_text)
        second = None if pair is None else self._pieces(pair, special_in_text)
        return self.assemble(
            first,
            second,
            special_tokens=special_tokens,
            max_length=max_length,
            truncation=truncation,
            stride=stride,
            pad_to=pad_to,
        )

    def assemble(
        self,
        first: Pieces,
        second: Pieces | None = None,
        *,
        special_tokens: bool = True,
        max_length: int | None = None,
        truncation: Truncation = "longest_first",
        stride: int | None = None,
        pad_to: int | None = None,
    ) -> Encoding:
        """Make an encoding of pieces (see `encode`)."""
        template = self._frame(special_tokens).map(self._control)
        pad = None if pad_to is None else self._control(self.pad_id)
        pair = second is not None
        limit = Limit(max_length, truncation, pair=pair, added=template.added(pair=pair))
        lengths = len(first), len(second or ())
        kept = limit.kept(*lengths)
        if stride is None or kept == lengths:
            first, second = self.kept(first, kept[0]), second and self.kept(second, kept[1])
            return join(template, first, second, truncated=sum(lengths) - sum(kept), pad=pad, pad_to=pad_to)
        if self._cut_left:
            raise TokenizerError("windows begin at a text's beginning, but truncation_side is left; set it to right")
        if pair and truncation == "longest_first":
            raise TokenizerError("windows over a pair need truncation only_first or only_second: which text slides?")
        side = 1 if truncation == "only_second" else 0
        width = kept[side]
        if not 0 <= stride < width:
            raise TokenizerError(
                f"a stride of {stride} tokens does not fit windows of {width}; choose 0 to {width - 1}"
            )
        windows = []
        for start in range(0, lengths[side] - stride, width - stride):
            window = slice(start, start + width)
            parts = (first, second and second[window]) if side else (first[window], second)
            windows.append(join(template, *parts, pad=pad, pad_to=pad_to))
        return replace(windows[0], overflowing=windows[1:])

    def ids(self, texts: Sequence[str], *, threads: int | None = None) -> list[list[int]]:
        """The ids of each text, without special tokens: the fastest way. `threads`: as many as cores by default."""
        return self.segmenter.ids(texts, threads or _cores())

    def encode_batch(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        special_tokens: bool = True,
        max_length: int | None = None,
        truncation: Truncation = "longest_first",
        threads: int | None = None,
    ) -> TokenBatch:
        """Encode many texts or pairs; row by row the ids of `encode`."""
        if pairs is not None and len(pairs) != len(texts):
            raise TokenizerError(f"{len(texts)} first texts but {len(pairs)} second ones")
        template, pair = self._frame(special_tokens), pairs is not None
        limit = Limit(max_length, truncation, pair=pair, added=template.added(pair=pair))
        parts = []
        for low in range(0, len(texts), _CHUNK):
            sides = [self.ids(side[low : low + _CHUNK], threads=threads) for side in (texts, pairs) if side is not None]
            truncated = self._truncate(sides, limit)
            parts.append((*framed(sides[0], sides[1] if pair else None, template), truncated))
        parts = parts or [(*framed([], None, template), np.zeros(0, np.int32))]
        ids, types, lengths, truncated = (np.concatenate(part) for part in zip(*parts, strict=True))
        return TokenBatch(ids, types, batching.starts(lengths), truncated, pad_id=self._special_ids["pad"] or 0)

    def _truncate(self, sides: list[list[list[int]]], limit: Limit) -> NDArray[np.int32]:
        """Cut the rows of ids that are too long, in place; how many tokens were left out of each text or pair."""
        lengths = np.array([[len(row) for row in side] for side in sides], np.int64).T  # (rows, sides)
        truncated = np.zeros(len(lengths), np.int32)
        if limit.tokens is not None:
            for row in np.flatnonzero(lengths.sum(axis=1) > limit.tokens).tolist():
                counts = limit.kept(*lengths[row].tolist())
                for side, count in zip(sides, counts, strict=False):
                    side[row] = list(self.kept(side[row], count))
                truncated[row] = lengths[row].sum() - sum(counts)
        return truncated

    def kept(self, part: Sequence[Any], count: int) -> Any:
        """`count` tokens of a text, from the side that is not cut."""
        return part[len(part) - count :] if self._cut_left else part[:count]

    def _frame(self, special_tokens: bool) -> Template[int]:
        return self.template if special_tokens else Template((), (), (), self._roles.types)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ids, as it was prepared; an unknown piece is ` ⁇ `. TokenizerError for an id out of range."""
        for position, number in enumerate(ids):
            if not 0 <= number < len(self):
                raise TokenizerError(
                    f"id {number} at position {position} is not in the vocabulary (0 to {len(self) - 1})"
                )
        if skip_special_tokens:
            return self.segmenter.decode([number for number in ids if number not in self._control_ids])
        words: list[str] = []
        run: list[int] = []
        for number in ids:
            if number not in self._control_ids:
                run.append(number)
                continue
            if run:
                words.append(self.segmenter.decode(run))
                run = []
            words.append(self._control_ids[number])
        between = "" if self.segmenter.mark == BYTE_SPACE else " "  # there, spaces are in the pieces
        return between.join([*words, self.segmenter.decode(run)] if run else words)

    def _special(self, name: str) -> int:
        number = self._special_ids[name]
        if number is None:
            token = self.segmenter.special_tokens[name]
            raise TokenizerError(f"the vocabulary has no {token} token, which this model's texts need")
        return number

    def _control(self, number: int) -> Piece:
        return Piece(number, self.segmenter.piece(number), 0, 0, CONTROL)

    def _pieces(self, text: str, special_in_text: bool | Collection[str]) -> Pieces:
        if not special_in_text:
            return self.segmenter.pieces(text)
        pieces: list[Iterable[Piece]] = []
        wanted = {*self._reserved.values(), *self.masks} if special_in_text is True else set(special_in_text)
        by_token = {token: number for number, token in self._reserved.items() if token in wanted}
        if wanted.intersection(self.masks) and self._special_ids["mask"] is not None:
            by_token |= dict.fromkeys(self.masks, self.mask_id)
        if not by_token:
            return self.segmenter.pieces(text)
        position = 0
        parts = re.split(f"({'|'.join(map(re.escape, by_token))})", text)
        for part, after in itertools.zip_longest(parts, parts[1:]):
            end = position + len(part)
            if part in by_token:
                number = by_token[part]
                pieces.append([Piece(number, self._reserved[number], position, end, CONTROL)])
            elif part:
                continued = position > 0 and not part[0].isspace()
                # The blank before a mask is that of the word which is masked.
                plain = part.rstrip() if after in self.masks else part
                pieces.append(self.segmenter.pieces(plain, continued=continued).moved(position))
            position = end
        return Pieces.joined(pieces)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
