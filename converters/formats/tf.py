"""Google's TF1 checkpoint: `albert_config.json`, `model.ckpt-best.{index,data-…}`, `30k-clean.{model,vocab}`.

Read without TensorFlow (tensorflow.bundle); written by TensorFlow's own saver, so that its readers restore it.
Variable names: `converters.families`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from converters import google, strangers, variables
from converters.checkpoint import FLOATS, Checkpoint, Tensor
from converters.errors import PLACE, CheckpointError, FormatError, SpecError, TargetError
from converters.families import family_of
from converters.family import Family
from converters.files import read_optional, read_small
from converters.libraries import require_library
from converters.tensorflow.bundle import OBJECT_GRAPH, is_index, read_bundle
from converters.tokenizers.settings import tokenizer_beside

NAME = "tf"
DESCRIPTION = "Google's TF1 checkpoint (albert_config.json, model.ckpt-best.*, 30k-clean.*)"
DTYPES = FLOATS
OURS: re.Pattern[str] | None = re.compile(
    r"albert_config\.json|checkpoint|model\.ckpt[-\w]*\.(index|meta|data-\d{5}-of-\d{5})"
    r"|30k-clean\.(model|vocab)|vocab_chinese\.txt"
)
SUFFIXES: tuple[str, ...] = ()
TAKES_CONFIG = False
HOLDS_SENTENCE_FILES = False

_PREFIX, _WORDPIECE = "model.ckpt-best", "vocab_chinese.txt"


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


def read(path: Path, config: Path | None = None) -> Checkpoint:
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
    said = directory / google.CONFIG
    if not said.exists():
        raise CheckpointError(directory, f"no {said.name} beside {prefix.name}; copy the model's one there")
    settled, settings = google.parse_config(read_small(said), str(said))
    family = family_of(settled)
    found, notes = _unwrapped(found, family)
    step = found.pop(variables.STEP, None)
    canonical = variables.to_canonical(found, family.google, settled, str(prefix), head=family.is_of_a_head)
    return canonical.checkpoint(NAME, tokenizer_beside(directory, settings), step, notes)


def write(checkpoint: Checkpoint, path: Path) -> None:
    require_library("tensorflow", "writing a TensorFlow checkpoint")
    from converters.tensorflow.runtime import save_bundle, tensorflow_errors

    tensors = variables.to_foreign(checkpoint, family_of(checkpoint.config).google) | variables.step_of(checkpoint)
    with tensorflow_errors(path / _PREFIX):
        save_bundle(tensors, path / _PREFIX)
    for name, content in google.files(checkpoint, wordpiece=_WORDPIECE).items():
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
    own = family.foreign("google", "embeddings.words")
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
