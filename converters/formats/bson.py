"""Julia's `.tfbson`: what ALBERT.jl's `BSON.@save file config weights vocab` writes and `@load` reads.

`config` is a Dict{String,Any}, `weights` a Dict{String,Array} of TensorFlow's variables in Julia's orientation (see
`converters.julia.layout`), `vocab` a vector of the vocabulary's lines. Ours besides, and only where the lines are not
all there is: `spiece`, `wordpiece`, `vocab_json` and `merges`, the bytes of the tokenizer's files. The bytes:
`converters.julia.file`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converters import google, variables
from converters.buffer_pool import empty
from converters.checkpoint import Array, Checkpoint, Tensor, fill
from converters.choices import NONE, Choices
from converters.config import EncoderConfig
from converters.errors import CheckpointError, CorruptError
from converters.families import family_of
from converters.family import Family
from converters.files import SMALL_FILE_BYTES
from converters.julia import file as julia_file
from converters.julia import layout
from converters.julia.values import Symbol, brief
from converters.libraries import require_library
from converters.names import SLOTS
from converters.tokenizers.bpe import parse_bpe
from converters.tokenizers.files import TokenizerFiles
from converters.tokenizers.wordpiece import parse_wordpiece

NAME = "bson"
DESCRIPTION = "Julia's .tfbson or .bson (config, weights, vocab), as BSON.jl saves and loads it"
OURS: re.Pattern[str] | None = None
SUFFIXES: tuple[str, ...] = (".tfbson", ".bson")
TAKES: frozenset[str] = frozenset()
WRITES = True
HOLDS_SENTENCE_FILES = False
# Julia itself has no bfloat16.
DTYPES: tuple[np.dtype[Any], ...] = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.float64))

_OTHER_DTYPES: tuple[np.dtype[Any], ...] = (np.dtype(np.int64), np.dtype(np.int32))
_PARTS = ("spiece", "wordpiece", "vocab_json", "merges")
_CONFIG_BYTES = 1 << 18
_ARRAYS_A_LAYER, _ARRAYS_BESIDE, _MOST_LAYERS = 16, 64, 4096
_MORE_ARRAYS = 1000  # than the config has a place for: those are worth naming


def recognises(path: Path) -> bool:
    if not path.is_file():
        return False
    if path.suffix.lower() in SUFFIXES:
        return True  # damaged ones too
    try:
        with julia_file.opened(path) as file:
            return "weights" in file.top
    except CorruptError:
        return False


def fits_target(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def place(path: Path) -> Path:
    return path


def holds(family: Family) -> bool:
    return True


def read(path: Path, choices: Choices = NONE) -> Checkpoint:
    require_library("bson", "reading Julia's BSON")
    with julia_file.opened(path) as file:
        if lacking := [key for key in ("config", "weights") if key not in file.top]:
            held = brief(list(file.top))
            raise CorruptError(
                path,
                f"no {' and no '.join(lacking)}, but {held}: not Julia's raw kind (.tfbson), which "
                "holds config, weights and vocab",
            )
        said = file.value(file.top["config"], "config", _CONFIG_BYTES)
        most = _most_arrays(said)
        tensors = {
            name: _tensor(path, name, file.stored(node, f"weights {brief(name)}"))
            for name, node in file.pairs(file.top["weights"], "weights", most)
        }
        lines = file.lines(file.top["vocab"], "vocab", SMALL_FILE_BYTES) if "vocab" in file.top else b""
        parts = {name: file.bytes_of(file.top[name], name, SMALL_FILE_BYTES) for name in _PARTS if name in file.top}
    step = tensors.pop(variables.STEP, None)
    settled, settings = _config(said, f"{path}: config", tensors)
    names = layout.names(settled, variables.components_of(tensors, settled))
    canonical = variables.to_canonical(tensors, names, settled, str(path))
    return canonical.checkpoint(NAME, _tokenizer(path, lines, parts, settings, settled), step)


def write(checkpoint: Checkpoint, path: Path) -> None:
    tokenizer = checkpoint.tokenizer
    weights = variables.to_foreign(
        checkpoint, layout.names(checkpoint.config, checkpoint.components)
    ) | variables.step_of(checkpoint)
    try:
        config = _each(google.config_of(checkpoint), _digits)
    except RecursionError:
        raise CheckpointError(checkpoint.where, "the config is nested too deeply for a BSON file") from None
    values = {
        "config": config,
        "weights": julia_file.Arrays(weights),
        "vocab": _lines(tokenizer),
        **{name: getattr(tokenizer, name) for name in _PARTS},
    }
    julia_file.write(path, {name: value for name, value in values.items() if value is not None})


def notes(checkpoint: Checkpoint) -> Sequence[str]:
    return google.notes(checkpoint)


def _most_arrays(said: Any) -> int:
    """How many arrays a model of such a config may have, with optimizer slots, and enough more to name."""
    settings = said if isinstance(said, dict) else {}  # another is refused once the names are known
    counts = [settings.get(key) for key in ("num_hidden_layers", "num_hidden_groups", "inner_group_num")]
    layers, groups, inner = (count if isinstance(count, int) and 0 < count <= _MOST_LAYERS else 1 for count in counts)
    places = min(max(layers, groups * inner), _MOST_LAYERS)
    return (_ARRAYS_A_LAYER * places + _ARRAYS_BESIDE) * (1 + len(SLOTS)) + _MORE_ARRAYS


def _config(found: Any, where: str, names: Iterable[str]) -> tuple[EncoderConfig, dict[str, Any]]:
    """The config, by way of JSON: what JSON cannot express is not a setting."""
    try:
        text = json.dumps(_each(found, _number), default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CorruptError(where, f"holds what is no setting ({error})") from None
    return google.parse_config(text, where, names)


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """A setting with every plain value in it changed."""
    if isinstance(value, dict):
        return {key: _each(item, change) for key, item in value.items()}
    return [_each(item, change) for item in value] if isinstance(value, list) else change(value)


# Julia's widest whole number has 128 bits. What is wider in JSON is kept as a Symbol, which no config of Julia's has.
def _digits(value: Any) -> Any:
    return Symbol(value) if isinstance(value, int) and not -(2**127) <= value < 2**127 else value


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, Symbol) and re.fullmatch(r"-?[0-9]{39,4300}", value) else value


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return value.tolist()
    raise TypeError(f"a {type(value).__name__}")


def _tensor(path: Path, name: str, stored: julia_file.Stored) -> Tensor:
    if stored.dtype not in (*DTYPES, *_OTHER_DTYPES):
        wanted = "Float32, Float16, Float64 or Int64"
        raise CorruptError(path, f"weights {brief(name)}: an array of {stored.type}, not of {wanted}")
    return Tensor(stored.shape, stored.dtype, functools.partial(_load, path, name, stored))


def _load(path: Path, name: str, stored: julia_file.Stored) -> Array:
    array = empty(stored.shape[::-1], stored.dtype)
    fill(array, path, stored.offset, f"weights {name}")
    return array.T


def _lines(tokenizer: TokenizerFiles) -> list[str]:
    """What the vocabulary of every kind is in Julia: its lines, or the pieces of a BPE in the order of their ids."""
    if tokenizer.kind == "bpe":
        return parse_bpe(tokenizer.vocab_json, tokenizer.merges, tokenizer.origin)[0]
    lines = tokenizer.lines()
    return _split(tokenizer.wordpiece or b"" if lines is None else lines, tokenizer.origin)


def _split(lines: bytes, origin: str) -> list[str]:
    """What Julia's `readlines` gives, but for the \\r that it would drop."""
    try:
        return lines.decode().removesuffix("\n").split("\n") if lines else []
    except UnicodeDecodeError as error:
        line = lines.count(b"\n", 0, error.start) + 1
        raise CheckpointError(origin, f"line {line} of the vocabulary is not UTF-8, as Julia's strings are") from None


def _tokenizer(
    path: Path, lines: bytes, parts: dict[str, bytes], settings: dict[str, Any], config: EncoderConfig
) -> TokenizerFiles:
    if lines and not parts and b"\t" not in lines:
        parts = {"wordpiece": lines}  # a model with such a list, converted in Julia
        parse_wordpiece(lines, str(path))
    found: dict[str, Any] = dict(parts)
    listed = "wordpiece" in parts and lines == parts["wordpiece"].removesuffix(b"\n") + b"\n"
    if lines and not listed and "vocab_json" not in parts:
        found["vocab"] = lines
    origin = {"wordpiece": "vocab"} if lines else None
    table = family_of(config).tokenizer
    return TokenizerFiles.of(str(path), **found, settings=settings, table=table, origin=origin)
