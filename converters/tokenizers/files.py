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
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from converters.errors import ConfigError, CorruptError
from converters.libraries import require_library
from converters.messages import brief, shortened

# The names of a tokenizer's files in a Hugging Face directory, as a pattern.
FILE_NAMES = r"spiece\.(model|vocab)|vocab\.txt|tokenizer(_config)?\.json|added_tokens\.json|special_tokens_map\.json"
# Far above any vocabulary.
_MOST_LINES = 500_000
_MOST_SHOWN = 120

# Google's training options: README of google-research/albert (spm_train), and the order of the first 13 pieces.
CONTROL_PIECES = ("<pad>", "[CLS]", "[SEP]", "[MASK]")
UNKNOWN_PIECE = "<unk>"
USER_DEFINED_PIECES = ("(", ")", '"', "-", ".", "–", "£", "€")  # noqa: RUF001

SENTENCEPIECE_TOKENS = {"cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "pad": "<pad>", "unk": "<unk>"}
WORDPIECE_TOKENS = {"cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "pad": "[PAD]", "unk": "[UNK]"}
WORD_LIMIT = 200  # Google's limit (tokenization.py, WordpieceTokenizer)
_MOST_ADDED = 100_000
_MOST_NAMED = 5

# Hugging Face's key -> the field that holds it, and its usual value.
_SETTINGS: dict[str, tuple[str, Any]] = {
    "do_lower_case": ("lowercase", True),
    "keep_accents": ("keep_accents", False),
    "strip_accents": ("strip_accents", None),
    "tokenize_chinese_chars": ("chinese_chars", True),
    "max_input_chars_per_word": ("word_limit", WORD_LIMIT),
    "model_max_length": ("max_length", None),
}
# Every key of `TokenizerFiles.settings`.
SETTINGS = (
    *_SETTINGS,
    *(f"{name}_token" for name in WORDPIECE_TOKENS),
    "truncation_side",
    "model_input_names",
    "added_tokens",
)


@dataclass(frozen=True)
class AddedToken:
    """A token beside the vocabulary's own, found in a text as a whole; the flags are those of `transformers`.

    `single_word`: not within a word. `lstrip`, `rstrip`: it takes the blanks before, after it along. `normalized`: it
    is looked for in the prepared text. `special`: no part of a text, so decoding leaves it out. Without `in_text` it is
    not looked for.
    """

    id: int
    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False
    in_text: bool = True


@dataclass(frozen=True)
class TokenizerFiles:
    """What a checkpoint carries of its tokenizer, byte for byte; every part may be absent.

    `spiece`: a SentencePiece model. `vocab`: `piece<TAB>score` lines, held only where they cannot be derived from
    `spiece`. `wordpiece`: a BERT vocabulary list. `lowercase` and `keep_accents` say how text is prepared (Google's
    English models: lower-cased, accents dropped). `origin`: where the parts came from.

    Of WordPiece alone: `strip_accents` (None: as `lowercase`), `chinese_chars` (each is a word), `word_limit` (a word
    of more characters is unknown). `names`: the special tokens that are not called as usual. `cut_left`: a long text
    loses its beginning. `one_type`: the second text of a pair has type 0 too. `max_length`: tokens of a text, where
    the tokenizer says fewer than 512. `notes`: what a reader of the files should know.
    `fault`: why there is a tokenizer that is not taken.
    """

    spiece: bytes | None = None
    vocab: bytes | None = None
    wordpiece: bytes | None = None
    lowercase: bool = True
    keep_accents: bool = False
    origin: str = "none"
    strip_accents: bool | None = None
    chinese_chars: bool = True
    word_limit: int = WORD_LIMIT
    names: Mapping[str, str] = field(default_factory=dict)
    cut_left: bool = False
    one_type: bool = False
    max_length: int | None = None
    added: tuple[AddedToken, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)
    fault: str | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls,
        where: str,
        *,
        spiece: bytes | None = None,
        vocab: bytes | None = None,
        wordpiece: bytes | None = None,
        settings: Mapping[str, Any] | None = None,
        origin: str | Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
    ) -> TokenizerFiles:
        """Check the parts found at `where` (CorruptError) and keep what is not derivable from another part.

        `settings` are those of the property of this name; what is not among them is as usual (ConfigError). `origin`
        says where the parts are from, for all or for each by name; the part's own name by default.
        """
        parts = {"spiece": spiece, "vocab": vocab, "wordpiece": wordpiece}
        if vocab and not vocab.endswith(b"\n"):
            vocab += b"\n"  # lost in a format that stores lines
        if spiece is not None and vocab == vocab_lines(spiece, where):
            vocab = None
        elif spiece is None and vocab is not None:
            check_vocab(vocab, where)
        fields = _from_settings(settings or {}, where)
        if wordpiece is not None and spiece is None and vocab is None:
            if fields.pop("keep_accents") and fields["strip_accents"] is None:
                fields["strip_accents"] = False  # the same thing by BERT's name
            if fields["strip_accents"] == fields["lowercase"]:
                fields["strip_accents"] = None
        return cls(
            spiece,
            vocab,
            wordpiece,
            origin=_origin(parts, origin),
            notes=tuple(notes),
            **fields,
        )

    @property
    def special_tokens(self) -> dict[str, str]:
        """What `cls`, `sep`, `mask`, `pad` and `unk` are called."""
        listed = self.wordpiece is not None and self.spiece is None and self.vocab is None
        return {**(WORDPIECE_TOKENS if listed else SENTENCEPIECE_TOKENS), **self.names}

    def __bool__(self) -> bool:
        return bool(self.spiece or self.vocab or self.wordpiece)

    @property
    def settings(self) -> dict[str, Any]:
        """What differs from Google's English models, under the names of Hugging Face: JSON's kinds of values."""
        different: dict[str, Any] = {
            key: getattr(self, name) for key, (name, usual) in _SETTINGS.items() if getattr(self, name) != usual
        }
        different |= {f"{name}_token": token for name, token in sorted(self.names.items())}
        if self.cut_left:
            different["truncation_side"] = "left"
        if self.one_type:
            different["model_input_names"] = ["input_ids", "attention_mask"]
        if self.added:
            different["added_tokens"] = [asdict(token) for token in self.added]
        return different

    def notes_for_google(self) -> list[str]:
        """What other programs would not know of this tokenizer, in words: only the config has a place for it."""
        found = []
        if self.added:
            names = " ".join(token.content for token in self.added[:_MOST_NAMED])
            more = " …" if len(self.added) > _MOST_NAMED else ""
            found.append(
                f"{len(self.added)} added tokens ({names}{more}) have no place in this format but its config, "
                "where albert finds them; other programs cut them into pieces"
            )
        if others := [key for key in self.settings if key not in ("added_tokens", "do_lower_case", "keep_accents")]:
            found.append(f"the tokenizer's {', '.join(others)} are kept in the config; other programs do not know them")
        return found

    def model(self) -> bytes | None:
        """The SentencePiece model, rebuilt from the vocabulary lines where there is nothing else."""
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

    def ids_digest(self) -> str | None:
        """As `digest`, and of the settings where they differ from Google's."""
        digest = self.digest()
        if digest is None or not self.settings:
            return digest
        return hashlib.sha256(f"{digest} {json.dumps(self.settings, sort_keys=True)}".encode()).hexdigest()

    @property
    def rebuilt(self) -> bool:
        return self.spiece is None and self.vocab is not None


def _origin(parts: Mapping[str, bytes | None], origin: str | Mapping[str, str] | None) -> str:
    """Where the first of the parts is from; see `TokenizerFiles.of`."""
    first = next((name for name, content in parts.items() if content), None)
    if first is None:
        return "none"
    return origin if isinstance(origin, str) else (origin or {}).get(first, first)


def _from_settings(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields that settings fill; ConfigError for a value of another kind."""

    def wrong(key: str, wanted: str) -> ConfigError:
        return ConfigError(where, f"the tokenizer's {key} is {settings[key]!r}, not {wanted}")

    found: dict[str, Any] = {}
    for key, (name, usual) in _SETTINGS.items():
        value = settings.get(key, usual)
        if isinstance(usual, bool) or key == "strip_accents":
            if not isinstance(value, bool) and value is not usual:
                raise wrong(key, "true or false")
        elif value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise wrong(key, "a whole number above 0")
        found[name] = value
    names = {name: settings[f"{name}_token"] for name in WORDPIECE_TOKENS if f"{name}_token" in settings}
    for name, token in names.items():
        if not isinstance(token, str) or not token:
            raise wrong(f"{name}_token", "a token")
    side = settings.get("truncation_side", "right")
    if side not in ("left", "right"):
        raise wrong("truncation_side", "left or right")
    inputs = settings.get("model_input_names", ["token_type_ids"])
    if not isinstance(inputs, list):
        raise wrong("model_input_names", "a list of names")
    added = settings.get("added_tokens", [])
    if not isinstance(added, list) or len(added) > _MOST_ADDED:
        raise ConfigError(where, f"the tokenizer's added_tokens are no list of at most {_MOST_ADDED} tokens")
    return found | {
        "names": names,
        "cut_left": side == "left",
        "one_type": "token_type_ids" not in inputs,
        "added": tuple(sorted((added_token(token, where) for token in added), key=lambda token: token.id)),
    }


def added_token(data: Any, where: str) -> AddedToken:
    """An added token of its JSON; ConfigError where that is none."""
    kinds = {each.name: each.type for each in fields(AddedToken)}
    if isinstance(data, Mapping) and {"id", "content"} <= data.keys() <= kinds.keys():
        number, content = data["id"], data["content"]
        flags = [value for key, value in data.items() if key not in ("id", "content")]
        sound = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < _MOST_LINES
        if sound and isinstance(content, str) and content and all(isinstance(flag, bool) for flag in flags):
            return AddedToken(**data)
    raise ConfigError(where, f"{brief(data, _MOST_SHOWN)} is no added token of id, content and true or false flags")


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
        raise CorruptError(where, f"the vocabulary has more than {_MOST_LINES} lines")
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


def parse_wordpiece(vocab: bytes, where: str, unknown: str = WORDPIECE_TOKENS["unk"]) -> list[str]:
    """The tokens of a WordPiece list, line n for id n, as BERT's tokenizers read it; CorruptError names a bad line.

    Blanks at the end of a line are no part of the token. Of a token that is listed again the last id counts. `unknown`
    must be there; where it only begins a line, each token is its line's first word, as Google's `load_vocab` has it.
    """
    try:
        text = vocab.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = vocab.count(b"\n", 0, error.start) + 1
        raise CorruptError(where, f"line {bad} of the WordPiece list is not UTF-8") from None
    lines = text.removesuffix("\n").split("\n")
    if len(lines) > _MOST_LINES:
        raise CorruptError(where, f"the WordPiece list has more than {_MOST_LINES} lines")
    tokens = [line.rstrip() for line in lines]
    if unknown not in tokens:
        tokens = [(line.split() or [""])[0] for line in lines]
    if unknown not in tokens:
        raise CorruptError(where, f"the list has no {unknown} token, so it is not a WordPiece one")
    return tokens


def _score(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def parse_model(model: bytes, where: str) -> Any:
    """The model as a `ModelProto`; CorruptError where the bytes are none."""
    require_library("sentencepiece", "reading a SentencePiece model")
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2 as proto

    try:
        parsed = proto.ModelProto.FromString(model)
    except DecodeError:
        raise CorruptError(where, "not a SentencePiece model (truncated or another file)") from None
    if not parsed.pieces:
        raise CorruptError(where, "a SentencePiece model without pieces")
    return parsed
