"""`tokenizer.json`: Google's tokenization in the terms of Hugging Face's `tokenizers` library.

`transformers`' own AlbertTokenizer class rebuilds the pipeline in code and gives other ids than Google on one text in
four; with these two files its AutoTokenizer takes the pipeline below as it is. What makes the ids Google's:

* only the special tokens are added tokens; the user-defined symbols stay pieces, as SentencePiece has them;
* pieces that end in digit + comma cost so much that no best path takes one: Google's rule of splitting them again,
  but for paths of equal score;
* special tokens written in a text are plain text (`split_special_tokens`) except `[MASK]`, which is how transformers'
  users ask for a word to be filled in.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from converters.family import TokenizerTable
from converters.tokenizers.bpe import parse_bpe
from converters.tokenizers.files import TokenizerFiles
from converters.tokenizers.sentencepiece_model import ends_in_digit_comma, parse_model
from converters.tokenizers.template import CLS_A_SEP_B_SEP
from converters.tokenizers.wordpiece import parse_wordpiece

Json = dict[str, Any]

# Far more than any path around the piece costs.
DIGIT_COMMA_PENALTY = 100.0
# What Python's str.split() takes for white space, in the syntax of the library's regular expressions.
_WHITE_SPACE = r"[\t-\r\x{1c}-\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+"
# Stands for [MASK] while the text is lower-cased: a private-use character; in a text, its neighbour takes its place.
_MASK_STAND_IN, _NEIGHBOUR = "\U0010fffd", "\U0010fffc"
MODEL_MAX_LENGTH = 512
_OF_NO_FAMILY = TokenizerTable()


def tokenizer_json(files: TokenizerFiles, *, special_tokens: bool = True) -> bytes | None:
    """The bytes of `tokenizer.json`, the same for the same files; None for a SentencePiece model of another kind.

    Without `special_tokens` the pipeline knows none: every text is plain, and nothing is put around it.
    Raises CorruptError where the files are damaged.
    """
    model = files.model()
    if model is not None:
        parsed = parse_model(model, files.origin)
        if not _expressible(parsed):
            return None
        data = _unigram(parsed, files)
    elif files.kind == "bpe":
        data = _bpe(*parse_bpe(files.vocab_json, files.merges, files.origin), files)
    elif files.wordpiece is not None:
        data = _wordpiece(parse_wordpiece(files.wordpiece, files.origin, files.special_tokens["unk"]), files)
    else:
        return None
    if not special_tokens:
        data |= {"added_tokens": [], "post_processor": None}
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def _expressible(model: Any) -> bool:
    """Whether the pipeline gives the model's ids: a unigram one that puts `▁` before each word and knows no bytes."""
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    others = trainer.byte_fallback or trainer.treat_whitespace_as_suffix
    before_words = normalizer.add_dummy_prefix and normalizer.escape_whitespaces
    return trainer.model_type == type(trainer).UNIGRAM and before_words and not others


def tokenizer_config(files: TokenizerFiles, table: TokenizerTable = _OF_NO_FAMILY) -> Json:
    """What `tokenizer_config.json` says: the special tokens, and the class that reads `tokenizer.json`: that of the
    family's `table`, else the one that takes any as it is."""
    bpe, named = files.kind == "bpe", files.special_tokens
    own = "ElectraTokenizer" if files.drop_category_c else table.classes.get(str(files.kind), "PreTrainedTokenizerFast")
    typed = not files.one_type and not bpe
    said: Json = {
        "tokenizer_class": own,
        **({"add_prefix_space": files.prefix_space} if bpe else {"do_lower_case": files.lowercase}),
        **({} if bpe else {"keep_accents": files.keep_accents}),
        "split_special_tokens": files.kind == "sentencepiece",
        "model_max_length": files.max_length or MODEL_MAX_LENGTH,
        "model_input_names": ["input_ids", *(["token_type_ids"] if typed else []), "attention_mask"],
        **({"bos_token": named["cls"], "eos_token": named["sep"]} if bpe else {}),
        **{f"{name}_token": token for name, token in named.items()},
    }
    if files.strip_accents is not None:
        said["strip_accents"] = files.strip_accents
    if not files.chinese_chars:
        said["tokenize_chinese_chars"] = False
    if files.kind == "wordpiece" and table.drop_category_c and not files.drop_category_c:
        said["drop_category_c"] = False
    if files.cut_left:
        said["truncation_side"] = "left"
    if extra := [token.content for token in files.added if token.special]:
        said["additional_special_tokens"] = extra
    return said


def preparation(files: TokenizerFiles, charsmap: bytes) -> list[Json]:
    """How `transformers` prepares a text for a SentencePiece model, but for blanks and quotation marks."""
    encoded = base64.b64encode(charsmap).decode()
    return [
        *([] if files.keep_accents else [{"type": "NFKD"}, {"type": "StripAccents"}]),
        *([{"type": "Lowercase"}] if files.lowercase else []),
        *([{"type": "Precompiled", "precompiled_charsmap": encoded}] if encoded else []),
    ]


def stages(
    files: TokenizerFiles, charsmap: bytes, reserved: Sequence[str], *, mask: str, normalized: bool = False
) -> Json:
    """Normalizer and pre-tokenizer for a SentencePiece model; `reserved`: its control and unknown pieces.

    `normalized`: there are added tokens to look for in the prepared text. `▁` must then come after that.
    """
    prepared = [
        _replace(_MASK_STAND_IN, _NEIGHBOUR),
        _replace(mask, _MASK_STAND_IN),
        _replace_pattern(_WHITE_SPACE, " "),
        *preparation(files, charsmap),
        _replace_pattern("[ ▁]+", " "),
    ]
    if not normalized:
        prepared += [
            {"type": "Strip", "strip_left": True, "strip_right": True},
            {"type": "Prepend", "prepend": "▁"},
        ]
    prepared.append(_replace_pattern(f"[ ▁]?{_MASK_STAND_IN}", mask))  # it stands for a word and the space before it
    # A reserved piece must not be found in a text: cut after its first character, which has a piece or is unknown.
    cuts = "|".join(f"{re.escape(piece[0])}(?={re.escape(piece[1:])})" for piece in reserved if piece != mask)
    split = {"type": "Split", "pattern": {"Regex": cuts}, "behavior": "MergedWithPrevious", "invert": False}
    alone = {
        "type": "Split",
        "pattern": {"Regex": f"▁(?={re.escape(mask)})"},
        "behavior": "Removed",
        "invert": False,
    }
    words = (
        [{"type": "WhitespaceSplit"}, _metaspace("always"), alone, split]
        if normalized
        else [split, _metaspace("never")]
    )
    return {
        "normalizer": {"type": "Sequence", "normalizers": prepared},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": words},
    }


def _unigram(model: Any, files: TokenizerFiles) -> Json:
    kinds = type(model.pieces[0])
    ids = {piece.piece: number for number, piece in enumerate(model.pieces)}
    reserved = [piece.piece for piece in model.pieces if piece.type in (kinds.CONTROL, kinds.UNKNOWN)]
    vocabulary = [
        [piece.piece, piece.score - (DIGIT_COMMA_PENALTY if ends_in_digit_comma(piece.piece) else 0.0)]
        for piece in model.pieces
    ]
    return _pipeline(
        files,
        ids,
        **stages(
            files,
            model.normalizer_spec.precompiled_charsmap,
            reserved,
            mask=files.special_tokens["mask"],
            normalized=any(token.normalized for token in files.added),
        ),
        decoder=_metaspace("always"),
        model={
            "type": "Unigram",
            "unk_id": next(i for i, piece in enumerate(model.pieces) if piece.type == kinds.UNKNOWN),
            "vocab": vocabulary,
            "byte_fallback": False,
        },
    )


def _wordpiece(tokens: list[str], files: TokenizerFiles) -> Json:
    return _pipeline(
        files,
        {token: number for number, token in enumerate(tokens)},
        normalizer=bert_normalizer(files),
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": False},
        model={
            "type": "WordPiece",
            "unk_token": files.special_tokens["unk"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": files.word_limit,
            "vocab": {token: number for number, token in enumerate(tokens)},
        },
    )


def _bpe(pieces: list[str], merges: list[tuple[str, str]], files: TokenizerFiles) -> Json:
    ids, named = {piece: number for number, piece in enumerate(pieces)}, files.special_tokens
    byte_level = {"type": "ByteLevel", "add_prefix_space": files.prefix_space, "trim_offsets": True, "use_regex": True}
    return _pipeline(
        files,
        ids,
        normalizer=None,
        pre_tokenizer=byte_level,
        decoder=byte_level,
        model={
            "type": "BPE",
            "dropout": None,
            "unk_token": named["unk"] if named["unk"] in ids else None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": ids,
            "merges": [list(pair) for pair in merges],
        },
    )


def bert_normalizer(files: TokenizerFiles) -> Json:
    """How a text is prepared for a WordPiece list."""
    strip = files.lowercase if files.strip_accents is None else files.strip_accents
    return {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": files.chinese_chars,
        "strip_accents": strip and not files.keep_accents,
        "lowercase": files.lowercase,
    }


def _pipeline(files: TokenizerFiles, ids: dict[str, int], **stages: Json | None) -> Json:
    named = files.special_tokens
    ids = ids | {token.content: token.id for token in files.added}
    present = {
        ids[token]: _added(ids[token], token, token == named["mask"]) for token in named.values() if token in ids
    }
    for token in files.added:
        # Where special tokens in a text are split, those that are found all the same cannot be called special.
        special = token.special and not (files.kind == "sentencepiece" and token.in_text)
        present[token.id] = {
            **{key: value for key, value in asdict(token).items() if key != "in_text"},
            "special": special,
        }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [present[number] for number in sorted(present)],
        **stages,
        "post_processor": _around(ids, files) if {named["cls"], named["sep"]} <= ids.keys() else None,
    }


def _added(number: int, token: str, is_mask: bool) -> Json:
    return {
        "id": number,
        "content": token,
        "single_word": False,
        "lstrip": is_mask,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _around(ids: dict[str, int], files: TokenizerFiles) -> Json:
    """The special tokens around one text (A) and around two (A, B)."""
    named = files.special_tokens
    if files.kind == "bpe":
        ends = {name: [named[name], ids[named[name]]] for name in ("sep", "cls")}
        return {"type": "RobertaProcessing", **ends, "trim_offsets": True, "add_prefix_space": files.prefix_space}
    tokens = CLS_A_SEP_B_SEP.map(named.__getitem__)

    def filled(*texts: str) -> list[Json]:
        return [
            {"SpecialToken" if part.sequence is None else "Sequence": {"id": token, "type_id": part.type}}
            for part in tokens.parts(*([text] for text in texts))
            for token in part.tokens
        ]

    special = dict.fromkeys((*tokens.before, *tokens.between, *tokens.after))
    return {
        "type": "TemplateProcessing",
        "single": filled("A"),
        "pair": filled("A", "B"),
        "special_tokens": {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in special},
    }


def _metaspace(prepend: str) -> Json:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend, "split": True}


def _replace(text: str, by: str) -> Json:
    return {"type": "Replace", "pattern": {"String": text}, "content": by}


def _replace_pattern(pattern: str, by: str) -> Json:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": by}
