"""From a path or a checkpoint's files to what cuts texts into pieces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from albert_cli.errors import TokenizerError
from albert_cli.tokenization.added_tokens import AddedTokenSegmenter
from albert_cli.tokenization.basic import Rules
from albert_cli.tokenization.byte_level import ByteLevelSegmenter
from albert_cli.tokenization.segmenters import Segmenter, SentencePieceSegmenter
from albert_cli.tokenization.wordpiece import WordPieceSegmenter
from converters.errors import ConfigError, CorruptError, FormatError
from converters.files import read_small
from converters.tokenizers.bpe import parse_bpe
from converters.tokenizers.fairseq import DICTIONARY, ENCODER, MERGES
from converters.tokenizers.files import TokenizerFiles
from converters.tokenizers.sentencepiece_model import parse_model
from converters.tokenizers.settings import read_tokenizer
from converters.tokenizers.tokenizer_json import bert_normalizer, preparation
from converters.tokenizers.vocabulary import BPE_PARTS, KINDS
from converters.tokenizers.wordpiece import parse_wordpiece

NO_TOKENIZER = (
    "the model carries no tokenizer; copy its own beside it (spiece.model, vocab.txt, or vocab.json and merges.txt)"
)


def find_tokenizer_files(path: Path) -> TokenizerFiles:
    """The tokenizer files at `path`: a file of them, a directory with them, or a model of any format."""
    from converters import convert

    if is_one_of_several(path):
        path = path.parent
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
        raise TokenizerError(path, NO_TOKENIZER)
    return files


def is_one_of_several(path: Path) -> bool:
    """Whether it is a file of a byte-level BPE, which is nothing without the files beside it."""
    listed = (DICTIONARY, ENCODER, MERGES)
    return path.is_file() and (path.name in listed or any(KINDS[kind].fullmatch(path.name) for kind in BPE_PARTS))


def segmenter_of(files: TokenizerFiles, *, raw: bool = False) -> Segmenter:
    """What cuts texts as the files say; with `raw` SentencePiece alone. TokenizerError where there are no files."""
    if files.kind is None:
        raise TokenizerError(NO_TOKENIZER)
    if files.kind == "sentencepiece":
        return _sentencepiece(files, files.model() or b"", raw)
    if raw:
        what = "a WordPiece list" if files.kind == "wordpiece" else "a byte-level BPE"
        raise TokenizerError(f"{files.origin}: {what} cannot be used raw; only SentencePiece models can")
    return _wordpiece(files) if files.kind == "wordpiece" else _byte_level(files)


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
    strip = files.lowercase if files.strip_accents is None else files.strip_accents
    segmenter = WordPieceSegmenter(
        parse_wordpiece(files.wordpiece or b"", files.origin, files.special_tokens["unk"]),
        Rules(files.lowercase, strip and not files.keep_accents, files.chinese_chars, files.drop_category_c),
        special_tokens=files.special_tokens,
        word_limit=files.word_limit,
    )
    return AddedTokenSegmenter(segmenter, files.added, [bert_normalizer(files)]) if files.added else segmenter


def _byte_level(files: TokenizerFiles) -> Segmenter:
    segmenter = ByteLevelSegmenter(
        *parse_bpe(files.vocab_json, files.merges, files.origin),
        special_tokens=files.special_tokens,
        prefix_space=files.prefix_space,
    )
    return AddedTokenSegmenter(segmenter, files.added, []) if files.added else segmenter
