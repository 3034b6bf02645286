"""Tokenizer: text -> token ids as Google's reference tokenizer gives them, with spans into the original text.

`encode` explains one text or pair; `encode_batch` and `ids` are for millions of them. How a text is cut into pieces is
in albert_cli.tokenization.segmenters; here are special tokens, pairs, truncation, windows and padding.
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from albert_cli.errors import Notice, TokenizerError
from albert_cli.tokenization.added_tokens import AddedTokenSegmenter
from albert_cli.tokenization.segmenters import Piece, Segmenter, SentencePieceSegmenter, TokenizersSegmenter
from converters.errors import ConfigError, CorruptError, FormatError
from converters.files import read_small
from converters.tokenizers.files import TokenizerFiles, parse_model, parse_wordpiece
from converters.tokenizers.settings import read_tokenizer
from converters.tokenizers.tokenizer_json import bert_normalizer, preparation, tokenizer_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from converters.checkpoint import Checkpoint

Truncation = Literal["longest_first", "only_first", "only_second"]
TRUNCATIONS: tuple[Truncation, ...] = ("longest_first", "only_first", "only_second")

CONTROL = "control"
# Texts handed to SentencePiece at once: enough to keep its threads busy, few enough to hold in memory.
_CHUNK = 32768


@dataclass(frozen=True)
class Encoding:
    """A text or pair as a model takes it; every list has one entry per token.

    `offsets` are spans (start, end) in characters of the original text, or of the second where `sequence_ids` is 1; a
    special token has the span (0, 0) and no sequence. `kinds`: normal, unknown, user-defined, byte, control, added, or
    "digit-comma split". `truncated` counts the tokens left out; `overflowing` holds the further windows.
    """

    ids: list[int]
    pieces: list[str]
    kinds: list[str]
    offsets: list[tuple[int, int]]
    sequence_ids: list[int | None]
    token_type_ids: list[int]
    attention_mask: list[int]
    special_tokens_mask: list[int]
    truncated: int = 0
    overflowing: list[Encoding] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def windows(self) -> Iterator[Encoding]:
        """This encoding, then the further ones."""
        yield self
        yield from self.overflowing


@dataclass(frozen=True)
class TokenBatch:
    """Many encodings without a Python object per token: row i is `ids[starts[i]:starts[i + 1]]`.

    `ids` int32 (tokens), `token_type_ids` uint8 (tokens), `starts` int64 (rows + 1), `truncated` int32 (rows): how many
    tokens of the row were left out.
    """

    ids: NDArray[np.int32]
    token_type_ids: NDArray[np.uint8]
    starts: NDArray[np.int64]
    truncated: NDArray[np.int32]
    pad_id: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        row %= len(self)
        return self.ids[self.starts[row] : self.starts[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per row."""
        return self.starts[1:] - self.starts[:-1]

    def padded(self, rows: Any = slice(None), *, length: int | None = None, multiple_of: int = 1) -> dict[str, Any]:
        """`input_ids`, `token_type_ids` and `attention_mask` of some rows, int64 (rows, width), padded on the right.

        `rows` is anything that indexes an array. The width is that of the longest row, or `length`, rounded up.
        """
        import numpy as np

        starts, lengths = self.starts[:-1][rows], self.lengths[rows]
        width = int(lengths.max(initial=0)) if length is None else length
        width = -(-width // multiple_of) * multiple_of
        if lengths.max(initial=0) > width:
            raise TokenizerError(f"a row of {lengths.max()} tokens does not fit a width of {width}; truncate first")
        columns = np.arange(width)
        mask = columns < lengths[:, None]  # (rows, width)
        places = (starts[:, None] + columns)[mask]
        input_ids = np.full(mask.shape, self.pad_id, np.int64)
        input_ids[mask] = self.ids[places]
        token_type_ids = np.zeros(mask.shape, np.int64)
        token_type_ids[mask] = self.token_type_ids[places]
        return {"input_ids": input_ids, "token_type_ids": token_type_ids, "attention_mask": mask.astype(np.int64)}


class Tokenizer:
    """The tokenizer of an ALBERT: SentencePiece under Google's rules, or BERT WordPiece for the Chinese models."""

    def __init__(self, segmenter: Segmenter, *, cut_left: bool = False, one_type: bool = False) -> None:
        self.segmenter = segmenter
        self._cut_left, self._second_type = cut_left, int(not one_type)
        named = segmenter.special_tokens
        self._special_ids = {name: segmenter.id_of(token) for name, token in named.items()}
        self._reserved = {number: named[name] for name, number in self._special_ids.items() if number is not None}
        unknown = self._special_ids["unk"]
        self._control_ids = {number: token for number, token in self._reserved.items() if number != unknown}
        if isinstance(segmenter, AddedTokenSegmenter):
            self._control_ids |= segmenter.special_added

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
            strip_accents=files.strip_accents if keep_accents is None else None,
        )
        model = files.model()
        if not model and not files.wordpiece:
            raise TokenizerError("the model carries no tokenizer files; pass a spiece.model, .vocab or vocab.txt")
        if not model and raw:
            raise TokenizerError(f"{files.origin}: a WordPiece list cannot be used raw; only SentencePiece models can")
        segmenter = _sentencepiece(files, model, raw) if model else _wordpiece(files)
        return cls(segmenter, cut_left=files.cut_left, one_type=files.one_type)

    @classmethod
    def of_model(cls, checkpoint: Checkpoint, name: str | None = None, *, lowercase: bool | None = None) -> Tokenizer:
        """The tokenizer of a model that is to compute; TokenizerError where it has ids without a row in the model."""
        tokenizer = cls.from_files(checkpoint.tokenizer, lowercase=lowercase)
        if len(tokenizer) > checkpoint.config.vocab_size:
            raise TokenizerError(
                f"{name or checkpoint.where}: the tokenizer has {len(tokenizer)} pieces, the model only "
                f"{checkpoint.config.vocab_size}"
            )
        return tokenizer

    @classmethod
    def from_pretrained(
        cls,
        path: Path | str,
        *,
        lowercase: bool | None = None,
        keep_accents: bool | None = None,
        raw: bool = False,
    ) -> Tokenizer:
        """The tokenizer of a model of any format, or of a file alone.

        Files: a SentencePiece `.model`, a `.vocab` of pieces and scores, a WordPiece list (`vocab.txt`), a
        `tokenizer.json` (taken as it is). Raises AlbertError's children, each with one line.
        """
        path = Path(path)
        if path.suffix == ".json" and path.is_file() and path.name != "config.json":
            return cls(TokenizersSegmenter(read_small(path), str(path)))
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
        is that token, where it is plain text otherwise; or only those named are. `max_length` counts special tokens;
        what exceeds it is left out, or with `stride` comes in further windows, each beginning with the last `stride`
        tokens of the one before.
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
        first: Sequence[Piece],
        second: Sequence[Piece] | None = None,
        *,
        special_tokens: bool = True,
        max_length: int | None = None,
        truncation: Truncation = "longest_first",
        stride: int | None = None,
        pad_to: int | None = None,
    ) -> Encoding:
        """Make an encoding of pieces (see `encode`)."""
        keep = _Truncation(max_length, truncation, special_tokens, second is not None)
        lengths = len(first), len(second or ())
        kept = keep(*lengths)
        if stride is None or kept == lengths:
            return self._join(
                self._kept(first, kept[0]),
                second and self._kept(second, kept[1]),
                special_tokens,
                sum(lengths) - sum(kept),
                pad_to,
            )
        if self._cut_left:
            raise TokenizerError("windows begin at a text's beginning, but truncation_side is left; set it to right")
        if second is not None and truncation == "longest_first":
            raise TokenizerError("windows over a pair need truncation only_first or only_second: which text slides?")
        side = 1 if truncation == "only_second" else 0
        width = kept[side]
        if not 0 <= stride < width:
            raise TokenizerError(
                f"a stride of {stride} tokens does not fit windows of {width}; choose 0 to {width - 1}"
            )
        starts = range(0, lengths[side] - stride, width - stride)
        windows = []
        for start in starts:
            window = slice(start, start + width)
            parts = (first, second and second[window]) if side else (first[window], second)
            windows.append(self._join(*parts, special_tokens, 0, pad_to))
        return _with_overflow(windows)

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
        import numpy as np

        if pairs is not None and len(pairs) != len(texts):
            raise TokenizerError(f"{len(texts)} first texts but {len(pairs)} second ones")
        keep = _Truncation(max_length, truncation, special_tokens, pairs is not None)
        around = (self.cls_id, self.sep_id) if special_tokens else None
        chunks = [
            self._batch(
                self.ids(texts[low : low + _CHUNK], threads=threads),
                self.ids(pairs[low : low + _CHUNK], threads=threads) if pairs is not None else None,
                keep,
                around,
            )
            for low in range(0, len(texts), _CHUNK)
        ] or [self._batch([], None, keep, around)]
        ids, kinds, lengths, truncated = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return TokenBatch(ids, kinds, starts, truncated, pad_id=self._special_ids["pad"] or 0)

    def _kept(self, part: Sequence[Any], count: int) -> Sequence[Any]:
        """So many tokens of a text, from the side that is not cut."""
        return part[len(part) - count :] if self._cut_left else part[:count]

    def _batch(
        self,
        firsts: list[list[int]],
        seconds: list[list[int]] | None,
        keep: _Truncation,
        around: tuple[int, int] | None,
    ) -> tuple[Any, Any, Any, Any]:
        """Flat ids, token types, length of each row, tokens left out of each; without a loop over the tokens."""
        import numpy as np

        sides = [firsts] if seconds is None else [firsts, seconds]
        lengths = np.array([[len(row) for row in side] for side in sides], np.int64).T  # (rows, sides)
        totals = lengths.sum(axis=1)
        if keep.limit is not None:
            for row in np.flatnonzero(totals > keep.limit).tolist():
                for side, kept in zip(sides, keep(*lengths[row].tolist()), strict=False):
                    side[row] = list(self._kept(side[row], kept))
        segments = firsts if seconds is None else [part for row in zip(firsts, seconds, strict=True) for part in row]
        sizes = np.array([len(segment) for segment in segments], np.int64)
        truncated = totals - sizes.reshape(-1, len(sides)).sum(axis=1)
        bare = np.fromiter(itertools.chain.from_iterable(segments), np.int32, int(sizes.sum()))
        ids = bare
        if around:
            first = np.arange(len(segments)) % len(sides) == 0
            ends = np.cumsum(sizes + 1 + first)
            sizes = sizes + 1 + first
            begins = (ends - sizes)[first]
            ids = np.empty(int(sizes.sum()), np.int32)
            plain = np.ones(len(ids), bool)
            plain[begins] = plain[ends - 1] = False
            ids[plain] = bare
            ids[begins], ids[ends - 1] = around
        kinds = np.repeat(np.arange(len(segments)) % len(sides) * self._second_type, sizes).astype(np.uint8)
        return ids, kinds, sizes.reshape(-1, len(sides)).sum(axis=1), truncated.astype(np.int32)

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
        return " ".join([*words, self.segmenter.decode(run)] if run else words)

    def _special(self, name: str) -> int:
        number = self._special_ids[name]
        if number is None:
            token = self.segmenter.special_tokens[name]
            raise TokenizerError(f"the vocabulary has no {token} token; it is not an ALBERT's")
        return number

    def _pieces(self, text: str, special_in_text: bool | Collection[str]) -> list[Piece]:
        if not special_in_text:
            return self.segmenter.pieces(text)
        import re

        pieces: list[Piece] = []
        wanted = self._reserved.values() if special_in_text is True else special_in_text
        by_token = {token: number for number, token in self._reserved.items() if token in wanted}
        if not by_token:
            return self.segmenter.pieces(text)
        position = 0
        for part in re.split(f"({'|'.join(map(re.escape, by_token))})", text):
            end = position + len(part)
            if part in by_token:
                pieces.append(Piece(by_token[part], part, position, end, CONTROL))
            elif part:
                continued = position > 0 and not part[0].isspace()
                pieces += (
                    Piece(piece.id, piece.piece, piece.start + position, piece.end + position, piece.kind)
                    for piece in self.segmenter.pieces(part, continued=continued)
                )
            position = end
        return pieces

    def _join(
        self,
        first: Sequence[Piece],
        second: Sequence[Piece] | None,
        special_tokens: bool,
        truncated: int,
        pad_to: int | None,
    ) -> Encoding:
        def special(number: int) -> Piece:
            return Piece(number, self.segmenter.piece(number), 0, 0, CONTROL)

        # (piece, sequence, token type): a special token belongs to no sequence.
        tokens: list[tuple[Piece, int | None, int]] = [(piece, 0, 0) for piece in first]
        if special_tokens:
            tokens = [(special(self.cls_id), None, 0), *tokens, (special(self.sep_id), None, 0)]
        if second is not None:
            tokens += [(piece, 1, self._second_type) for piece in second]
            if special_tokens:
                tokens.append((special(self.sep_id), None, self._second_type))
        real = len(tokens)
        if pad_to is not None:
            if real > pad_to:
                raise TokenizerError(f"{real} tokens do not fit a length of {pad_to}; truncate first")
            tokens += [(special(self.pad_id), None, 0)] * (pad_to - real)
        return Encoding(
            ids=[piece.id for piece, _, _ in tokens],
            pieces=[piece.piece for piece, _, _ in tokens],
            kinds=[piece.kind for piece, _, _ in tokens],
            offsets=[(piece.start, piece.end) for piece, _, _ in tokens],
            sequence_ids=[sequence for _, sequence, _ in tokens],
            token_type_ids=[kind for _, _, kind in tokens],
            attention_mask=[int(n < real) for n in range(len(tokens))],
            special_tokens_mask=[int(piece.kind == CONTROL) for piece, _, _ in tokens],
            truncated=truncated,
        )


class _Truncation:
    """How many tokens of each segment stay within a length; TokenizerError where that cannot be."""

    def __init__(self, max_length: int | None, strategy: Truncation, special_tokens: bool, paired: bool) -> None:
        if strategy not in TRUNCATIONS:
            raise TokenizerError(f"truncation is {strategy!r}, not one of {', '.join(TRUNCATIONS)}")
        if strategy == "only_second" and not paired:
            raise TokenizerError("truncation only_second needs a pair of texts")
        around = (3 if paired else 2) if special_tokens else 0
        if max_length is not None and max_length <= around:
            raise TokenizerError(
                f"a maximal length of {max_length} leaves no room for text beside {around} special tokens"
            )
        self.max_length, self.strategy = max_length, strategy
        self.limit = None if max_length is None else max_length - around

    def __call__(self, first: int, second: int = 0) -> tuple[int, int]:
        if self.limit is None or first + second <= self.limit:
            return first, second
        if self.strategy == "longest_first":
            # One by one from the longer, from the second where both are as long (Google's _truncate_seq_pair).
            half = self.limit // 2
            if second <= half:
                return self.limit - second, second
            if first <= self.limit - half:
                return first, self.limit - first
            return self.limit - half, half
        side = self.strategy == "only_second"
        other = first if side else second
        if other >= self.limit:
            which = ("second", "first") if not side else ("first", "second")
            raise TokenizerError(
                f"the {which[0]} text alone has {other} tokens of {self.limit}; nothing of the {which[1]} would be left"
            )
        return (first, self.limit - first) if side else (self.limit - second, second)


def find_tokenizer_files(path: Path) -> TokenizerFiles:
    """The tokenizer files at `path`: a file of them, a directory with them, or a model of any format."""
    from converters import convert

    if path.is_file() and path.suffix in (".model", ".vocab", ".txt"):
        return _file(path)
    try:
        files = convert.load(path).tokenizer
    except FormatError:
        # A directory of tokenizer files without weights.
        files = read_tokenizer(path) if path.is_dir() else TokenizerFiles()
        if not files and files.fault is None:
            raise
    if files.fault is not None:
        raise ConfigError(files.fault)
    if not files:
        raise TokenizerError(
            f"{path}: the model carries no tokenizer; pass a spiece.model, .vocab or vocab.txt instead"
        )
    return files


def _file(path: Path) -> TokenizerFiles:
    if not read_small(path):
        raise CorruptError(f"{path}: the file is empty")
    return replace(read_tokenizer(path.parent, only=path), origin=str(path))


def _sentencepiece(files: TokenizerFiles, model: bytes, raw: bool) -> Segmenter:
    segmenter = SentencePieceSegmenter(
        model,
        files.origin,
        lowercase=files.lowercase,
        keep_accents=files.keep_accents,
        raw=raw,
        special_tokens=files.special_tokens,
    )
    if raw or not files.added:
        return segmenter
    charsmap = parse_model(model, files.origin).normalizer_spec.precompiled_charsmap
    return AddedTokenSegmenter(segmenter, files.added, preparation(files, charsmap))


def _wordpiece(files: TokenizerFiles) -> Segmenter:
    plain = replace(files, added=())
    segmenter = TokenizersSegmenter(
        tokenizer_json(plain, special_tokens=False) or b"",
        files.origin,
        special_tokens=files.special_tokens,
        tokens=parse_wordpiece(files.wordpiece or b"", files.origin, files.special_tokens["unk"]),
    )
    return AddedTokenSegmenter(segmenter, files.added, [bert_normalizer(files)]) if files.added else segmenter


def _with_overflow(windows: list[Encoding]) -> Encoding:
    return replace(windows[0], overflowing=windows[1:])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
