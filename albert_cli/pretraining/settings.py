"""Every setting of a pretraining run, checked; from the command line or a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer
from typer import Option

from albert_cli import declared, machine, options
from albert_cli.arguments import Formerly, Kind
from albert_cli.errors import TrainingError
from albert_cli.runs.files import RUN
from converters.config import SHARE_CHOICES, EncoderConfig

# Settings that are paths, or names of models: what they hold is compared when a run is resumed.
PATHS = ("corpus", "tokenizer", "init", "teacher", "teacher_texts")
# pretraining.optimizers has the same names; it needs torch, which --help does without.
Optimizer = Literal["adamw", "lamb", "muon"]
VOCAB_SIZE = 30_000
FAMILY = "albert"
if TYPE_CHECKING:
    Sharing = str
else:
    Sharing = Literal[SHARE_CHOICES]
# Where the heads of `local_heads` begin to look, in tokens from their own: the first one back, the second ahead, ...
OFFSETS = (-1, 1, -2, 2)
# By the clock no time has passed at the first update, whose learning rate must not be 0: this share of the run stands
# for it.
_FIRST_SHARE = 1e-4


def _weights(typed: list[str]) -> dict[str, float]:
    """FILE=W by file."""
    weights = {}
    for item in typed:
        name, _, value = item.rpartition("=")
        try:
            weights[name] = float(value)
        except ValueError:
            name = ""
        if not name:
            raise typer.BadParameter(f"--weight is {item!r}, not FILE=NUMBER as in wordnet.txt=0.5")
    return weights


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """What decides a run, besides the contents of its files. Paths are as the user gave them.

    `tokens_per_update` tokens make one update, computed in `grad_accum` parts. `warmup` is in steps, or a share of the
    whole run where it is below 1. `keep_accents` and `cased` say how text is prepared; left out, as the tokenizer's own
    files say, else as Google's English models do: neither. A run ends after `steps`, or after `minutes` of training.
    Raises TrainingError for values out of range, all in one message.
    """

    corpus: Annotated[
        tuple[str, ...],
        Option("--corpus", metavar="DIR|FILE", help="Text: a line a paragraph, empty lines between documents."),
        Kind.PATH,
    ]
    weights: Annotated[
        Mapping[str, float],
        Option("--weight", metavar="FILE=W", help="How often an epoch goes through a file: 0.2, 3; 1 by default."),
        Kind.PATH,
        declared.Typed(list[str], _weights),
    ] = field(default_factory=dict)
    unordered: Annotated[
        tuple[str, ...],
        Option("--unordered", metavar="FILE", help="A file whose lines do not follow on one another."),
        Kind.PATH,
    ] = ()
    model_config: Annotated[Mapping[str, Any], Formerly("config")] = field(default_factory=dict)
    init: Annotated[
        str | None,
        Option(
            "--init",
            metavar="MODEL",
            help="Continue from this model: path, name or Hub id.",
            autocompletion=options.complete_model,
        ),
        Kind.PATH,
    ] = None
    tokenizer: Annotated[
        str | None,
        options.TOKENIZER,
        Kind.PATH,
    ] = None
    keep_accents: options.KeepAccents = None
    cased: options.Cased = None
    vocab_size: Annotated[
        int | None,
        Option("--vocab-size", metavar="N", help="Pieces of the vocabulary to train.", show_default=str(VOCAB_SIZE)),
        declared.COUNT,
    ] = None
    share: Annotated[
        Sharing | None,
        Option("--share", help="What all layers have in common (the paper's table 4).", show_default="all"),
    ] = None
    steps: Annotated[int | None, options.STEPS, declared.COUNT] = None
    minutes: Annotated[
        float | None, Option("--minutes", metavar="X", help="How long to train, instead of --steps."), declared.POSITIVE
    ] = None
    tokens_per_update: Annotated[
        int,
        Option("--tokens-per-update", metavar="N", help="Tokens of one update: the batch size."),
        Formerly("--batch-tokens", notice=True),
        declared.COUNT,
    ] = 4096
    max_length: Annotated[
        int,
        Option("--max-length", metavar="N", help="Tokens of a sequence at most."),
        declared.Within(8, declared.LARGEST_COUNT),
    ] = 128
    grad_accum: Annotated[int, options.GRAD_ACCUM, declared.COUNT] = 1
    optimizer: Annotated[Optimizer, Option("--optimizer", help="adamw, lamb for large batches, or muon.")] = "adamw"
    learning_rate: Annotated[float, options.LEARNING_RATE, declared.POSITIVE] = 1e-3
    warmup: Annotated[float, options.WARMUP, declared.NOT_NEGATIVE] = 0.05
    mask_rate: Annotated[
        float,
        Option("--mask-rate", metavar="X", help="Share of the tokens that are masked in training."),
        declared.Within(0, 1, "both"),
    ] = 0.15
    whole_words: Annotated[
        bool, Option("--whole-words/--pieces", help="Mask n-grams of words (the paper's) or of pieces.")
    ] = True
    local_heads: Annotated[
        int,
        Option("--local-heads", metavar="N", help="Attention heads that start by looking at a neighbour, at most 4."),
        declared.Within(0, len(OFFSETS)),
    ] = 0
    teacher: Annotated[
        str | None,
        Option("--teacher", metavar="DIR", help="Learn the sentence vectors of this Hugging Face encoder, too."),
        Kind.PATH,
    ] = None
    teacher_sentences: Annotated[
        int,
        Option("--teacher-sentences", metavar="N", help="Sentences of the corpus to learn them from."),
        declared.COUNT,
    ] = 200_000
    teacher_texts: Annotated[
        str | None,
        Option("--teacher-texts", metavar="FILE", help="Further sentences for it, one a line."),
        Kind.PATH,
    ] = None
    teacher_batch: Annotated[int, declared.COUNT] = 64
    teacher_weights: Mapping[str, float] = field(default_factory=dict)
    teacher_loss: Annotated[float, declared.POSITIVE] = 1.0
    eval_every: Annotated[int, options.EVAL_EVERY, declared.COUNT] = 500
    eval_sequences: Annotated[int, declared.COUNT] = 1000
    hold_out: Annotated[
        int,
        Option("--hold-out", metavar="N", help="Hold out every Nth document for evaluation."),
        declared.Within(2, declared.LARGEST_COUNT),
    ] = 50
    seed: Annotated[int, options.SEED, declared.Within(0, 2**64 - 1)] = 42
    precision: options.Precision = "auto"

    def __post_init__(self) -> None:
        faults = declared.unfit(self)
        if not self.corpus:
            faults.append("no corpus is named; pass --corpus with a file or directory of text")
        if (self.steps is None) == (self.minutes is None):
            faults.append("give either --steps or --minutes: how long to train")
        if self.tokens_per_update < self.max_length:
            faults.append(f"tokens_per_update {self.tokens_per_update} is less than max_length {self.max_length}")
        if self.optimizer not in get_args(Optimizer):
            faults.append(f"optimizer is {self.optimizer!r}, not one of {', '.join(get_args(Optimizer))}")
        if self.share is not None and self.share not in SHARE_CHOICES:
            faults.append(f"share is {self.share!r}, not one of {', '.join(SHARE_CHOICES)}")
        if self.precision not in get_args(machine.Precision):
            faults.append(f"precision is {self.precision!r}, not one of {', '.join(get_args(machine.Precision))}")
        if self.tokenizer is not None and self.vocab_size is not None:
            faults.append("tokenizer and vocab_size are both given; a tokenizer has its own size")
        if self.init is not None and (
            self.tokenizer or self.vocab_size or self.share or self.model_config or self.prepares
        ):
            faults.append("--init takes tokenizer, config and sharing from that model; leave them out")
        if self.teacher is None and self.teacher_texts is not None:
            faults.append("teacher_texts requires --teacher")
        if self.local_heads and self.init is not None:
            faults.append("local_heads is how a fresh model begins; leave it out beside --init")
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
            warmup, reached = self.warmup, done + _FIRST_SHARE
        else:
            warmup = min(1.0, self.warmup / self.steps) if self.warmup >= 1 else self.warmup
            reached = done + 1 / self.steps
        up = reached / warmup if warmup else 1.0
        return min(up, max(0.0, (1 - done) / (1 - warmup)) if warmup < 1 else up)

    def done(self, step: int, seconds: float) -> float:
        """The share of the run that is done."""
        return step / self.steps if self.steps is not None else seconds / (60 * (self.minutes or 1))

    def over(self, step: int, seconds: float) -> bool:
        """Whether the run is at its end."""
        return self.done(step, seconds) >= 1


def check_family(config: EncoderConfig, where: str) -> None:
    """TrainingError for a model of another family than what is pretrained here."""
    if config.family != FAMILY:
        raise TrainingError(
            where, f"a model of the family {config.family}; albert pretrain trains ALBERTs only", "name one of those"
        )


def read_settings(path: Path, *, of_run: bool = False) -> dict[str, Any]:
    """Settings of a TOML file, as in a run.toml; TrainingError for what is no setting, or of another type."""
    return declared.read_settings(path, PretrainSettings, of_run=of_run)


def resolve(given: Mapping[str, Any], file: Path | None, run: Path | None) -> PretrainSettings:
    """The command line before the file, the file before the run that is resumed."""
    layers = [given]
    if file is not None:
        layers.append(read_settings(file))
    if run is not None and (run / RUN).exists():
        layers.append(read_settings(run / RUN, of_run=True))
    return PretrainSettings(**({"corpus": ()} | declared.layered(*layers, exclusive=("steps", "minutes"))))
