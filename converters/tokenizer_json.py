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
from typing import Any

from converters.tokenizer_files import TokenizerFiles, ends_in_digit_comma, parse_model, parse_wordpiece

Json = dict[str, Any]

# Far more than any path around the piece costs.
_DIGIT_COMMA_PENALTY = 100.0
# What Python's str.split() takes for white space, in the syntax of the library's regular expressions.
_WHITE_SPACE = r"[\t-\r\x{1c}-\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+"
# Stands for [MASK] while the text is lower-cased: a private-use character; in a text, its neighbour takes its place.
_MASK_STAND_IN, _NEIGHBOUR = "\U0010fffd", "\U0010fffc"
_MASK = "[MASK]"
_MODEL_MAX_LENGTH = 512


def tokenizer_json(files: TokenizerFiles, *, special_tokens: bool = True) -> bytes | None:
    """The bytes of `tokenizer.json`, the same for the same files; None for a SentencePiece model that is not unigram.

    Without `special_tokens` the pipeline knows none: every text is plain, and nothing is put around it.
    Raises CorruptError where the files are damaged.
    """
    model = files.model()
    if model is not None:
        parsed = parse_model(model, files.origin)
        if parsed.trainer_spec.model_type != type(parsed.trainer_spec).UNIGRAM:
            return None
        data = _unigram(parsed, files)
    elif files.wordpiece is not None:
        data = _wordpiece(parse_wordpiece(files.wordpiece, files.origin), files)
    else:
        return None
    if not special_tokens:
        data |= {"added_tokens": [], "post_processor": None}
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def tokenizer_config(files: TokenizerFiles) -> Json:
    """What `tokenizer_config.json` says: the special tokens, and that `tokenizer.json` is to be taken as it is."""
    cls, sep, mask, pad, unk = _special_tokens(files)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "do_lower_case": files.lowercase,
        "keep_accents": files.keep_accents,
        "split_special_tokens": files.wordpiece is None,
        "model_max_length": _MODEL_MAX_LENGTH,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "cls_token": cls,
        "sep_token": sep,
        "mask_token": mask,
        "pad_token": pad,
        "unk_token": unk,
    }


def _special_tokens(files: TokenizerFiles) -> tuple[str, str, str, str, str]:
    if files.wordpiece is not None and files.spiece is None and files.vocab is None:
        return "[CLS]", "[SEP]", _MASK, "[PAD]", "[UNK]"
    return "[CLS]", "[SEP]", _MASK, "<pad>", "<unk>"


def _unigram(model: Any, files: TokenizerFiles) -> Json:
    kinds = type(model.pieces[0])
    ids = {piece.piece: number for number, piece in enumerate(model.pieces)}
    reserved = [piece.piece for piece in model.pieces if piece.type in (kinds.CONTROL, kinds.UNKNOWN)]
    vocabulary = [
        [piece.piece, piece.score - (_DIGIT_COMMA_PENALTY if ends_in_digit_comma(piece.piece) else 0.0)]
        for piece in model.pieces
    ]
    charsmap = base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()
    normalizers = [
        _replace(_MASK_STAND_IN, _NEIGHBOUR),
        _replace(_MASK, _MASK_STAND_IN),
        _replace_pattern(_WHITE_SPACE, " "),
        *([] if files.keep_accents else [{"type": "NFKD"}, {"type": "StripAccents"}]),
        *([{"type": "Lowercase"}] if files.lowercase else []),
        *([{"type": "Precompiled", "precompiled_charsmap": charsmap}] if charsmap else []),
        _replace_pattern("[ ▁]+", " "),
        {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "Prepend", "prepend": "▁"},
        _replace_pattern(f"[ ▁]?{_MASK_STAND_IN}", _MASK),  # a mask stands for a word and the space before it
    ]
    # A reserved piece must not be found in a text: cut after its first character, which has a piece or is unknown.
    cuts = "|".join(f"{re.escape(piece[0])}(?={re.escape(piece[1:])})" for piece in reserved if piece != _MASK)
    return _pipeline(
        files,
        ids,
        normalizer={"type": "Sequence", "normalizers": normalizers},
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": cuts}, "behavior": "MergedWithPrevious", "invert": False},
                _metaspace("never"),
            ],
        },
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
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": not files.keep_accents and files.lowercase,
            "lowercase": files.lowercase,
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": False},
        model={
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 200,  # Google's limit (tokenization.py, WordpieceTokenizer)
            "vocab": {token: number for number, token in enumerate(tokens)},
        },
    )


def _pipeline(files: TokenizerFiles, ids: dict[str, int], **stages: Json) -> Json:
    present = sorted((ids[token], token) for token in _special_tokens(files) if token in ids)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(number, token) for number, token in present],
        **stages,
        "post_processor": _around(ids) if "[CLS]" in ids and "[SEP]" in ids else None,
    }


def _added(number: int, token: str) -> Json:
    return {
        "id": number,
        "content": token,
        "single_word": False,
        "lstrip": token == _MASK,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _around(ids: dict[str, int]) -> Json:
    """`[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`, B and what ends it of type 1."""

    def special(token: str, kind: int) -> Json:
        return {"SpecialToken": {"id": token, "type_id": kind}}

    def sequence(name: str, kind: int) -> Json:
        return {"Sequence": {"id": name, "type_id": kind}}

    single = [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, sequence("B", 1), special("[SEP]", 1)],
        "special_tokens": {
            token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")
        },
    }


def _metaspace(prepend: str) -> Json:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend, "split": True}


def _replace(text: str, by: str) -> Json:
    return {"type": "Replace", "pattern": {"String": text}, "content": by}


def _replace_pattern(pattern: str, by: str) -> Json:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": by}
