"""The vocabulary in a directory: which files it is in, and its tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.config import EncoderConfig
from converters.errors import FormatError
from converters.files import read_small
from converters.tokenizers.bpe import parse_bpe
from converters.tokenizers.files import Kind, TokenizerFiles
from converters.tokenizers.sentencepiece_model import parse_model, parse_vocab
from converters.tokenizers.wordpiece import parse_wordpiece

# The names that the files of each kind have.
KINDS = {
    "spiece": re.compile(r".*\.model"),
    "vocab": re.compile(r".*\.vocab"),
    "wordpiece": re.compile(r"(.*[-_.])?vocab([-_.].*)?\.txt"),
    "vocab_json": re.compile(r"(.*[-_.])?vocab\.json"),
    "merges": re.compile(r"(.*[-_.])?merges\.txt"),
}
# Classes of transformers whose ids are those of a BERT; "Fast" at the end is left out.
BERT = {f"{name}Tokenizer" for name in ("Bert", "DistilBert", "Electra", "MobileBert", "ConvBert", "SqueezeBert")}
BERT |= {"BertTokenizerLegacy"}
ALBERT = {"AlbertTokenizer"}
# Those whose ids are those of a RoBERTa.
BPE = {f"{name}Tokenizer" for name in ("Roberta", "Longformer", "Bart", "GPT2")}
BPE_PARTS = ("vocab_json", "merges")
_KINDS: dict[Kind, tuple[Collection[str], Collection[str]]] = {  # its parts, its classes
    "sentencepiece": (("spiece", "vocab"), ALBERT),
    "wordpiece": (("wordpiece",), BERT),
    "bpe": (BPE_PARTS, BPE),
}


def find_vocabulary(directory: Path, first: Sequence[str] = (), tokenizer_class: str = "") -> dict[str, Path]:
    """The files of a vocabulary by part: `spiece` and `vocab`, `wordpiece`, or `vocab_json` and `merges`; empty where
    there are none. One of the last two alone does not count beside another vocabulary.

    `first`: the names that count before others of their kind. FormatError names the files where there are several.
    """
    names = sorted(path for path in directory.iterdir() if not path.is_dir()) if directory.is_dir() else []
    found: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    for path in names:
        for kind, pattern in KINDS.items():
            if pattern.fullmatch(path.name):
                listed = kind == "vocab" and b"\t" not in read_small(path) and read_small(path).strip()
                found["wordpiece" if listed else kind].append(path)
    chosen: dict[str, Path] = {}
    for kind, paths in found.items():
        named = [path for path in paths if path.name in first]
        several = {read_small(path): path for path in reversed(named or paths)}
        if len(several) > 1:
            raise _several(directory, sorted(several.values()))
        if several:
            chosen[kind] = (named or paths)[0]
    return _of_one_kind(chosen, directory, tokenizer_class)


def _of_one_kind(chosen: dict[str, Path], directory: Path, tokenizer_class: str) -> dict[str, Path]:
    """The files of the one kind of vocabulary, which the class tells where there are several."""
    kinds: dict[Kind, dict[str, Path]] = {}
    for kind, (parts, _) in _KINDS.items():
        if own := {part: chosen[part] for part in parts if part in chosen}:
            kinds[kind] = own
    if len(kinds) > 1 and len(kinds.get("bpe", ())) == 1:
        del kinds["bpe"]
    named = [own for kind, own in kinds.items() if tokenizer_class in _KINDS[kind][1]]
    if len(kinds) > 1 and not named:
        raise _several(directory, [next(iter(own.values())) for own in kinds.values()])
    return next(iter(named or kinds.values()), {})


def _several(directory: Path, paths: Iterable[Path]) -> FormatError:
    names = " and ".join(path.name for path in paths)
    return FormatError(directory, f"holds several vocabularies, {names}; remove all but the model's own")


def misfits(files: TokenizerFiles, config: EncoderConfig) -> list[str]:
    """Why a model cannot compute with the ids of its tokenizer.

    A SentencePiece model is asked only where the id of padding matters to the model.
    """
    if files.kind is None or (files.kind == "sentencepiece" and not config.position_offset):
        return []
    if files.kind == "sentencepiece":
        pieces = Vocabulary.of(files, where=files.origin, needed=True).tokens
        ids = {piece: number for number, piece in enumerate(pieces)}
    elif files.kind == "bpe":
        ids = json.loads(files.vocab_json or b"{}")  # checked when it was read; the merges take long
    else:
        tokens = parse_wordpiece(files.wordpiece or b"", files.origin, files.special_tokens["unk"])
        ids = {token: number for number, token in enumerate(tokens)}
    size = max((number + 1 for number in (*ids.values(), *(token.id for token in files.added))), default=0)
    found = []
    if size > config.vocab_size:
        found.append(f"the tokenizer has {size} pieces, the model only {config.vocab_size}")
    pad, name = config.position_offset - 1, files.special_tokens["pad"]
    if pad >= 0 and ids.get(name, pad) != pad:
        found.append(
            f"{name} has the id {ids[name]}, but the model counts positions from pad_token_id {pad}; take a config "
            f"with pad_token_id {ids[name]}, or the model's own tokenizer"
        )
    return found


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in id order, and of a SentencePiece model its scores, unknown piece and normalisation.

    `own`: the ids of its control, unknown and user-defined pieces. transformers lists them as added tokens, but under
    Google's rules the model itself finds the last and never the others.
    """

    tokens: Sequence[str] = ()
    scores: Sequence[float] = ()
    own: frozenset[int] = frozenset()
    unknown: str | None = None
    charsmap: bytes = b""
    merges: Sequence[tuple[str, str]] = ()

    @classmethod
    def of(cls, files: TokenizerFiles, *, where: str, needed: bool) -> Vocabulary:
        renamed = files.names.get("unk") is not None
        if files.kind is None or (not needed and not renamed):
            return cls()
        if files.kind == "bpe":
            pieces, merges = parse_bpe(files.vocab_json, files.merges, where)
            return cls(pieces, merges=merges)
        if files.kind == "wordpiece":
            return cls(parse_wordpiece(files.wordpiece or b"", where, files.special_tokens["unk"]))
        if files.spiece is None:
            parse_vocab(files.vocab or b"", where)
        model = parse_model(files.model() or b"", where)
        kinds = type(model.pieces[0])
        own = (kinds.CONTROL, kinds.UNKNOWN, kinds.USER_DEFINED)
        return cls(
            [piece.piece for piece in model.pieces],
            [piece.score for piece in model.pieces],
            frozenset(number for number, piece in enumerate(model.pieces) if piece.type in own),
            next((piece.piece for piece in model.pieces if piece.type == kinds.UNKNOWN), None),
            model.normalizer_spec.precompiled_charsmap,
        )
