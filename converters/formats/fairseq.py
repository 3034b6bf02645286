"""fairseq's checkpoint: `model.pt`, with `dict.txt`, `encoder.json` and `vocab.bpe` beside it; of RoBERTa or SpanBERT.

Read only, without fairseq and without PyTorch.

What is in the file: `converters.fairseq`. Half precision is read as float32.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from converters import fairseq, google, torch_files, variables
from converters.checkpoint import FLOATS, Checkpoint, Tensor
from converters.choices import NONE, Choices
from converters.config import EncoderConfig, Json
from converters.dialects import config_from_json
from converters.errors import FormatError, SpecError
from converters.family import Family
from converters.messages import listing
from converters.sizes import sizes_of

NAME = "fairseq"
DESCRIPTION = "fairseq's checkpoint (model.pt, dict.txt, encoder.json, vocab.bpe) of RoBERTa or SpanBERT"
DTYPES = FLOATS
OURS: re.Pattern[str] | None = re.compile(r"(model|checkpoint\w*)\.pt|dict\.txt|encoder\.json|vocab\.bpe")
TAKES: frozenset[str] = frozenset({"config", "heads", "head"})
WRITES = False

# What a directory's checkpoint is called, in the published archives and by training; the first that is there is read.
_FILES = ("model.pt", "checkpoint_best.pt", "checkpoint_last.pt")
_CONFIG = "config.json"  # Hugging Face's, which may be put beside a SpanBERT


def recognises(path: Path) -> bool:
    file = _file(path)
    return file is not None and file.is_file() and fairseq.claims(file)


def holds(family: Family) -> bool:
    return bool(family.fairseq.rows)


def read(path: Path, choices: Choices = NONE) -> Checkpoint:
    file = _file(path)
    if file is None:
        raise FormatError(path, f"holds no checkpoint of fairseq's under a usual name ({', '.join(_FILES)}); name it")
    found = torch_files.read(file, records=True)
    held = fairseq.unwrapped(found.value)
    if held is None:
        raise FormatError(
            file, "no checkpoint of fairseq's, which holds model beside args or cfg, or a SpanBERT's weights"
        )
    weights = found.tensors(held.weights, "the model")
    family = fairseq.family_in(weights)
    if family is None:
        raise SpecError(
            file, f"no model of fairseq's that is read here (RoBERTa, SpanBERT); it holds {listing(weights)}"
        )
    weights, dropped = fairseq.one_head(weights, choices.head, str(file))
    named = fairseq.modernised(weights, family, str(file))
    config, settings, notes = _config(file, named, family, choices, held.settings, list(weights))
    fairseq.check_rows(file.parent, config.vocab_size)
    canonical = variables.to_canonical(named, fairseq.table(family), config, str(file))
    canonical = fairseq.completed(canonical, family)
    tensors, more = fairseq.in_float32(canonical.tensors)
    if held.others:
        dropped[f"entries of the training state ({listing(held.others)})"] = len(held.others)
    canonical.dropped.update(dropped)
    tokenizer, assumed = fairseq.tokenizer_beside(file.parent, settings, family, config.vocab_size)
    return dataclasses.replace(canonical, tensors=tensors).checkpoint(NAME, tokenizer, None, [*notes, *more, *assumed])


def _config(
    file: Path, named: Mapping[str, Tensor], family: Family, choices: Choices, said: Json, names: list[str]
) -> tuple[EncoderConfig, Json, list[str]]:
    """The config, the tokenizer's settings beside it, and notes on what was assumed."""
    beside = file.parent / _CONFIG
    own = choices.config or (beside if beside.exists() else None)
    more, settings = google.settings_in(own, family)
    known = fairseq.settings_of(said, family, str(file)) | more | choices.settings
    sizes, notes = sizes_of(named, family, "fairseq", str(own or file), said=known)
    fairseq.check_settings(said, sizes, names, str(file))
    return config_from_json(sizes, str(own or file), dialect="hf", family=family), settings, notes


def _file(path: Path) -> Path | None:
    if not path.is_dir():
        return path
    return next((path / name for name in _FILES if (path / name).exists()), None)
