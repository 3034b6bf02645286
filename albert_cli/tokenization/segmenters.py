"""Text -> pieces: what a segmenter is, SentencePiece under Google's rules, and any `tokenizer.json`.

A segmenter knows pieces and ids; special tokens, pairs and lengths are the tokenizer's (tokenization.tokenizer).
WordPiece is in tokenization.wordpiece, BPE in tokenization.byte_level.
"""

from __future__ import annotations

import functools
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from albert_cli.errors import TokenizerError
from albert_cli.tokenization.foreign_pipeline import checked, native_errors
from albert_cli.tokenization.pieces import CODES, DIGIT_COMMA, NORMAL, UNKNOWN, Pieces
from albert_cli.tokenization.preparation import encodable, prepare, prepare_for_sentencepiece, prepare_with_sources
from albert_cli.tokenization.spans import SPACE, Spans, spans_of, trimmed
from converters.errors import CorruptError
from converters.libraries import require_library
from converters.tokenizers.files import BPE_TOKENS, SENTENCEPIECE_TOKENS, WORDPIECE_TOKENS
from converters.tokenizers.sentencepiece_model import ends_in_digit_comma, parse_model

Mark = Literal["▁", "Ġ", "##"]
BYTE_SPACE: Final = "Ġ"
CONTINUED: Final = "##"
NBEST_LIMIT = 512
# Blanks that a model's own normalisation may collapse or not.
_BLANKS = " \t\r\n a \t \r \n  b\t \n\r"


class Segmenter(Protocol):
    """Cuts texts into pieces of a vocabulary."""

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """What `cls`, `sep`, `mask`, `pad` and `unk` are called."""

    @property
    def mark(self) -> Mark:
        """What pieces begin with: `▁` or `Ġ` those that begin a word after a space, `##` those that continue one."""

    def __len__(self) -> int:
        """The size of the vocabulary."""

    def ids(self, texts: Sequence[str], threads: int) -> list[list[int]]:
        """The ids of each text."""

    def pieces(self, text: str, *, continued: bool = False) -> Pieces:
        """The pieces of one text with their spans; `continued`: it continues a word that began before."""

    def prepare(self, text: str) -> str:
        """The text as it is before it is cut."""

    def piece(self, number: int) -> str: ...

    def id_of(self, piece: str) -> int | None: ...

    def score(self, number: int) -> float | None:
        """The log-probability of the piece, where the model has one."""

    def decode(self, ids: Sequence[int]) -> str: ...


class SentencePieceSegmenter:
    """A SentencePiece model under Google's preparation and digit-comma rule; with `raw` the model alone."""

    mark: Mark = SPACE

    def __init__(
        self,
        model: bytes,
        where: str,
        *,
        lowercase: bool,
        keep_accents: bool,
        raw: bool = False,
        special_tokens: Mapping[str, str] = SENTENCEPIECE_TOKENS,
    ) -> None:
        self._model, self._where, self.special_tokens = model, where, special_tokens
        self.lowercase, self.keep_accents, self.raw = lowercase, keep_accents, raw
        self._processor = _processor(model, where)
        self._size: int = self._processor.get_piece_size()
        normalize = self._processor.normalize
        self._collapses = normalize(_BLANKS) == normalize("a b")
        pieces = (self._processor.id_to_piece(number) for number in range(self._size))
        split = {n: piece for n, piece in enumerate(pieces) if ends_in_digit_comma(piece)}
        # An unknown run never ends in a comma as the comma is a piece of its own, so the rule is a table by id.
        self._split = {} if raw else {number: self._split_again(piece) for number, piece in split.items()}
        self._split_ids = frozenset(self._split)

    def __len__(self) -> int:
        return self._size

    def prepare(self, text: str) -> str:
        if self.raw:
            return encodable(text)
        return prepare(text, lowercase=self.lowercase, keep_accents=self.keep_accents)

    def ids(self, texts: Sequence[str], threads: int) -> list[list[int]]:
        if self.raw:
            prepared = [encodable(text) for text in texts]
        elif self._collapses:
            prepared = prepare_for_sentencepiece(texts, lowercase=self.lowercase, keep_accents=self.keep_accents)
        else:
            prepared = [self.prepare(text) for text in texts]
        rows: list[list[int]] = self._processor.encode(prepared, out_type=int, num_threads=threads)
        if self._split:
            untouched, split = self._split_ids.isdisjoint, self._split_to_ids
            for number, (text, row) in enumerate(zip(prepared, rows, strict=True)):
                if ("," in text or not text.isascii()) and not untouched(row):
                    rows[number] = [new for old in row for new in split.get(old, (old,))]
        return rows

    def pieces(self, text: str, *, continued: bool = False) -> Pieces:
        processor = self._without_prefix if continued else self._processor
        place = self._places(text, processor)
        return self._located(processor.encode(self.prepare(text), out_type=str), processor, place)

    def nbest(self, text: str, count: int) -> list[tuple[float, Pieces]]:
        """The `count` (1 to NBEST_LIMIT) likeliest ways to cut the text, best first, each with its log-probability."""
        if not 1 <= count <= NBEST_LIMIT:
            raise TokenizerError(f"SentencePiece gives 1 to {NBEST_LIMIT} alternatives, not {count}")
        from sentencepiece import sentencepiece_pb2

        answer = self._processor.nbest_encode(self.prepare(text), nbest_size=count, out_type="serialized_proto")
        place = self._places(text, self._processor)
        return [
            (way.score, self._located([piece.piece for piece in way.pieces], self._processor, place))
            for way in sentencepiece_pb2.NBestSentencePieceText.FromString(answer).nbests
        ]

    def sample(self, text: str, random: Random, *, alpha: float, nbest: int) -> tuple[float, Pieces]:
        """One of the `nbest` likeliest ways, drawn with probability ~ exp(alpha · score).

        Subword regularisation (Kudo 2018, arXiv 1804.10959). SentencePiece's own draws cannot be repeated: its seed is
        mixed with what differs from run to run.
        """
        ways = self.nbest(text, nbest)
        best = ways[0][0]
        return random.choices(ways, [math.exp(alpha * (score - best)) for score, _ in ways])[0]

    def piece(self, number: int) -> str:
        return str(self._processor.id_to_piece(number))

    def id_of(self, piece: str) -> int | None:
        number: int = self._processor.piece_to_id(piece)
        return number if self.piece(number) == piece else None

    def score(self, number: int) -> float:
        return float(self._processor.get_score(number))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._processor.decode(list(ids)))

    def _prepare_with_sources(self, text: str) -> tuple[str, Sequence[int]]:
        if self.raw:
            return encodable(text), range(len(text))
        return prepare_with_sources(text, lowercase=self.lowercase, keep_accents=self.keep_accents)

    def _split_again(self, piece: str) -> list[str]:
        """Google's rule (tokenization.py, encode_pieces): encode the part before the comma again."""
        again: list[str] = self._processor.encode(piece[:-1].replace(SPACE, ""), out_type=str)
        if not piece.startswith(SPACE) and again[0].startswith(SPACE):
            again = [again[0][1:], *again[1:]] if len(again[0]) > 1 else again[1:]
        return [*again, ","]

    @functools.cached_property
    def _split_to_ids(self) -> dict[int, tuple[int, ...]]:
        to_id = self._processor.piece_to_id
        return {number: tuple(map(to_id, again)) for number, again in self._split.items()}

    def _places(self, text: str, processor: Any) -> Callable[[NDArray[np.int32]], Spans]:
        """What gives the span of each piece by the normalised characters it takes."""
        prepared, sources = self._prepare_with_sources(text)
        normalised, offsets = processor.normalize(prepared, with_offsets=True)
        starts = np.array(offsets, np.int32)  # the list takes ten times as much
        return lambda lengths: spans_of(text, lengths, normalised, starts, sources)

    def _located(self, surfaces: list[str], processor: Any, place: Callable[[NDArray[np.int32]], Spans]) -> Pieces:
        """The pieces with ids, kinds and spans; `surfaces` are SentencePiece's own, before the digit-comma rule."""
        ids, kinds, lengths, texts = array("i"), bytearray(), array("i"), []
        known, to_id, again, split = self._known, processor.piece_to_id, self._split, CODES[DIGIT_COMMA]
        for surface in surfaces:
            parts = again.get(to_id(surface))
            for part in parts or (surface,):
                number = to_id(part)
                piece, kind, length = known[number]
                ids.append(number)
                texts.append(piece if piece == part else part)
                kinds.append(split if parts else kind)
                lengths.append(len(part) if parts or length is None else length)
        return Pieces(ids, texts, *place(np.array(lengths, np.int32)), kinds)

    @functools.cached_property
    def _known(self) -> list[tuple[str, int, int | None]]:
        """Of each id the piece, the code of its kind, and of a byte how many characters it takes of a text."""
        names = [self.piece(number) for number in range(self._size)]
        return [
            (piece, CODES[kind], _characters_of(piece) if kind == "byte" else None)
            for piece, kind in zip(names, self._kinds, strict=True)
        ]

    @functools.cached_property
    def _kinds(self) -> list[str]:
        model = parse_model(self._model, self._where)
        name = type(model.pieces[0]).Type.Name
        return [name(piece.type).lower().replace("_", "-") for piece in model.pieces]

    @functools.cached_property
    def _without_prefix(self) -> Any:
        """The same model, but it puts no `▁` before a text."""
        model = parse_model(self._model, self._where)
        model.normalizer_spec.add_dummy_prefix = False
        return _processor(model.SerializeToString(), self._where)


class TokenizersSegmenter:
    """A `tokenizer.json`, as Hugging Face's `tokenizers` library runs it."""

    def __init__(self, pipeline: bytes, where: str) -> None:
        require_library("tokenizers", "reading a tokenizer.json")
        from tokenizers import Tokenizer

        self._native = functools.partial(native_errors, where)
        sound = checked(pipeline, where)
        with self._native():
            self._tokenizer = Tokenizer.from_str(sound)
        self.mark, self.special_tokens = self._kind()
        self._unknown = self.id_of(self.special_tokens["unk"])
        self._size = 1 + max(self._tokenizer.get_vocab().values(), default=-1)

    def __len__(self) -> int:
        return self._size

    def _kind(self) -> tuple[Mark, Mapping[str, str]]:
        if self.id_of("[PAD]") is not None:
            return CONTINUED, WORDPIECE_TOKENS
        return (BYTE_SPACE, BPE_TOKENS) if self.id_of(BYTE_SPACE) is not None else (SPACE, SENTENCEPIECE_TOKENS)

    def prepare(self, text: str) -> str:
        normalizer = self._tokenizer.normalizer
        text = encodable(text)
        with self._native():
            return str(normalizer.normalize_str(text)) if normalizer else text

    def ids(self, texts: Sequence[str], threads: int) -> list[list[int]]:
        # The library has its own pool of threads, which cannot be sized by call.
        texts = [encodable(text) for text in texts]
        with self._native():
            return [row.ids for row in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def pieces(self, text: str, *, continued: bool = False) -> Pieces:
        with self._native():
            row = self._tokenizer.encode(encodable(text), add_special_tokens=False)
        ids = np.array(row.ids, np.int32)
        spans = np.array([trimmed(text, *span) for span in row.offsets], np.int32).reshape(-1, 2)
        kinds = np.where(ids == self._unknown, CODES[UNKNOWN], CODES[NORMAL])
        return Pieces(ids, row.tokens, spans[:, 0], spans[:, 1], kinds)

    def piece(self, number: int) -> str:
        return str(self._tokenizer.id_to_token(number) or "")

    def id_of(self, piece: str) -> int | None:
        number: int | None = self._tokenizer.token_to_id(piece)
        return number

    def score(self, number: int) -> float | None:
        return None

    def decode(self, ids: Sequence[int]) -> str:
        with self._native():
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))


def _processor(model: bytes, where: str) -> Any:
    parse_model(model, where)
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except (RuntimeError, ValueError) as error:
        raise CorruptError(f"{where}: not a sound SentencePiece model ({error})") from None
    return processor


def _characters_of(byte: str) -> int:
    """How many characters of the normalised text a byte such as <0xE2> takes; of a character, the first takes it."""
    return int(int(byte[3:5], 16) & 0xC0 != 0x80)
