"""A Hugging Face directory: everything of it but how its weights are stored.

`config.json`, the names and shards of the weight files, the tokenizer's files and those of Sentence-Transformers.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from converters import sentence_files, sentence_keys, spec, strangers, variables
from converters.checkpoint import Checkpoint, Tensor, same_bits
from converters.config import EncoderConfig, Json, dump_json, parse_json
from converters.config_keys import check_files, holds_refused_file
from converters.dialects import config_from_json, to_hf
from converters.errors import CheckpointError, CorruptError, FormatError, SpecError
from converters.families import families, family_of, find
from converters.family import TokenizerTable
from converters.files import read_small
from converters.messages import listing
from converters.names import slot_of
from converters.tokenizers.files import FILE_NAMES, TokenizerFiles
from converters.tokenizers.settings import read_tokenizer
from converters.tokenizers.tokenizer_json import tokenizer_config, tokenizer_json

# The weight files, whole or sharded, and their index: of today, and as PyTorch alone writes them.
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# Weights of both kinds, so that no directory is left with new ones of one kind and old ones of the other.
OURS = re.compile(
    r"config\.json|model\.safetensors(\.index\.json)?|model-\d+-of-\d+\.safetensors|optimizer\.safetensors"
    r"|pytorch_model\.bin(\.index\.json)?|pytorch_model-\d+-of-\d+\.bin|optimizer_slots\.bin"
    rf"|{FILE_NAMES}|{sentence_keys.OURS}"
)

_CONFIG = "config.json"
_HEAD = "head.safetensors"  # a fine-tuned MLP, which no format has a place for (albert_cli.training.run_directory)
OWN_HEAD = f"head of another shape than linear ({_HEAD})"
_SPIECE, _VOCAB, _WORDPIECE = "spiece.model", "spiece.vocab", "vocab.txt"
_VOCAB_JSON, _MERGES = "vocab.json", "merges.txt"
_TOKENIZER, _TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"

_WORDS = "embeddings.word_embeddings.weight"
_PLAIN = re.compile(r"[\w-]+(\.[\w-]+)*", re.ASCII)
# Parts of names that stand in an encoder alone: what is so named is no head, and never left out.
_INSIDE = frozenset({"embeddings", "encoder", *(family.prefix.rstrip(".") for family in families().values())})


@dataclass(frozen=True)
class Weights:
    """What differs between the kinds of Hugging Face directories: the names of their files and what reads one of them.

    `files` are the names of the one file and of the index of shards. `read_file` gives the tensors of a file by name,
    and its metadata as text.
    """

    format: str
    files: tuple[str, str]
    optimizer: str
    read_file: Callable[[Path], tuple[dict[str, Tensor], dict[str, str]]]


def holds_safetensors(directory: Path) -> bool:
    """Whether a directory is one of safetensors, which count before the weights of PyTorch where both are there.

    So is one that is refused for what lies in it: reading it says why.
    """
    where = sentence_files.encoder_or_self(directory)
    return where is None or holds_refused_file(where) or any((where / name).exists() for name in SAFETENSORS)


def holds_pickles(directory: Path) -> bool:
    """Whether there are weights as PyTorch alone writes them."""
    where = sentence_files.encoder_or_self(directory)
    return where is not None and any((where / name).exists() for name in PICKLES)


def read_directory(path: Path, kind: Weights) -> Checkpoint:
    """A Hugging Face directory, or one file of weights in it, whatever kind its weights are of."""
    root = path if path.is_dir() else path.parent
    directory = sentence_files.encoder_directory(root)
    check_files(directory)
    stored, metadata = _read_sharded(directory, kind) if path.is_dir() else kind.read_file(path)
    strangers.refuse(stored, str(path))
    if not (directory / _CONFIG).exists():
        raise CheckpointError(directory, f"no {_CONFIG} beside the weights; copy the model's one there")
    where = str(directory / _CONFIG)
    data = parse_json(read_small(directory / _CONFIG), where)
    family = find(data.get("model_type") if isinstance(data, dict) else None, stored, where)
    config = config_from_json(data, where, dialect="hf", family=family)
    stored = variables.modernised(stored, family.legacy.get("hf", {}), str(path))
    named, notes = unwrapped(stored, config, str(path))
    tensors, dropped = canonical(named, config)
    if path.is_dir() and (directory / _HEAD).exists():
        dropped[OWN_HEAD] = 1
    optimizer: dict[str, Tensor] = {}
    if path.is_dir() and (directory / kind.optimizer).exists():
        optimizer, _ = kind.read_file(directory / kind.optimizer)
        if stray := [name for name in optimizer if slot_of(name) is None]:
            raise SpecError(directory / kind.optimizer, f"{listing(stray)} is no optimizer slot (variable/adam_m)")
    step = metadata.get("global_step")
    if step is not None and not (re.fullmatch(r"-?\d{1,19}", step) and -(2**63) <= int(step) < 2**63):
        raise CorruptError(path, f"global_step in the metadata is {step!r}, not a whole number")
    return Checkpoint(
        config=_without_label_names(config, tensors),
        tensors=tensors,
        tokenizer=read_tokenizer(directory, first=(_SPIECE, _VOCAB, _WORDPIECE, _VOCAB_JSON, _MERGES), family=family),
        optimizer=optimizer,
        global_step=None if step is None else int(step),
        sentence=sentence_files.read_sentence_files(root, config),
        dropped=dropped,
        format=kind.format,
        where=str(path),
        notes=notes,
    )


def write_beside(checkpoint: Checkpoint, path: Path) -> None:
    """What lies in a Hugging Face directory beside the weights: config, tokenizer, Sentence-Transformers' files."""
    config = to_hf(checkpoint.config)
    config.setdefault("architectures", [spec.architecture(checkpoint.tensors, checkpoint.config)])
    labels = _label_names(checkpoint.config, checkpoint.tensors)
    config = labels | config
    words = f"{family_of(checkpoint.config).prefix}{_WORDS}"
    config["dtype"] = checkpoint.tensors[words].dtype.name
    (path / _CONFIG).write_bytes(dump_json(config))
    _write_tokenizer(checkpoint.tokenizer, path, family_of(checkpoint.config).tokenizer)
    for name, content in (checkpoint.sentence.files if checkpoint.sentence else {}).items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(content)


def _label_names(config: EncoderConfig, tensors: Mapping[str, Tensor]) -> Json:
    """The labels as transformers calls them where nobody has; none where it takes as many by default.

    None beside a pair head either: transformers' ALBERT takes the number of labels for that of its outputs.
    """
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    count = spec.labels(shapes, config)
    if count in (None, 2) or family_of(config).pair in spec.components(shapes, config):
        return {}
    names = [f"LABEL_{number}" for number in range(count or 0)]
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }


def _without_label_names(config: EncoderConfig, tensors: Mapping[str, Tensor]) -> EncoderConfig:
    """The config without labels that follow from their number."""
    usual = _label_names(config, tensors)
    if not usual or config.extra.get("id2label") != usual["id2label"]:
        return config
    extra = {key: value for key, value in config.extra.items() if key not in usual or usual[key] != value}
    return dataclasses.replace(config, extra=extra)


def unwrapped(
    stored: Mapping[str, Tensor], config: EncoderConfig, where: str
) -> tuple[Mapping[str, Tensor], list[str]]:
    """The tensors as transformers' classes call them, whatever module they were a part of; and a note of what changed.

    The encoder is what the word embeddings are in: itself (as BertModel saves it), `bert`, or a module of another name.
    What stands before it was put there by a wrapper (DataParallel's `module.`, Lightning's `model.`, …).
    """
    found = [name for name in stored if name == _WORDS or name.endswith(f".{_WORDS}")]
    if len(found) > 1:
        raise SpecError(where, f"holds {len(found)} encoders ({listing(found)}); save the one you want alone")
    if not found:
        return stored, []
    encoder = found[0].removesuffix(_WORDS)
    if not _PLAIN.fullmatch(found[0]):
        return stored, []
    prefix = family_of(config).prefix
    outer = "".join(f"{part}." for part in encoder.split(".")[:-2])
    table = family_of(config).hf
    known = table.expand(config).by_foreign
    renamed: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        inside = prefix + name.removeprefix(encoder)
        if name.startswith(encoder) and (encoder or inside in known or table.dropped(inside)):
            new = inside
        else:
            new = name.removeprefix(outer)
        if new in renamed:
            raise SpecError(where, f"{name} stands for {new}, of which there is another one")
        renamed[new] = tensor
    if encoder in ("", prefix):
        return renamed, []
    return renamed, [f"the encoder's names begin with {encoder!r} (a module around it), read as {prefix!r}"]


def canonical(stored: Mapping[str, Tensor], config: EncoderConfig) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Rename to canonical. Tied copies are dropped once shown to be copies; heads that no table knows are, by name."""
    table = family_of(config).hf
    known = table.expand(config).by_foreign
    kept, dropped = _tied(stored, config)
    others = []
    for name in list(kept):
        if reason := table.dropped(name):
            dropped[reason] = dropped.get(reason, 0) + 1
        elif name in known or _INSIDE.intersection(name.split(".")) or not _PLAIN.fullmatch(name):
            continue
        else:
            others.append(name)
        del kept[name]
    if others:
        dropped[f"tensors of a head that is not known here ({listing(others)})"] = len(others)
    return kept, dropped


def _tied(stored: Mapping[str, Tensor], config: EncoderConfig) -> tuple[dict[str, Tensor], dict[str, int]]:
    """As transformers 5 ties on loading: a copy is the tensor that it is tied to, also where that one is absent.

    Where both are there and differ, or the config says that they are not tied, both are kept.
    """
    kept = dict(stored)
    if config.extra.get("tie_word_embeddings") is False:
        return kept, {}
    copies = 0
    for copy, source in family_of(config).tied.items():
        if copy in kept and source not in kept:
            kept[source] = kept.pop(copy)
        elif copy in kept and same_bits(kept[copy].read(), kept[source].read()):
            del kept[copy]
            copies += 1
    return kept, {"tied decoder copies": copies} if copies else {}


def _write_tokenizer(tokenizer: TokenizerFiles, path: Path, table: TokenizerTable) -> None:
    found = {
        _SPIECE: tokenizer.model(),
        _VOCAB: None if tokenizer.spiece is None else tokenizer.vocab,
        _WORDPIECE: tokenizer.wordpiece,
        _VOCAB_JSON: tokenizer.vocab_json,
        _MERGES: tokenizer.merges,
    }
    for name, content in found.items():
        if content is not None:
            (path / name).write_bytes(content)
    if tokenizer:
        settings = tokenizer_config(tokenizer, table)
        pipeline = tokenizer_json(tokenizer)
        if pipeline is not None:
            (path / _TOKENIZER).write_bytes(pipeline)
        else:
            settings["tokenizer_class"] = "AlbertTokenizer"
        (path / _TOKENIZER_CONFIG).write_bytes(dump_json(settings))


def _read_sharded(directory: Path, kind: Weights) -> tuple[dict[str, Tensor], dict[str, str]]:
    single, index = (directory / name for name in kind.files)
    if single.exists() and index.exists():
        raise FormatError(directory, f"holds both {single.name} and {index.name}; remove the one that is out of date")
    if single.exists():
        return kind.read_file(single)
    data = parse_json(read_small(index), str(index))
    weight_map = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise CorruptError(index, "no weight_map from tensor to file")
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard or shard in ("", ".", ".."):
            raise CorruptError(index, f"names the shard {shard!r}, which is not a plain file name")
        if not (directory / shard).exists():
            raise CorruptError(directory, f"the shard {shard} that {index.name} names is missing")
        found, extra = kind.read_file(directory / shard)
        metadata |= extra
        listed = {name for name, file in weight_map.items() if file == shard}
        if missing := sorted(listed - set(found)):
            raise CorruptError(directory / shard, f"lacks {listing(missing)}, which {index.name} places there")
        if stray := sorted(set(found) - listed):
            raise CorruptError(directory / shard, f"holds {listing(stray)}, which {index.name} does not place there")
        tensors |= found
    return tensors, metadata
