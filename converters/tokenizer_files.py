"""The tokenizer's files as they travel with a checkpoint, and the way between a SentencePiece model and its vocabulary.

Google ships `30k-clean.model` and `30k-clean.vocab` (lines `piece<TAB>score`); Julia's files hold the lines only, so
the model must be rebuilt from them. Chinese models have a WordPiece list (`vocab_chinese.txt`) instead.
"""

from __future__ import annotations

import codecs
import functools
import hashlib
import io
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from converters.errors import CorruptError
from converters.files import need

# Far above any vocabulary.
_MOST_LINES = 500_000
_MOST_SHOWN = 120

# Google's training options: README of google-research/albert (spm_train), and the order of the first 13 pieces.
CONTROL_PIECES = ("<pad>", "[CLS]", "[SEP]", "[MASK]")
UNKNOWN_PIECE = "<unk>"
USER_DEFINED_PIECES = ("(", ")", '"', "-", ".", "–", "£", "€")  # noqa: RUF001


@dataclass(frozen=True)
class TokenizerFiles:
    """What a checkpoint carries of its tokenizer, byte for byte; every part may be absent.

    `spiece`: a SentencePiece model. `vocab`: `piece<TAB>score` lines, held only where they cannot be derived from
    `spiece`. `wordpiece`: a BERT vocabulary list. `lowercase` and `keep_accents` say how text is prepared (Google's
    English models: lower-cased, accents dropped). `origin` tells where the parts came from.
    """

    spiece: bytes | None = None
    vocab: bytes | None = None
    wordpiece: bytes | None = None
    lowercase: bool = True
    keep_accents: bool = False
    origin: str = "none"

    @classmethod
    def of(
        cls,
        where: str,
        *,
        spiece: bytes | None = None,
        vocab: bytes | None = None,
        wordpiece: bytes | None = None,
        settings: Mapping[str, Any] | None = None,
        origin: str,
    ) -> TokenizerFiles:
        """Check the parts found at `where` (CorruptError) and keep what is not derivable from another part."""
        if vocab and not vocab.endswith(b"\n"):
            vocab += b"\n"  # a format of lines cannot tell
        if spiece is not None and vocab == vocab_lines(spiece, where):
            vocab = None
        elif spiece is None and vocab is not None:
            check_vocab(vocab, where)
        settings = settings or {}
        return cls(
            spiece,
            vocab,
            wordpiece,
            lowercase=bool(settings.get("do_lower_case", True)),
            keep_accents=bool(settings.get("keep_accents", False)),
            origin=origin if spiece or vocab or wordpiece else "none",
        )

    def __bool__(self) -> bool:
        return bool(self.spiece or self.vocab or self.wordpiece)

    @property
    def settings(self) -> dict[str, Any]:
        """The preparation flags that differ from Google's English models, under their Hugging Face names."""
        different = {"do_lower_case": self.lowercase, "keep_accents": self.keep_accents}
        usual = {"do_lower_case": True, "keep_accents": False}
        return {key: value for key, value in different.items() if value != usual[key]}

    def model(self) -> bytes | None:
        """The SentencePiece model, rebuilt from the vocabulary lines where only those are at hand."""
        if self.spiece is None and self.vocab is not None:
            return rebuild_model(self.vocab, "the vocabulary")
        return self.spiece

    def lines(self) -> bytes | None:
        """The `piece<TAB>score` lines."""
        if self.vocab is None and self.spiece is not None:
            return vocab_lines(self.spiece, "the SentencePiece model")
        return self.vocab

    def digest(self) -> str | None:
        """SHA-256 of what decides the ids: the model's or WordPiece list's bytes, else those of the lines."""
        data = self.spiece or self.wordpiece or self.vocab
        return hashlib.sha256(data).hexdigest() if data else None

    @property
    def rebuilt(self) -> bool:
        return self.spiece is None and self.vocab is not None


def vocab_lines(model: bytes, where: str) -> bytes:
    """The `.vocab` file of a SentencePiece model: `piece<TAB>score`, the score as C prints `%g`."""
    return "".join(f"{piece.piece}\t{piece.score:g}\n" for piece in parse_model(model, where).pieces).encode()


def ends_in_digit_comma(piece: str) -> bool:
    """Whether Google splits the piece again (tokenization.py, encode_pieces): `▁9,` becomes `▁9` and `,`."""
    return len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit()


def parse_vocab(vocab: bytes, where: str) -> list[tuple[str, float]]:
    """Pieces and scores of a `.vocab` file, in id order; CorruptError names the first bad line."""
    check_vocab(vocab, where)
    return list(_scored(vocab, where))


def check_vocab(vocab: bytes, where: str) -> None:
    """CorruptError for what `parse_vocab` refuses; takes at most three times the file's memory."""
    import numpy as np

    if vocab.count(b"\n") > _MOST_LINES:
        raise CorruptError(f"{where}: the vocabulary has more than {_MOST_LINES} lines")
    # A set of the pieces would take twenty times the file; equal hashes of 64 bits are equal pieces.
    hashes = np.fromiter((hash(piece) for piece, _ in _scored(vocab, where)), np.int64)
    ordered = np.sort(hashes)
    if (ordered[1:] == ordered[:-1]).any():
        del ordered
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        hashes = hashes[order]
        again = int(order[1:][hashes[1:] == hashes[:-1]].min())
        piece, _ = next(itertools.islice(_scored(vocab, where), again, None))
        raise CorruptError(f"{where}: line {again + 1} of the vocabulary repeats the piece {piece!r}")
    if not (hashes == hash(UNKNOWN_PIECE)).any():
        raise CorruptError(f"{where}: the vocabulary has no {UNKNOWN_PIECE} piece, so it is not a SentencePiece one")


def _scored(vocab: bytes, where: str) -> Iterator[tuple[str, float]]:
    """Piece and score of each line. Only \\n ends a line: pieces may hold other Unicode line ends."""
    for number, line in enumerate(io.BytesIO(vocab.removeprefix(codecs.BOM_UTF8) or b"\n"), 1):
        try:
            text = line.decode().removesuffix("\n")
        except UnicodeDecodeError:
            raise CorruptError(f"{where}: line {number} of the vocabulary is not UTF-8") from None
        piece, _, score = text.removesuffix("\r").rpartition("\t")
        value = _score(score)
        if not piece or value is None:
            shown = text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
            raise CorruptError(f"{where}: line {number} of the vocabulary is {shown!r}, not piece<TAB>score")
        yield piece, value


@functools.lru_cache(maxsize=4)
def rebuild_model(vocab: bytes, where: str) -> bytes:
    """A SentencePiece model that gives the ids of the vocabulary's own: unigram, nmt_nfkc, Google's special pieces."""
    need("sentencepiece", "rebuilding a SentencePiece model")
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as proto

    pieces = parse_vocab(vocab, where)
    kinds = proto.ModelProto.SentencePiece
    model = proto.ModelProto()
    for piece, score in pieces:
        kind = kinds.NORMAL
        if piece == UNKNOWN_PIECE:
            kind = kinds.UNKNOWN
        elif piece in CONTROL_PIECES:
            kind = kinds.CONTROL
        elif piece in USER_DEFINED_PIECES and score == 0:
            kind = kinds.USER_DEFINED
        model.pieces.add(piece=piece, score=score, type=kind)
    ids = {piece: number for number, (piece, _) in enumerate(pieces)}
    trainer = model.trainer_spec
    trainer.model_type = proto.TrainerSpec.UNIGRAM
    trainer.vocab_size = len(pieces)
    trainer.character_coverage = 0.99995
    trainer.hard_vocab_limit = False
    trainer.control_symbols.extend(piece for piece in CONTROL_PIECES[1:] if piece in ids)
    trainer.user_defined_symbols.extend(piece for piece in USER_DEFINED_PIECES if piece in ids)
    trainer.unk_id = ids[UNKNOWN_PIECE]
    trainer.bos_id = trainer.eos_id = -1
    trainer.pad_id = ids.get("<pad>", -1)
    # Only the table: the library's 0.2.2 switches off the treatment of white space in a normalizer by itself.
    normalizer = sentencepiece.SentencePieceNormalizer(rule_name="nmt_nfkc")
    made = proto.ModelProto.FromString(normalizer.serialized_model_proto()).normalizer_spec
    model.normalizer_spec.name = made.name
    model.normalizer_spec.precompiled_charsmap = made.precompiled_charsmap
    return bytes(model.SerializeToString(deterministic=True))


def parse_wordpiece(vocab: bytes, where: str) -> list[str]:
    """The tokens of a WordPiece list in id order, as Google's `load_vocab` reads it; CorruptError names a bad line."""
    try:
        text = vocab.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = vocab.count(b"\n", 0, error.start) + 1
        raise CorruptError(f"{where}: line {bad} of the WordPiece list is not UTF-8") from None
    tokens: dict[str, int] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        token = (line.split() or [" "])[0]
        if token in tokens:
            first = tokens[token]
            raise CorruptError(f"{where}: line {number} of the WordPiece list repeats {token!r} of line {first}")
        tokens[token] = number
    if "[UNK]" not in tokens:
        raise CorruptError(f"{where}: the list has no [UNK] token, so it is not a WordPiece one")
    return list(tokens)


def _score(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def parse_model(model: bytes, where: str) -> Any:
    """The model as a `ModelProto`; CorruptError where the bytes are none."""
    need("sentencepiece", "reading a SentencePiece model")
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2 as proto

    try:
        parsed = proto.ModelProto.FromString(model)
    except DecodeError:
        raise CorruptError(f"{where}: not a SentencePiece model (truncated or another file)") from None
    if not parsed.pieces:
        raise CorruptError(f"{where}: a SentencePiece model without pieces")
    return parsed
