"""Reading `tokenizer.json`: the settings, vocabulary and added tokens of the pipelines that this toolkit computes.

Those are what `transformers` 4 and 5 write for ALBERT's, BERT's and RoBERTa's tokenizers, and what
tokenizers.tokenizer_json writes. For a SentencePiece model all of them stand for Google's rules, whose ids are the ones
computed (transformers' differ on some texts). Any other pipeline is a ConfigError that names it: its ids would be
others.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.config import parse_texts
from converters.errors import ConfigError, CorruptError
from converters.tokenizers.bpe import in_order, joining
from converters.tokenizers.files import WORD_LIMIT, AddedToken, Kind, TokenizerFiles, added_token
from converters.tokenizers.sentencepiece_model import ends_in_digit_comma
from converters.tokenizers.template import CLS_A_SEP_B_SEP, S_A_S_S_B_S, Template
from converters.tokenizers.tokenizer_json import DIGIT_COMMA_PENALTY, stages

Json = dict[str, Any]

# What changes no id in a byte-level BPE.
_USUAL_BPE: dict[str, tuple[Any, ...]] = {
    "dropout": (None, 0, 0.0),
    "continuing_subword_prefix": ("", None),
    "end_of_word_suffix": ("", None),
    "byte_fallback": (False, None),
    "ignore_merges": (False, None),
}
_QUOTES = ({"String": "``"}, {"String": "''"})
_BLANKS = {"Regex": " {2,}"}


@dataclass(frozen=True)
class Pipeline:
    """What a tokenizer.json says. `tokens` of a WordPiece or BPE vocabulary, `pieces` (and scores) of a unigram one.

    `settings` are those of TokenizerFiles. `around`: the ids before and after a text, None where nothing is put there.
    `unknown`: None where the pipeline has no such token.
    """

    kind: Kind
    settings: Json
    added: tuple[AddedToken, ...]
    around: tuple[int, int] | None
    unknown: str | None
    tokens: Sequence[str] | None = None
    merges: Sequence[tuple[str, str]] = ()
    pieces: list[tuple[str, float]] | None = None
    charsmap: bytes = b""
    cut_left: bool = False


def read_pipeline(data: bytes, where: str) -> Pipeline:
    """The pipeline of a tokenizer.json's bytes; ConfigError for one that is none of those that are computed."""
    found = parse_texts(data, where)
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        raise ConfigError(where, "no model is in it, so it is not a tokenizer.json")
    model = found["model"]
    kind = model.get("type") or _untold(model)
    if not isinstance(kind, str) or kind not in _READERS:
        raise _other(where, "a model of type", kind, "WordPiece, Unigram or BPE")
    for stage, key in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        steps = found[stage].get(key) if isinstance(found.get(stage), dict) else None
        if steps is not None and not (isinstance(steps, list) and all(isinstance(step, dict) for step in steps)):
            raise ConfigError(where, f"{key} of the {stage} is no list of stages")
    added = found.get("added_tokens") or []
    if not isinstance(added, list):
        raise ConfigError(where, "added_tokens is no list")
    truncation = found.get("truncation")
    return _READERS[kind](
        found,
        model,
        where,
        added=tuple(added_token(token, where) for token in added),
        around=_around(found.get("post_processor"), where, S_A_S_S_B_S if kind == "BPE" else CLS_A_SEP_B_SEP),
        cut_left=isinstance(truncation, dict) and truncation.get("direction") == "Left",
    )


def _untold(model: Json) -> str:
    """The type of a model in an old file, which does not name it."""
    if "merges" in model:
        return "BPE"
    return "WordPiece" if "continuing_subword_prefix" in model else "Unigram"


def _wordpiece(found: Json, model: Json, where: str, **common: Any) -> Pipeline:
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or not all(_is_id(number) for number in vocabulary.values()):
        raise ConfigError(where, "the WordPiece model has no vocabulary from token to id")
    if model.get("continuing_subword_prefix", "##") != "##":
        raise _other(where, "the continuing_subword_prefix", model["continuing_subword_prefix"], "##")
    tokens = [""] * (1 + max(vocabulary.values(), default=-1))
    for token, number in vocabulary.items():
        tokens[number] = token
    normalizer = found.get("normalizer")
    if not isinstance(normalizer, dict) or normalizer.get("type") != "BertNormalizer":
        raise _other(where, "the normalizer", _name(normalizer), "BertNormalizer")
    if normalizer.get("clean_text", True) is not True:
        raise _other(where, "clean_text of the normalizer", normalizer["clean_text"], "true")
    if _name(found.get("pre_tokenizer")) != "BertPreTokenizer":
        raise _other(where, "the pre_tokenizer", _name(found.get("pre_tokenizer")), "BertPreTokenizer")
    settings = {
        "do_lower_case": normalizer.get("lowercase", True),
        "strip_accents": normalizer.get("strip_accents"),
        "tokenize_chinese_chars": normalizer.get("handle_chinese_chars", True),
        "max_input_chars_per_word": model.get("max_input_chars_per_word", WORD_LIMIT),
    }
    unknown = model.get("unk_token", "[UNK]")
    return Pipeline("wordpiece", settings, unknown=str(unknown), tokens=tokens, **common)


def _bpe(found: Json, model: Json, where: str, **common: Any) -> Pipeline:
    """A byte-level BPE, as GPT-2 and RoBERTa have it; what is unusual in one is refused."""
    for key, usual in _USUAL_BPE.items():
        if model.get(key, usual[0]) not in usual:
            raise _other(where, f"the model's {key}", model[key], repr(usual[0]))
    if any(_sequence(found.get("normalizer"), "normalizers")):
        raise _other(where, "the normalizer", _name(found["normalizer"]), "none")
    step = found.get("pre_tokenizer")
    if not isinstance(step, dict) or step.get("type") != "ByteLevel" or step.get("use_regex", True) is not True:
        raise _other(where, "the pre_tokenizer", _name(step), "ByteLevel with its pattern")
    listed = model.get("merges")
    if not isinstance(listed, list) or not all(map(_is_merge, listed)):
        raise ConfigError(where, "the BPE model has no merges of two pieces each")
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in listed)
    merges = [(left, right) for left, right in pairs]
    try:
        tokens = in_order(model.get("vocab"), where)
        joining(tokens, enumerate(merges, 1), where)
    except CorruptError as error:
        raise ConfigError(where, error.detail) from None
    prefix = step.get("add_prefix_space", True)
    unknown = model.get("unk_token")
    return Pipeline("bpe", {"add_prefix_space": prefix}, unknown=unknown, tokens=tokens, merges=merges, **common)


def _unigram(found: Json, model: Json, where: str, **common: Any) -> Pipeline:
    listed = model.get("vocab")
    if not isinstance(listed, list) or not all(map(_is_piece, listed)):
        raise ConfigError(where, "the unigram model has no vocabulary of pieces and scores")
    unknown: Any = model.get("unk_id")
    if not _is_id(unknown) or unknown >= len(listed):
        raise ConfigError(where, f"unk_id is {unknown!r}, which is no piece of the vocabulary")
    if model.get("byte_fallback"):
        raise _other(where, "byte_fallback", True, "false")
    charsmap = _charsmap(found.get("normalizer"), where)
    flags = _ours(found, listed, charsmap) or _transformers(found, where)
    pieces = [(str(piece), float(score)) for piece, score in listed]
    penalised = [piece for piece, score in pieces if ends_in_digit_comma(piece) and score < -DIGIT_COMMA_PENALTY]
    if penalised:
        pieces = [
            (piece, score + DIGIT_COMMA_PENALTY if ends_in_digit_comma(piece) else score) for piece, score in pieces
        ]
    return Pipeline("sentencepiece", flags, unknown=pieces[unknown][0], pieces=pieces, charsmap=charsmap, **common)


def _ours(found: Json, listed: list[Any], charsmap: bytes) -> Json | None:
    """The flags with which tokenizers.tokenizer_json writes these stages; None where it does not write them."""
    special = {token["content"] for token in found.get("added_tokens") or () if token.get("special")}
    reserved = [piece for piece, _ in listed if piece in special]
    mask = next((name for name in reserved if "mask" in name.lower()), "[MASK]")
    for lowercase in (True, False):
        for keep_accents in (False, True):
            files = TokenizerFiles(lowercase=lowercase, keep_accents=keep_accents)
            for normalized in (False, True):
                made = stages(files, charsmap, reserved, mask=mask, normalized=normalized)
                if all(found.get(stage) == made[stage] for stage in ("normalizer", "pre_tokenizer")):
                    return {"do_lower_case": lowercase, "keep_accents": keep_accents}
    return None


def _transformers(found: Json, where: str) -> Json:
    """The flags of the stages that transformers writes for an AlbertTokenizer."""
    steps = _sequence(found.get("normalizer"), "normalizers")
    names = []
    for step in steps:
        name = _name(step)
        if name == "Replace" and (step.get("pattern") in _QUOTES or step.get("pattern") == _BLANKS):
            continue
        if name not in ("NFKD", "StripAccents", "Lowercase", "Precompiled"):
            raise _other(where, "the normalizer", name, "AlbertTokenizer's")
        names.append(name)
    wanted = [name for name in ("NFKD", "StripAccents", "Lowercase", "Precompiled") if name in names]
    if names != wanted or ("NFKD" in names) != ("StripAccents" in names):
        raise _other(where, "the normalizer", " then ".join(names), "AlbertTokenizer's")
    for step in _sequence(found.get("pre_tokenizer"), "pretokenizers"):
        name = _name(step)
        prefixed = step.get("prepend_scheme", "always") == "always" and step.get("add_prefix_space", True) is True
        if name == "Metaspace" and not prefixed:
            raise _other(where, "the Metaspace pre_tokenizer", "without a space before the text", "AlbertTokenizer's")
        if name not in ("WhitespaceSplit", "Metaspace"):
            raise _other(where, "the pre_tokenizer", name, "AlbertTokenizer's")
    return {"do_lower_case": "Lowercase" in names, "keep_accents": "NFKD" not in names}


def _charsmap(normalizer: Any, where: str) -> bytes:
    for step in _sequence(normalizer, "normalizers"):
        if _name(step) == "Precompiled":
            try:
                return base64.b64decode(step.get("precompiled_charsmap") or "", validate=True)
            except (binascii.Error, TypeError, ValueError):
                raise ConfigError(where, "the precompiled_charsmap is not base64") from None
    return b""


def _around(processor: Any, where: str, template: Template[str]) -> tuple[int, int] | None:
    """The ids before and after a text; ConfigError where they are put otherwise than by the template."""
    name, robertas = _name(processor), template is S_A_S_S_B_S
    if processor is None or (robertas and name == "ByteLevel"):
        return None
    own = "RobertaProcessing" if robertas else "BertProcessing"
    if name not in (own, "TemplateProcessing"):
        raise _other(where, "the post_processor", name, "TemplateProcessing")
    try:
        if name == own:
            return int(processor["cls"][1]), int(processor["sep"][1])
        one, two = ([_part(part) for part in processor[key]] for key in ("single", "pair"))
        ids = {token: [int(number) for number in entry["ids"]] for token, entry in processor["special_tokens"].items()}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
        raise ConfigError(where, f"the post_processor is no sound {name}") from None
    first, last = (one[0][0], one[-1][0]) if one else ("", "")
    tokens = template.map({"cls": first, "sep": last}.__getitem__)
    single, both = (list(zip(*tokens.frame(*texts), strict=True)) for texts in ((["$A"],), (["$A"], ["$B"])))
    if robertas:  # it has no types
        one, two = ([(token, 0) for token, _ in part] for part in (one, two))
    if one != single or two != both or any(len(ids.get(token, ())) != 1 for token in (first, last)):
        shown = " ".join(token for token, _ in two)
        wanted = "<s> $A </s></s> $B </s>" if robertas else "[CLS] $A [SEP] $B [SEP] of types 0 and 1"
        raise _other(where, "the post_processor's template", shown, wanted)
    return ids[first][0], ids[last][0]


def _part(part: Json) -> tuple[str, int]:
    ((kind, inner),) = part.items()
    return (f"${inner['id']}" if kind == "Sequence" else str(inner["id"])), int(inner["type_id"])


def _sequence(stage: Any, key: str) -> Iterable[Json]:
    if isinstance(stage, dict) and stage.get("type") == "Sequence":
        return stage.get(key) or ()
    return [stage] if isinstance(stage, dict) else []


def _name(stage: Any) -> str:
    return str(stage.get("type")) if isinstance(stage, Mapping) else "none"


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1_000_000


def _is_merge(item: Any) -> bool:
    pair = item.split(" ") if isinstance(item, str) else item
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(piece, str) and piece and not {" ", "\n"} & set(piece) for piece in pair)
    )


def _is_piece(item: Any) -> bool:
    return (
        isinstance(item, list)
        and len(item) == 2
        and isinstance(item[0], str)
        and isinstance(item[1], int | float)
        and not isinstance(item[1], bool)
    )


def _other(where: str, what: str, seen: Any, wanted: str) -> ConfigError:
    return ConfigError(
        where,
        f"{what} is {seen!r}, not {wanted}: another way of making ids than this toolkit's; "
        "remove the file where the vocabulary beside it says enough",
    )


_READERS = {"WordPiece": _wordpiece, "Unigram": _unigram, "BPE": _bpe}
