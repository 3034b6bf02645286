"""The tokenizer's files as they travel with a checkpoint: a SentencePiece model, a WordPiece list or byte-level BPE."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from converters.errors import ConfigError
from converters.messages import brief
from converters.tokenizers import casing
from converters.tokenizers.bpe import parse_bpe
from converters.tokenizers.sentencepiece_model import check_vocab, parse_model, rebuild_model, vocab_lines
from converters.tokenizers.template import CLS_A_SEP_B_SEP, S_A_S_S_B_S, Template
from converters.tokenizers.wordpiece import parse_wordpiece

if TYPE_CHECKING:
    from converters.family import TokenizerTable

# The names of a tokenizer's files in a Hugging Face directory, as a pattern.
FILE_NAMES = (
    r"spiece\.(model|vocab)|vocab\.(txt|json)|merges\.txt|tokenizer(_config)?\.json|added_tokens\.json"
    r"|special_tokens_map\.json"
)
_MOST_ID = 500_000  # far above any vocabulary
_MOST_SHOWN = 120

SENTENCEPIECE_TOKENS = {"cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "pad": "<pad>", "unk": "<unk>"}
WORDPIECE_TOKENS = {"cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "pad": "[PAD]", "unk": "[UNK]"}
BPE_TOKENS = {"cls": "<s>", "sep": "</s>", "mask": "<mask>", "pad": "<pad>", "unk": "<unk>"}
TOKENS = {"sentencepiece": SENTENCEPIECE_TOKENS, "wordpiece": WORDPIECE_TOKENS, "bpe": BPE_TOKENS}
Kind = Literal["sentencepiece", "wordpiece", "bpe"]
WORD_LIMIT = 200  # Google's limit (tokenization.py, WordpieceTokenizer)
_MOST_ADDED = 100_000
_MOST_NAMED = 5

# Hugging Face's key (ours where it has none) -> the field that holds it, and its usual value.
_SETTINGS: dict[str, tuple[str, Any]] = {
    "do_lower_case": ("lowercase", True),
    "keep_accents": ("keep_accents", False),
    "strip_accents": ("strip_accents", None),
    "tokenize_chinese_chars": ("chinese_chars", True),
    "max_input_chars_per_word": ("word_limit", WORD_LIMIT),
    "add_prefix_space": ("prefix_space", False),
    "drop_category_c": ("drop_category_c", False),
    "model_max_length": ("max_length", None),
}
_OF_BPE = ("prefix_space", "max_length")
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


@dataclass(frozen=True, repr=False)
class TokenizerFiles:
    """What a checkpoint carries of its tokenizer, byte for byte; every part may be absent.

    `spiece`: a SentencePiece model. `vocab`: `piece<TAB>score` lines, held only where they cannot be derived from
    `spiece`. `wordpiece`: a BERT vocabulary list. `vocab_json` and `merges`: byte-level BPE, ids by piece and the
    merges in order. `lowercase` and `keep_accents` say how text is prepared (Google's English models: lower-cased,
    accents dropped; BPE prepares nothing). `origin`: where the parts came from.

    Of WordPiece alone: `strip_accents` (None: as `lowercase`), `chinese_chars` (each is a word), `word_limit` (a word
    of more characters is unknown), `drop_category_c` (every character of Unicode's category C is dropped, as ELECTRA's
    tokenizer does, not only those of Cc and Cf). Of BPE alone: `prefix_space` (a text begins with a space). `names`:
    the special tokens that are not called as usual. `cut_left`: a long text loses its beginning. `one_type`: the second
    text of a pair has type 0 too (BPE: always). `max_length`: tokens of a text, where the tokenizer says fewer than
    512. `notes`: what a reader of the files should know. `fault`: why there is a tokenizer that is not taken.
    """

    spiece: bytes | None = None
    vocab: bytes | None = None
    wordpiece: bytes | None = None
    vocab_json: bytes | None = None
    merges: bytes | None = None
    lowercase: bool = True
    keep_accents: bool = False
    origin: str = "none"
    strip_accents: bool | None = None
    chinese_chars: bool = True
    word_limit: int = WORD_LIMIT
    prefix_space: bool = False
    drop_category_c: bool = False
    names: Mapping[str, str] = field(default_factory=dict)
    cut_left: bool = False
    one_type: bool = False
    max_length: int | None = None
    added: tuple[AddedToken, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)
    fault: str | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        """One line: a vocabulary is a megabyte."""
        held = ("spiece", "vocab", "wordpiece", "vocab_json", "merges")
        parts = [f"{name} of {len(data):,} bytes" for name in held if (data := getattr(self, name)) is not None]
        return f"<TokenizerFiles {self.origin!r}: {', '.join(parts) or 'none'}>"

    @classmethod
    def of(
        cls,
        where: str,
        *,
        spiece: bytes | None = None,
        vocab: bytes | None = None,
        wordpiece: bytes | None = None,
        vocab_json: bytes | None = None,
        merges: bytes | None = None,
        settings: Mapping[str, Any] | None = None,
        table: TokenizerTable | None = None,
        origin: str | Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
    ) -> TokenizerFiles:
        """Check the parts found at `where` (CorruptError) and keep what is not derivable from another part.

        `settings` are those of the property of this name; what is not among them is as usual (ConfigError), or as the
        family's `table` has it. `origin` says where the parts are from, for all or for each by name; the part's own
        name by default.
        """
        parts = {
            "spiece": spiece,
            "vocab": vocab,
            "wordpiece": wordpiece,
            "vocab_json": vocab_json,
            "merges": merges,
        }
        if vocab and not vocab.endswith(b"\n"):
            vocab += b"\n"  # lost in a format that stores lines
        if spiece is not None:
            parse_model(spiece, where)
        if spiece is not None and vocab == vocab_lines(spiece, where):
            vocab = None
        elif spiece is None and vocab is not None:
            check_vocab(vocab, where)
        settings, notes, kind = dict(settings or {}), list(notes), kind_of(**parts)
        if table is not None and kind == "wordpiece":
            settings, more = casing.inferred(where, wordpiece or b"", settings, table.casing)
            notes += more
            settings.setdefault("drop_category_c", table.drop_category_c)
        fields = _from_settings(settings, where)
        if kind == "bpe":
            parse_bpe(vocab_json, merges, where)
            fields |= {name: usual for name, usual in _SETTINGS.values() if name not in _OF_BPE} | {"one_type": False}
        if kind == "wordpiece":
            parse_wordpiece(wordpiece or b"", where, fields["names"].get("unk", WORDPIECE_TOKENS["unk"]))
            if fields.pop("keep_accents") and fields["strip_accents"] is None:
                fields["strip_accents"] = False  # the same thing by BERT's name
            if fields["strip_accents"] == fields["lowercase"]:
                fields["strip_accents"] = None
        return cls(
            spiece,
            vocab,
            wordpiece,
            vocab_json,
            merges,
            origin=_origin(parts, origin),
            notes=tuple(notes),
            **fields,
        )

    @property
    def special_tokens(self) -> dict[str, str]:
        """What `cls`, `sep`, `mask`, `pad` and `unk` are called."""
        return {**TOKENS[self.kind or "sentencepiece"], **self.names}

    @property
    def kind(self) -> Kind | None:
        """What the pieces are; None without a tokenizer."""
        return kind_of(self.spiece, self.vocab, self.wordpiece, self.vocab_json, self.merges)

    @property
    def template(self) -> Template[str]:
        """The special tokens around a text or a pair, by what they are for."""
        if self.kind == "bpe":
            return S_A_S_S_B_S
        return replace(CLS_A_SEP_B_SEP, types=(0, 0)) if self.one_type else CLS_A_SEP_B_SEP

    def of_family(self, table: TokenizerTable) -> TokenizerFiles:
        """The same vocabulary for a new model of a family, whose table this is."""
        return replace(self, drop_category_c=True) if self.kind == "wordpiece" and table.drop_category_c else self

    def __bool__(self) -> bool:
        return bool(self.spiece or self.vocab or self.wordpiece or self.vocab_json)

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
        known = ("added_tokens", "do_lower_case", "keep_accents", "drop_category_c")  # the last to ELECTRA's own
        if others := [key for key in self.settings if key not in known]:
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
        """SHA-256 of what decides the ids: the model's or WordPiece list's bytes, else those of the lines, or of both
        BPE files."""
        data = self.spiece or self.wordpiece or self.vocab or b"\0".join(filter(None, (self.vocab_json, self.merges)))
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


def kind_of(
    spiece: bytes | None = None,
    vocab: bytes | None = None,
    wordpiece: bytes | None = None,
    vocab_json: bytes | None = None,
    merges: bytes | None = None,
) -> Kind | None:
    """What a vocabulary of these parts is."""
    if spiece is not None or vocab is not None:
        return "sentencepiece"
    if wordpiece is not None:
        return "wordpiece"
    return "bpe" if vocab_json is not None or merges is not None else None


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
        sound = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < _MOST_ID
        if sound and isinstance(content, str) and content and all(isinstance(flag, bool) for flag in flags):
            return AddedToken(**data)
    raise ConfigError(where, f"{brief(data, _MOST_SHOWN)} is no added token of id, content and true or false flags")
