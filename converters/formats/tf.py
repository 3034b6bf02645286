"""Google's TF1 checkpoint: `albert_config.json`, `model.ckpt-best.{index,data-…}`, `30k-clean.{model,vocab}`; a BERT's
has `bert_config.json` and `vocab.txt`, and an ELECTRA's, which are two models in one, no config of Google's.

Read and written without TensorFlow (tensorflow.bundle, tensorflow.bundle_writer).
Variable names: `converters.families`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from converters import google, strangers, variables
from converters.checkpoint import FLOATS, Checkpoint, Tensor
from converters.choices import NONE, Choices
from converters.config import EncoderConfig, Json
from converters.dialects import config_from_json
from converters.errors import PLACE, CheckpointError, FormatError, SpecError, TargetError
from converters.families import family_of, find
from converters.family import Family, Part
from converters.files import read_optional, read_small
from converters.sizes import sizes_of
from converters.tensorflow.bundle import OBJECT_GRAPH, is_index, read_bundle
from converters.tensorflow.bundle_writer import write_bundle
from converters.tokenizers.settings import tokenizer_beside

NAME = "tf"
DESCRIPTION = "Google's TF1 checkpoint (albert_config.json or bert_config.json, model.ckpt-best.*, vocabulary)"
DTYPES = FLOATS
OURS: re.Pattern[str] | None = re.compile(
    rf"{google.CONFIGS}|checkpoint|model\.ckpt[-\w]*\.(index|meta|data-\d{{5}}-of-\d{{5}})"
    r"|30k-clean\.(model|vocab)|vocab(_chinese)?\.txt"
)
SUFFIXES: tuple[str, ...] = ()
TAKES: frozenset[str] = frozenset({"config", "heads", "part"})
WRITES = True
HOLDS_SENTENCE_FILES = False

_PREFIX = "model.ckpt-best"


def recognises(path: Path) -> bool:
    return bool(_checkpoints(path)) if path.is_dir() else _prefix(path).name in _checkpoints(path.parent)


def fits_target(path: Path) -> bool:
    return path.name.startswith("model.ckpt") or path.suffix.lower() in (".ckpt", ".index")


def place(path: Path) -> Path:
    """The directory to write for a target that may also name the checkpoint in it."""
    if path.is_dir() or not fits_target(path):
        return path
    if path.name.removesuffix(".index") != _PREFIX:
        raise TargetError(path, f"the checkpoint in a directory is always written as {_PREFIX}; name the directory")
    return path.parent


def holds(family: Family) -> bool:
    return family.config.google_file is not None


def read(path: Path, choices: Choices = NONE) -> Checkpoint:
    prefix = _prefix(path)
    directory = prefix.parent
    found = read_bundle(prefix, texts=[OBJECT_GRAPH])
    strangers.refuse(found, str(prefix), kind="variable")
    if OBJECT_GRAPH in found:
        raise SpecError(
            prefix,
            "a TF2 object checkpoint (tf.train.Checkpoint, Keras's save_weights), whose variables have no "
            "names of their own; save the model with tf.saved_model.save, which is read",
        )
    step = found.pop(variables.STEP, None)
    family = find(None, found, str(prefix))
    found, notes = _unwrapped(found, family)
    found, part, left_out = _part(found, family, choices, str(prefix))
    own = part.config if part and left_out else None
    settled, settings, more = _config(directory, prefix, found, family, part, choices, own)
    table = family.google([part.component] if part else [])
    canonical = variables.to_canonical(found, table, settled, str(prefix), head=family.is_of_a_head)
    canonical.dropped.update(left_out)
    if not choices.config:
        more += google.unread(directory, family)
    return canonical.checkpoint(NAME, tokenizer_beside(directory, settings, family), step, [*notes, *more])


def _part(
    found: dict[str, Tensor], family: Family, choices: Choices, where: str
) -> tuple[dict[str, Tensor], Part | None, dict[str, int]]:
    """The variables of the one model that is wanted of several, which one that is, and what was left out."""
    if not family.parts:
        Choices(part=choices.part).check((), Path(where), f"a checkpoint of {family.model_type}")
        return found, None, {}
    present = [part for part in family.parts if any(name.startswith(part.own) for name in found)]
    names = [part.name for part in present]
    if choices.part is not None and choices.part not in names:
        raise FormatError(where, f"holds no {choices.part}, but {' and '.join(names) or 'no part of it'}")
    part = next((part for part in present if choices.part in (None, part.name)), family.parts[0])
    others = [other for other in present if other is not part]
    theirs = tuple(scope for other in others for scope in other.own)
    kept = {name: tensor for name, tensor in found.items() if not name.startswith(theirs)}
    count = len(found) - len(kept)
    left_out = {other.left_out: count for other in others}
    return part.tied(kept), part, left_out


def _config(
    directory: Path,
    prefix: Path,
    found: Mapping[str, Tensor],
    family: Family,
    part: Part | None,
    choices: Choices,
    own: str | None,
) -> tuple[EncoderConfig, Json, list[str]]:
    """The config, the tokenizer's settings in it, and notes on what was assumed."""
    beside, follows = google.find_config(directory, family, own), family.config.google_config_follows
    if beside is None and not follows:
        name = google.config_file(family)
        raise CheckpointError(directory, f"no {name} beside {prefix.name}; copy the model's one there")
    if beside is not None and not (follows and choices.config):
        dataclasses.replace(choices, part=None).check((), directory, NAME)
        dialect = "google" if beside.name in (own, google.config_file(family)) else "hf"
        return *google.parse_config(read_small(beside), str(beside), found, dialect=dialect), []
    said, settings = google.settings_in(choices.config, family)
    where = str(choices.config or prefix)
    sizes, notes = sizes_of(found, family, "google", where, part=part, said=said | choices.settings)
    return config_from_json(sizes, where, dialect="hf", family=family), settings, notes


def write(
    checkpoint: Checkpoint, path: Path, *, save: Callable[[Mapping[str, Tensor], Path], None] = write_bundle
) -> None:
    """`save` writes the variables: this package, or TensorFlow's own saver (`tensorflow.runtime.save_bundle`)."""
    family = family_of(checkpoint.config)
    if not holds(family):
        what = f"Google's TF1 checkpoints have no names for a {family.model_type}"
        raise CheckpointError(checkpoint.where, what, "choose another format, such as safetensors")
    tensors: dict[str, Tensor] = {}
    for model in (*checkpoint.beside, checkpoint):
        tensors |= variables.to_foreign(model, family.google(model.components))
    tensors |= variables.step_of(checkpoint)
    save(tensors, path / _PREFIX)
    for name, content in google.files(checkpoint, wordpiece=family.config.google_wordpiece).items():
        (path / name).write_bytes(content)
    (path / "checkpoint").write_text(
        f'model_checkpoint_path: "{_PREFIX}"\nall_model_checkpoint_paths: "{_PREFIX}"\n', encoding="utf-8"
    )


def notes(checkpoint: Checkpoint) -> Sequence[str]:
    return google.notes(checkpoint)


def _unwrapped(found: Mapping[str, Tensor], family: Family) -> tuple[dict[str, Tensor], list[str]]:
    """The variables as Google's code calls them, and a note of the scope that was left off.

    A fine-tuned TF-Hub module has one, `module/`.
    """
    own = family.foreign("google", "embeddings.words") or ""
    words = [name for name in found if name.endswith(f"/{own}")]
    scope = words[0].removesuffix(own) if len(words) == 1 and own not in found else ""
    notes = [f"variables begin with {scope!r}, which is left off"] if scope else []
    return {name.removeprefix(scope): tensor for name, tensor in found.items()}, notes


def _prefix(path: Path) -> Path:
    """The checkpoint's prefix: named, or the only one in a directory (several: the `checkpoint` file may choose)."""
    if not path.is_dir():
        return path.with_suffix("") if path.suffix == ".index" else path
    found = _checkpoints(path)
    if not found:
        raise FormatError(path, "holds no TensorFlow checkpoint (no .index file)")
    if len(found) > 1:
        named = re.search(r'^model_checkpoint_path: "(?:.*/)?([^"/]+)"', _state(path), re.MULTILINE)
        if not named or named[1] not in found:
            raise FormatError(path, f"holds several checkpoints ({', '.join(found)}); name one, as {PLACE}/{found[0]}")
        found = [named[1]]
    return path / found[0]


def _checkpoints(directory: Path) -> list[str]:
    """The checkpoints of a directory by name, damaged or incomplete ones too."""
    indices = {path.name.removesuffix(".index") for path in directory.glob("*.index") if is_index(path)}
    return sorted(indices | {path.name.rpartition(".data-")[0] for path in directory.glob("*.data-?????-of-?????")})


def _state(directory: Path) -> str:
    """The `checkpoint` file, of which only base names are believed: it often holds paths of another machine."""
    return (read_optional(directory / "checkpoint") or b"").decode("utf-8", "replace")
