"""fairseq's checkpoints: what the weights are wrapped in, the settings beside them, and their way to canonical tensors.

fairseq checkpoint_utils.py (`args`, since 0.10.1 `cfg`), models/roberta/model.py (`upgrade_state_dict_named`).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from converters import torch_files, variables
from converters.checkpoint import Array, Tensor, same_bits
from converters.config import Json
from converters.errors import ConfigError, CorruptError, FormatError, SpecError
from converters.families import families
from converters.family import Family
from converters.files import read_optional
from converters.messages import brief, counted, escaped, listing, shortened
from converters.names import NameTable, Row
from converters.pickles import Record
from converters.tokenizers import settings as tokenizer_settings
from converters.tokenizers.fairseq import read_fairseq
from converters.tokenizers.keys import CONFIG
from converters.tokenizers.vocabulary import find_vocabulary
from converters.torch_files import Stored

if TYPE_CHECKING:
    from converters.tokenizers.files import TokenizerFiles
    from converters.variables import Canonical

DICTIONARY = "dict.txt"

_MODEL, _ARGS, _CFG = "model", "args", "cfg"
_HEAD = re.compile(r"(?:module\.)?classification_heads\.([^.]+)\..*")
# fairseq's setting -> Hugging Face's.
_SETTINGS = {
    "encoder_attention_heads": "num_attention_heads",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "pooler_dropout": "classifier_dropout",
    "activation_fn": "hidden_act",
}
_ACTIVATIONS = {"gelu": "gelu", "gelu_accurate": "gelu_new", "gelu_fast": "gelu_new", "relu": "relu", "tanh": "tanh"}
# Settings that must agree with the tensors: Hugging Face's, and how many more there are of it.
_SIZES = {
    "encoder_layers": ("num_hidden_layers", 0),
    "encoder_embed_dim": ("hidden_size", 0),
    "encoder_ffn_embed_dim": ("intermediate_size", 0),
    "max_positions": ("max_position_embeddings", 2),  # the first two rows belong to no token
}
# Rows of special tokens before and after those of the dictionary, and what all are rounded up to.
_SPECIAL_ROWS, _MULTIPLE = 5, 8
_FLOAT32 = np.dtype(np.float32)
_HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
_MOST_CHARACTERS = 60
_MOST_NESTED = 8  # nodes of omegaconf in one another


@dataclass(frozen=True)
class Wrapped:
    """The weights as they are pickled, the settings of the model (none where nothing wraps the weights), and the names
    of what else training left there."""

    weights: Mapping[Any, Any]
    settings: Json
    others: list[str]


def unwrapped(value: Any) -> Wrapped | None:
    """What is in a checkpoint of fairseq's; None for anything else."""
    if not isinstance(value, dict):
        return None
    weights = value.get(_MODEL)
    if isinstance(weights, dict) and (_ARGS in value or _CFG in value or family_in(weights)):
        settings = fields(value.get(_ARGS)) or fields(fields(value.get(_CFG)).get(_MODEL))
        others = [
            shortened(str(name), _MOST_CHARACTERS)
            for name in value
            if name not in (_MODEL, _ARGS, _CFG) and value[name] is not None
        ]
        return Wrapped(weights, {str(name): _plain(item) for name, item in settings.items()}, others)
    flat = all(isinstance(name, str) and isinstance(item, Stored) for name, item in value.items())
    return Wrapped(value, {}, []) if flat and family_in(value) else None


def claims(path: Path) -> bool:
    """Whether a file is a checkpoint of fairseq's by what it holds, or if that cannot be read, by what is beside it."""
    if path.suffix.lower() not in (".pt", ".pth") and not torch_files.begins_as_one(path):
        return False
    try:
        return unwrapped(torch_files.read(path, records=True).value) is not None
    except CorruptError:
        return (path.parent / DICTIONARY).is_file()


def fields(value: Any) -> Mapping[Any, Any]:
    """The settings in a dictionary, a Namespace, an object or a DictConfig of omegaconf; none in anything else."""
    if isinstance(value, Record):
        value = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
    content = value.get("_content") if isinstance(value, dict) else None
    value = content if isinstance(content, dict) else value
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> Any:
    """A setting that is a plain value: also in a node of omegaconf, or of a member of an Enum; else its kind."""
    for _ in range(_MOST_NESTED):
        if not isinstance(value, Record):
            break
        if isinstance(value.state, dict) and "_val" in value.state:
            value = value.state["_val"]
        elif value.state is None and len(value.arguments) == 1:
            value = value.arguments[0]
        else:
            break
    if isinstance(value, str):
        return shortened(value, _MOST_CHARACTERS)
    return value if value is None or isinstance(value, (bool, int, float)) else f"a {torch_files.kind_of(value)}"


def family_in(names: Iterable[Any]) -> Family | None:
    """The family whose word embeddings are among the names, in any spelling of fairseq's."""
    every = [name for name in names if isinstance(name, str)]
    for family in families().values():
        words, legacy = family.foreign("fairseq", "embeddings.words"), family.legacy.get("fairseq", {})
        if words is not None and any(variables.modern_name(name, legacy) == words for name in every):
            return family
    return None


def one_head(weights: Mapping[str, Tensor], wanted: str | None, where: str) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The weights with one classification head at the most, and the tensors of others, counted by what is said of them.

    FormatError where it is not said which of several, or one is wanted that is not there.
    """
    heads = {name: match[1] for name in weights if (match := _HEAD.fullmatch(name))}
    names = list(dict.fromkeys(heads.values()))
    if wanted is not None and wanted not in names:
        raise FormatError(where, f"holds no classification head {brief(wanted)}, but {listing(names) or 'none at all'}")
    if wanted is None and len(names) > 1:
        held = f"holds {len(names)} classification heads: {listing(names)}"
        raise FormatError(where, held, "say which with --classification-head NAME")
    dropped: dict[str, int] = {}
    for head in (escaped(name) for name in heads.values() if wanted not in (None, name)):
        reason = f"tensors of the classification head {head} (--classification-head {head} converts it)"
        dropped[reason] = dropped.get(reason, 0) + 1
    return {
        name: item for name, item in weights.items() if heads.get(name) in (None, wanted or heads.get(name))
    }, dropped


def modernised(weights: Mapping[str, Tensor], family: Family, where: str) -> dict[str, Tensor]:
    """The weights by today's names of fairseq's, those apart that it once had in one tensor."""
    renamed = variables.modernised(weights, family.legacy.get("fairseq", {}), where)
    apart: dict[str, Tensor] = {}
    for name, tensor in renamed.items():
        found = ((re.fullmatch(pattern, name), parts) for pattern, parts in family.fused.items())
        match, parts = next(((match, parts) for match, parts in found if match), (None, ()))
        made = {name: tensor} if match is None else _split(tensor, [match.expand(part) for part in parts], name, where)
        if twice := apart.keys() & made.keys():
            raise SpecError(
                where, f"holds {listing(sorted(twice))} twice, apart and in one tensor with others; remove one"
            )
        apart |= made
    return apart


def _split(tensor: Tensor, names: list[str], whole: str, where: str) -> dict[str, Tensor]:
    """The tensors that lie below one another in one."""
    rows, left = divmod(tensor.shape[0], len(names)) if tensor.shape else (0, 1)
    if left:
        shape = list(tensor.shape)
        raise SpecError(where, f"{escaped(whole)} of shape {shape} is not {len(names)} matrices below one another")

    def part(number: int) -> Tensor:
        start = number * rows
        return Tensor((rows, *tensor.shape[1:]), tensor.dtype, lambda: tensor.read()[start : start + rows])

    return {name: part(number) for number, name in enumerate(names)}


def settings_of(settings: Json, family: Family, where: str) -> Json:
    """What fairseq's settings say of a config, in Hugging Face's terms; a preset says what fairseq's code fixes."""
    preset = next(iter(family.presets.values()))
    said = {new: settings[old] for old, new in _SETTINGS.items() if settings.get(old) is not None}
    if "hidden_act" in said:
        name = said["hidden_act"]
        if name not in _ACTIVATIONS:
            raise ConfigError(where, f"activation_fn is {brief(name)}, not one of {', '.join(_ACTIVATIONS)}")
        said["hidden_act"] = _ACTIVATIONS[name]
    return {"layer_norm_eps": preset.layer_norm_eps, **preset.extra, **said}


def check_settings(settings: Json, config: Json, names: Iterable[str], where: str) -> None:
    """ConfigError where settings contradict the tensors' sizes, or a head computes what is not supported."""
    faults = []
    for name, (key, more) in _SIZES.items():
        said, found = settings.get(name), config[key]
        if said is not None and (not isinstance(said, int) or said + more != found):
            faults.append(
                f"{name} is {brief(said)}, but its tensors have {found - more}" + (f" + {more}" if more else "")
            )
    pooling = settings.get("pooler_activation_fn", "tanh")
    if pooling != "tanh" and any(map(_HEAD.fullmatch, names)):
        faults.append(f"pooler_activation_fn is {brief(pooling)}, and only tanh is supported")
    if faults:
        raise ConfigError(where, "; ".join(faults))


def table(family: Family) -> NameTable:
    """The family's names, and those of copies of the word embeddings that no table lists."""
    words, known = family.foreign("fairseq", "embeddings.words") or "", {row.canonical for row in family.fairseq.rows}
    hf = next(entry.hf for entry in family.entries if entry.role == "embeddings.words") + ".weight"
    before = words.removesuffix(hf)
    copies = [name for name in family.tied if name not in known] if before != words else []
    return family.fairseq.extended(Row(name, before + name) for name in copies)


def completed(found: Canonical, family: Family) -> Canonical:
    """The tensors without the copies that are tied, in float32, and with the token types that fairseq has not.

    SpecError where a copy differs from what it is tied to.
    """
    tensors, dropped = dict(found.tensors), dict(found.dropped)
    copies = [(name, source) for name, source in family.tied.items() if name in tensors and source in tensors]
    for name, source in copies:
        if not same_bits(tensors.pop(name).read(), tensors[source].read()):
            raise SpecError(found.where, f"{name} differs from {source}, which fairseq ties it to; one is damaged")
    if copies:
        dropped["tied decoder copies"] = len(copies)
    return dataclasses.replace(found, tensors=tensors | _types(tensors, family, found), dropped=dropped)


def _types(tensors: Mapping[str, Tensor], family: Family, found: Canonical) -> dict[str, Tensor]:
    """The token types as transformers needs them, all zeros: fairseq's encoder adds none."""
    name = next(entry.hf for entry in family.entries if entry.role == "embeddings.types") + ".weight"
    if name in tensors or family.foreign("fairseq", "embeddings.types"):
        return {}
    shape = (found.config.type_vocab_size, found.config.embedding_size)
    return {name: Tensor(shape, _FLOAT32, lambda: np.zeros(shape, _FLOAT32))}


def in_float32(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Half precision in float32, which holds each of its values; and a note of it."""
    halves = {name: tensor for name, tensor in tensors.items() if tensor.dtype in _HALVES}
    wide = {name: Tensor(item.shape, _FLOAT32, functools.partial(_widened, item)) for name, item in halves.items()}
    kinds = ", ".join(sorted({tensor.dtype.name for tensor in halves.values()}))
    notes = [f"{counted(halves, 'tensor')} in {kinds} read as float32, which changes no value"] if halves else []
    return {name: wide.get(name, tensor) for name, tensor in tensors.items()}, notes


def _widened(tensor: Tensor) -> Array:
    return tensor.read().astype(_FLOAT32)


def check_rows(directory: Path, rows: int) -> None:
    """CorruptError where a table has fewer rows than the dictionary beside it, or more than its padding explains."""
    content = read_optional(directory / DICTIONARY)
    if content is None:
        return
    words = len(content.decode("utf-8", "replace").split("\n")) - content.endswith(b"\n")
    most = -(-(words + _SPECIAL_ROWS) // _MULTIPLE) * _MULTIPLE
    if not words <= rows <= most:
        raise SpecError(
            directory / DICTIONARY,
            f"{words} entries, which make {words + _SPECIAL_ROWS} rows (at most {most}, padded), and the model's word "
            f"embeddings have {rows}; copy the model's own dictionary there",
        )


def tokenizer_beside(directory: Path, settings: Json, family: Family, rows: int) -> tuple[TokenizerFiles, list[str]]:
    """The tokenizer beside a checkpoint, and a note where it is assumed to be cased: the list of words of a SpanBERT.

    `settings`: those of the tokenizer in a config beside it. `rows`: those of the model's word embeddings, for
    fairseq's own files.
    """
    listed = find_vocabulary(directory)
    if not listed and "bpe" in family.tokenizer.classes:
        return read_fairseq(directory, rows), []
    if settings or (directory / CONFIG).exists() or not listed:
        return tokenizer_settings.tokenizer_beside(directory, settings, family), []
    found = tokenizer_settings.tokenizer_beside(directory, {"do_lower_case": False}, family)
    return found, [f"the tokenizer is taken as cased, as those of all SpanBERTs are; {CONFIG} may say otherwise"]
