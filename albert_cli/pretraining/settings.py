"""Every setting of a pretraining run, checked; from the command line or a TOML file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from albert_cli.arguments import expanded_in
from albert_cli.errors import TrainingError
from albert_cli.training.settings import PRECISIONS, load_toml
from converters.config import SHARE_CHOICES
from converters.errors import did_you_mean

# Settings that are paths, or names of models.
PATHS = ("corpus", "tokenizer", "init", "teacher", "teacher_texts")
# pretraining.optimizers has the same names; it needs torch, which --help does without.
OPTIMIZERS = ("adamw", "lamb", "muon")
# Where the heads of `local_heads` begin to look, in tokens from their own: the first one back, the second ahead, ...
OFFSETS = (-1, 1, -2, 2)


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """What decides a run, besides the contents of its files. Paths are as the user gave them.

    `batch_tokens` tokens make one update, computed in `grad_accum` parts. `warmup` is in steps, or a share of the whole
    run where it is below 1. `keep_accents` and `cased` say how text is prepared; left out, as the tokenizer's own files
    say, else as Google's English models do: neither. A run ends after `steps`, or after `minutes` of training. Raises
    TrainingError for values out of range, all in one message.
    """

    corpus: tuple[str, ...]
    weights: Mapping[str, float] = field(default_factory=dict)
    unordered: tuple[str, ...] = ()
    tokenizer: str | None = None
    keep_accents: bool | None = None
    cased: bool | None = None
    vocab_size: int | None = None
    init: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    share: str | None = None
    steps: int | None = None
    minutes: float | None = None
    batch_tokens: int = 4096
    max_length: int = 128
    grad_accum: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    warmup: float = 0.05
    mask_rate: float = 0.15
    whole_words: bool = True
    local_heads: int = 0
    hold_out: int = 50
    eval_every: int = 500
    eval_sequences: int = 1000
    seed: int = 42
    precision: str = "auto"
    teacher: str | None = None
    teacher_texts: str | None = None
    teacher_sentences: int = 200_000
    teacher_batch: int = 64
    teacher_weights: Mapping[str, float] = field(default_factory=dict)
    teacher_loss: float = 1.0

    def __post_init__(self) -> None:
        faults = []
        for name in (
            "vocab_size", "steps", "batch_tokens", "max_length", "grad_accum", "eval_every", "eval_sequences",
            "teacher_sentences", "teacher_batch",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**63:
                faults.append(f"{name} is {value}, not a positive whole number{' below 2**63' if value > 0 else ''}")
        for name in ("learning_rate", "minutes", "teacher_loss"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                faults.append(f"{name} is {value}, not a positive number")
        if not self.corpus:
            faults.append("no corpus is named; pass --corpus with a file or directory of text")
        if (self.steps is None) == (self.minutes is None):
            faults.append("give either --steps or --minutes: how long to train")
        if self.max_length < 8:
            faults.append(f"max_length is {self.max_length}; a pair of segments needs at least 8 tokens")
        if self.batch_tokens < self.max_length:
            faults.append(f"batch_tokens {self.batch_tokens} is less than max_length {self.max_length}")
        if not 0 <= self.warmup < math.inf:
            faults.append(f"warmup is {self.warmup}, not 0 or more")
        if not 0 < self.mask_rate < 1:
            faults.append(f"mask_rate is {self.mask_rate}, not between 0 and 1")
        if self.hold_out < 2:
            faults.append(f"hold_out is {self.hold_out}; every how manieth document is kept for evaluation: 2 or more")
        if self.optimizer not in OPTIMIZERS:
            faults.append(f"optimizer is {self.optimizer!r}, not one of {', '.join(OPTIMIZERS)}")
        if self.share is not None and self.share not in SHARE_CHOICES:
            faults.append(f"share is {self.share!r}, not one of {', '.join(SHARE_CHOICES)}")
        if self.precision not in PRECISIONS:
            faults.append(f"precision is {self.precision!r}, not one of {', '.join(PRECISIONS)}")
        if self.tokenizer is not None and self.vocab_size is not None:
            faults.append("tokenizer and vocab_size are both given; a tokenizer has its own size")
        if self.init is not None and (self.tokenizer or self.vocab_size or self.share or self.config or self.prepares):
            faults.append("--init takes tokenizer, config and sharing from that model; leave them out")
        if self.teacher is None and self.teacher_texts is not None:
            faults.append("teacher_texts without --teacher: nobody to learn them from")
        if not 0 <= self.local_heads <= len(OFFSETS):
            faults.append(f"local_heads is {self.local_heads}, not between 0 and {len(OFFSETS)}")
        if self.local_heads and self.init is not None:
            faults.append("local_heads is how a fresh model begins; leave it out beside --init")
        if not 0 <= self.seed < 2**64:
            faults.append(f"seed is {self.seed}, not from 0 to 2**64 - 1")
        if faults:
            raise TrainingError("; ".join(faults))

    @property
    def prepares(self) -> bool:
        """Whether the settings say how text is prepared."""
        return self.keep_accents is not None or self.cased is not None

    def rate(self, step: int, seconds: float) -> float:
        """The share of the learning rate at update `step` (from 0), `seconds` into the run: linearly up, then down."""
        done = self.done(step, seconds)
        if self.steps is None and self.warmup >= 1:
            return min((step + 1) / self.warmup, max(0.0, 1 - done))
        if self.steps is None:
            warmup, begun = self.warmup, done + 1e-4  # not from 0: the first update counts
        else:
            warmup = min(1.0, self.warmup / self.steps) if self.warmup >= 1 else self.warmup
            begun = done + 1 / self.steps
        up = begun / warmup if warmup else 1.0
        return min(up, max(0.0, (1 - done) / (1 - warmup)) if warmup < 1 else up)

    def done(self, step: int, seconds: float) -> float:
        """The share of the run that is done."""
        return step / self.steps if self.steps is not None else seconds / (60 * (self.minutes or 1))

    def over(self, step: int, seconds: float) -> bool:
        """Whether the run is at its end."""
        return self.done(step, seconds) >= 1


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**64


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or _is_whole(value)


# By the types of the settings: what a message calls it, and whether a value of a TOML file is one.
_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("a whole number", _is_whole),
    "float": ("a number", _is_number),
    "str": ("a text in quotes", lambda value: isinstance(value, str)),
    "tuple[str, ...]": (
        "a list of texts",
        lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    ),
    "Mapping[str, float]": (
        "a table of numbers",
        lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    ),
    "Mapping[str, Any]": ("a table", lambda value: isinstance(value, dict)),
}


def read_settings(path: Path) -> dict[str, Any]:
    """Settings of a TOML file: its `settings` table, as in a run.toml, or its top level. TrainingError for others."""
    data = load_toml(path)
    table = data.get("settings", data)
    if not isinstance(table, dict):
        raise TrainingError(f"{path}: settings is {table!r}, not a table")
    kinds = {item.name: str(item.type).removesuffix(" | None") for item in dataclasses.fields(PretrainSettings)}
    faults = []
    for key, value in table.items():
        if key in kinds and not _KINDS[kinds[key]][1](value):
            faults.append(f"{key} is {value!r}, not {_KINDS[kinds[key]][0]}")
    unknown = [key for key in table if key not in kinds]
    if unknown:
        near = "".join(did_you_mean(key, kinds) for key in unknown)
        faults.append(f"{', '.join(unknown)}: no such setting{near}; the settings are {', '.join(sorted(kinds))}")
    if faults:
        raise TrainingError(f"{path}: {'; '.join(faults)}")
    paths = expanded_in(table, PATHS)
    return {key: tuple(value) if isinstance(value, list) else value for key, value in paths.items()}


def resolve(given: Mapping[str, Any], file: Path | None, run: Path | None) -> PretrainSettings:
    """The command line before the file, the file before the run that goes on."""
    layers = [given]
    if file is not None:
        layers.append(read_settings(file))
    if run is not None and (run / "run.toml").exists():
        layers.append(read_settings(run / "run.toml"))
    values: dict[str, Any] = {}
    for layer in reversed(layers):
        layer = {key: value for key, value in layer.items() if value is not None}  # noqa: PLW2901
        if layer.keys() & {"steps", "minutes"}:  # a nearer layer's choice replaces the other one of a farther layer
            values = {key: value for key, value in values.items() if key not in ("steps", "minutes")}
        values |= layer
    values.setdefault("corpus", ())
    return PretrainSettings(**values)
