"""SentencePiece models and their vocabularies, and the way between the two.

Google ships `30k-clean.model` and `30k-clean.vocab` (lines `piece<TAB>score`); Julia's files hold the lines only, so
the model must be rebuilt from them.
"""

from __future__ import annotations

import codecs
import functools
import io
import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from converters.errors import CorruptError
from converters.libraries import require_library
from converters.limits import PIECES
from converters.messages import shortened
from converters.tensorflow import wire
from converters.tokenizers.charsmap import charsmap_fault

_MOST_SHOWN = 120
# Hashes of the models that were found sound.
_SOUND: set[int] = set()

# Google's training options: README of google-research/albert (spm_train), and the order of the first 13 pieces.
CONTROL_PIECES = ("<pad>", "[CLS]", "[SEP]", "[MASK]")
UNKNOWN_PIECE = "<unk>"
USER_DEFINED_PIECES = ("(", ")", '"', "-", ".", "–", "£", "€")  # noqa: RUF001


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

    if vocab.count(b"\n") > PIECES:
        raise CorruptError(where, f"the vocabulary has more than {PIECES} lines")
    # A set of the pieces would take twenty times the file; equal hashes of 64 bits are equal pieces.
    hashes = np.fromiter((hash(piece) for piece, _ in _scored(vocab, where)), np.int64)
    ordered = np.sort(hashes)
    if (ordered[1:] == ordered[:-1]).any():
        del ordered
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        hashes = hashes[order]
        again = int(order[1:][hashes[1:] == hashes[:-1]].min())
        piece, _ = next(itertools.islice(_scored(vocab, where), again, None))
        raise CorruptError(where, f"line {again + 1} of the vocabulary repeats the piece {piece!r}")
    if not (hashes == hash(UNKNOWN_PIECE)).any():
        raise CorruptError(where, f"the vocabulary has no {UNKNOWN_PIECE} piece, so it is not a SentencePiece one")


def _scored(vocab: bytes, where: str) -> Iterator[tuple[str, float]]:
    """Piece and score of each line. Only \\n ends a line: pieces may hold other Unicode line ends."""
    for number, line in enumerate(io.BytesIO(vocab.removeprefix(codecs.BOM_UTF8) or b"\n"), 1):
        try:
            text = line.decode().removesuffix("\n")
        except UnicodeDecodeError:
            raise CorruptError(where, f"line {number} of the vocabulary is not UTF-8") from None
        piece, _, score = text.removesuffix("\r").rpartition("\t")
        value = _score(score)
        if not piece or value is None:
            shown = shortened(text, _MOST_SHOWN)
            raise CorruptError(where, f"line {number} of the vocabulary is {shown!r}, not piece<TAB>score")
        yield piece, value


@functools.lru_cache(maxsize=4)
def rebuild_model(vocab: bytes, where: str) -> bytes:
    """A SentencePiece model that gives the ids of the vocabulary's own: unigram, nmt_nfkc, Google's special pieces."""
    return make_model(parse_vocab(vocab, where))


def make_model(
    pieces: Sequence[tuple[str, float]],
    *,
    unknown: str = UNKNOWN_PIECE,
    control: Collection[str] = CONTROL_PIECES,
    user_defined: Collection[str] = USER_DEFINED_PIECES,
    charsmap: bytes | None = None,
) -> bytes:
    """A unigram SentencePiece model of these pieces and scores; `charsmap` is its normalisation, nmt_nfkc without."""
    require_library("sentencepiece", "rebuilding a SentencePiece model")
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as proto

    kinds = proto.ModelProto.SentencePiece
    model = proto.ModelProto()
    for piece, score in pieces:
        kind = kinds.NORMAL
        if piece == unknown:
            kind = kinds.UNKNOWN
        elif piece in control:
            kind = kinds.CONTROL
        elif piece in user_defined and score == 0:
            kind = kinds.USER_DEFINED
        model.pieces.add(piece=piece, score=score, type=kind)
    ids = {piece: number for number, (piece, _) in enumerate(pieces)}
    trainer = model.trainer_spec
    trainer.model_type = proto.TrainerSpec.UNIGRAM
    trainer.vocab_size = len(pieces)
    trainer.character_coverage = 0.99995
    trainer.hard_vocab_limit = False
    trainer.control_symbols.extend(piece for piece in control if piece in ids and piece != "<pad>")
    trainer.user_defined_symbols.extend(piece for piece in user_defined if piece in ids)
    trainer.unk_id = ids[unknown]
    trainer.bos_id = trainer.eos_id = -1
    trainer.pad_id = ids.get("<pad>", -1)
    if charsmap is not None:
        model.normalizer_spec.precompiled_charsmap = charsmap
        return bytes(model.SerializeToString(deterministic=True))
    # Only the table: the library's 0.2.2 switches off the treatment of white space in a normalizer by itself.
    normalizer = sentencepiece.SentencePieceNormalizer(rule_name="nmt_nfkc")
    made = proto.ModelProto.FromString(normalizer.serialized_model_proto()).normalizer_spec
    model.normalizer_spec.name = made.name
    model.normalizer_spec.precompiled_charsmap = made.precompiled_charsmap
    return bytes(model.SerializeToString(deterministic=True))


def _score(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def parse_model(model: bytes, where: str) -> Any:
    """The model as a `ModelProto`, sound in all that sentencepiece takes on trust; CorruptError where it is not."""
    require_library("sentencepiece", "reading a SentencePiece model")
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2 as proto

    if _too_many_pieces(model):
        raise CorruptError(where, f"a SentencePiece model of more than {PIECES} pieces")
    try:
        parsed = proto.ModelProto.FromString(model)
    except DecodeError:
        raise CorruptError(where, "not a SentencePiece model (truncated or another file)") from None
    if not parsed.pieces:
        raise CorruptError(where, "a SentencePiece model without pieces")
    if hash(model) not in _SOUND:  # it is parsed several times, and looked at once
        if faults := list(_faults(parsed)):
            raise CorruptError(where, f"not a sound SentencePiece model: {'; '.join(faults)}")
        _SOUND.add(hash(model))
    return parsed


def _too_many_pieces(model: bytes) -> bool:
    """Whether a model holds more pieces than any vocabulary: empty ones take two bytes, and in memory a hundred."""
    if len(model) <= 2 * PIECES:
        return False
    position = count = 0
    try:
        while position < len(model) and count <= PIECES:
            tag, position = wire.varint(model, position)
            if tag & 7 != wire.BYTES:
                return False  # of no sound model; its parser says so
            length, position = wire.varint(model, position)
            position += length
            count += tag >> 3 == 1
    except wire.FAULTS:
        return False
    return count > PIECES


def _faults(parsed: Any) -> Iterator[str]:
    """What sentencepiece does not look at when it loads a model, or ends the process for."""
    texts = [piece.piece for piece in parsed.pieces]
    if bad := [number for number, text in enumerate(texts) if not isinstance(text, str)]:  # as protobuf gives it then
        yield f"piece {bad[0]} is not UTF-8"
        return
    if "" in texts:
        yield f"piece {texts.index('')} is empty"
    if len(set(texts)) < len(texts):
        seen: set[str] = set()
        twice = next(text for text in texts if text in seen or seen.add(text))  # type: ignore[func-returns-value]
        yield f"the piece {shortened(twice, _MOST_SHOWN)!r} occurs twice"
    kinds = type(parsed.pieces[0])
    if (unknown := sum(piece.type == kinds.UNKNOWN for piece in parsed.pieces)) != 1:
        yield f"{unknown} pieces are the unknown one, not 1"
    wrong = [number for number, piece in enumerate(parsed.pieces) if not math.isfinite(piece.score)]
    if wrong:
        yield f"the score of piece {wrong[0]} is {parsed.pieces[wrong[0]].score}"
    for name in ("normalizer_spec", "denormalizer_spec"):
        if fault := charsmap_fault(getattr(parsed, name).precompiled_charsmap):
            yield f"the table of its {name.removesuffix('_spec')}: {fault}"
