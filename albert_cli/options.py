"""Options that mean the same in every command."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from albert_cli import machine
from albert_cli.arguments import Formerly, Kind
from albert_cli.exporters import AUTO, NONE, NOT_EXPORTED
from converters.errors import did_you_mean
from converters.families import families, presets
from converters.families.albert import PRESETS
from converters.roles import HEADS

# What `convert` writes: a Hugging Face directory, and the files that make a Sentence-Transformers model of it.
SENTENCE_TRANSFORMERS = "sentence-transformers"


def starting(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """What a shell completes; where nothing fits it names files."""
    return lambda incomplete: [name for name in names() if name.startswith(incomplete)]


def _formats() -> list[str]:
    from converters.formats import formats

    return list(formats())


def _targets() -> list[str]:
    from albert_cli.exporters import exporters
    from converters.formats import writable

    return [*writable(), *exporters(), SENTENCE_TRANSFORMERS]


def _models() -> list[str]:
    from albert_cli.registry.builtin import NAME
    from albert_cli.registry.resolve import cached_names, repositories

    return [*dict.fromkeys([NAME, *repositories(), *cached_names()])]


def complete_run(incomplete: str) -> list[str]:
    """The directories of runs of `finetune` and `pretrain` that begin so; of no beginning those here and in runs/."""
    begun = Path(incomplete)
    folder = begun if incomplete.endswith("/") else begun.parent
    folders = [folder, *([] if incomplete else [folder / "runs"])]
    found = sorted(str(file.parent) for place in folders for file in place.glob("*/run.toml"))
    return [name for name in found if name.startswith(incomplete)]


def _tasks() -> list[str]:
    from albert_cli import tasks

    return [*tasks.names(), "glue"]


# What every command with --model says of it.
DEFAULT_MODEL = "the small built-in one by default, or what the environment's ALBERT_MODEL names"
complete_task, complete_model = starting(_tasks), starting(_models)
MAX_LENGTH = "Tokens of a text at most, [CLS] and [SEP] counted"

# --- Output

Force = Annotated[bool, typer.Option("--force", help="Replace existing output.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
OutTable = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="Write a table instead: .csv, .tsv, .jsonl or .parquet; - prints JSON lines.",
    ),
    Kind.STREAM_OUT,
]
RunOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="RUN", help="The run's directory; runs/TASK or runs/pretrain by default."),
    Kind.FILE_OUT,
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Resume an interrupted run; on a CPU the result is bit-identical.")
]

# --- Models

_ANY_MODEL = (
    "A model of any format: directory, file, archive or checkpoint prefix; a published name (albert-base-v2, "
    "bert-base-uncased); or a repository of the Hugging Face Hub (owner/name, owner/name@revision)."
)
Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help=_ANY_MODEL, show_default=False, autocompletion=complete_model),
    Kind.PATH,
]
Source = Annotated[
    str,
    typer.Argument(metavar="SOURCE", help=_ANY_MODEL, show_default=False, autocompletion=complete_model),
    Kind.PATH,
]
Target = Annotated[
    Path,
    typer.Argument(metavar="TARGET", help="Directory or file to write.", show_default=False),
    Kind.FILE_OUT,
]
MODEL = typer.Option(
    "--model",
    metavar="MODEL",
    help="A model of any format, a published name (albert-base-v2), or a Hugging Face Hub repository id; "
    f"{DEFAULT_MODEL}.",
    show_default=False,
    autocompletion=complete_model,
)
ModelName = Annotated[str | None, MODEL, Kind.PATH]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="FORMAT",
        help="Format of the source, if it cannot be detected.",
        autocompletion=starting(_formats),
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="FORMAT",
        help="Format of the target, if the file name does not determine it.",
        autocompletion=starting(_targets),
    ),
]


def _preset(name: str | None) -> str | None:
    if name is not None and name not in presets():
        raise typer.BadParameter(f"{name!r} is none of {', '.join(presets())}{did_you_mean(name, presets())}")
    return name


def _preset_of_albert(name: str | None) -> str | None:
    if _preset(name) is not None and name not in PRESETS:
        raise typer.BadParameter(f"{name} is no ALBERT, and others are not pretrained here: {', '.join(PRESETS)}")
    return name


_PRESETS = "; ".join(", ".join(family.presets) for family in families().values())
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        callback=_preset,
        autocompletion=starting(presets),
        help=f"A published shape, or a tiny one to try things out: {_PRESETS}.",
    ),
]
PresetOfAlbert = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="|".join(PRESETS),
        callback=_preset_of_albert,
        autocompletion=starting(lambda: PRESETS),
        help="A published shape, or tiny, the default, to try things out.",
    ),
]
_MODEL_CONFIG = "The model's config: Google's (albert_config.json, bert_config.json) or a config.json"
MODEL_CONFIG = typer.Option("--model-config", metavar="FILE", help=f"{_MODEL_CONFIG}.")
ModelConfig = Annotated[Path | None, MODEL_CONFIG, Formerly("--config")]
PartialModelConfig = Annotated[
    Path | None,
    typer.Option(
        "--model-config",
        metavar="FILE",
        help=f"{_MODEL_CONFIG}, or some of its keys, of a model without one: saved-model, fairseq, Google's ELECTRA.",
    ),
    Formerly("--config"),
]
Part = Annotated[
    Literal["discriminator", "generator"] | None,
    typer.Option("--part", help="Which model of Google's ELECTRA checkpoint. By default the discriminator."),
]
Parts = Annotated[
    Literal["discriminator", "generator", "both"] | None,
    typer.Option(
        "--part",
        help="Which model of Google's ELECTRA checkpoint, or both, each in a directory of its own in TARGET. "
        "By default the discriminator.",
    ),
]


def _exported_head(name: str | None) -> str | None:
    known = (AUTO, NONE, *HEADS)
    if name is not None and name not in known:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}{did_you_mean(name, known)}")
    return name


ExportedHead = Annotated[
    str | None,
    typer.Option(
        "--head",
        metavar="HEAD",
        callback=_exported_head,
        autocompletion=starting(lambda: (AUTO, NONE, *(name for name in HEADS if name not in NOT_EXPORTED))),
        help="With --to onnx: auto, the default, exports a fine-tuned model with its head and others without; none the "
        f"encoder alone; or the head to export: {', '.join(name for name in HEADS if name not in NOT_EXPORTED)}.",
    ),
]
Quantize = Annotated[
    Literal["int8"] | None,
    typer.Option("--quantize", help="With --to onnx: weights of 8 bits. What that changes is measured and reported."),
]
Heads = Annotated[
    int | None,
    typer.Option("--heads", metavar="N", min=1, help="Attention heads, of a model whose files do not say how many."),
]
ClassificationHead = Annotated[
    str | None,
    typer.Option(
        "--classification-head", metavar="NAME", help="Which classification head of a fairseq model that has several."
    ),
]
TOKENIZER = typer.Option(
    "--tokenizer",
    metavar="FILE",
    help="A spiece.model, 30k-clean.vocab, vocab.txt, or vocab.json with merges.txt beside it.",
)
CASED = typer.Option(
    "--cased/--uncased",
    help="Keep capitals, or lower-case; by default as the model's files, name or vocabulary say, else lower-case.",
    show_default=False,
)
KEEP_ACCENTS = typer.Option(
    "--keep-accents/--strip-accents",
    help="Keep accents and other marks (é, で), or strip them; by default as the model's files say, else strip.",
    show_default=False,
)
Cased = Annotated[bool | None, CASED, Formerly("--lower-case", now="--uncased")]
KeepAccents = Annotated[bool | None, KEEP_ACCENTS]
MaxLength = Annotated[
    int | None,
    typer.Option(
        "--max-length",
        min=3,
        metavar="N",
        help=f"{MAX_LENGTH}; by default 512, or what the model takes, or what its Sentence-Transformers files say.",
    ),
]

# --- Texts

Texts = Annotated[
    list[str] | None, typer.Argument(metavar="TEXT", help="One text or several, each in quotes.", show_default=False)
]
TextSource = Annotated[
    str | None,
    typer.Option("--in", metavar="PATH", help="Texts from a file, as albert embed reads them; - is standard input."),
    Kind.PATH,
    Kind.STREAM_IN,
]
InputFormat = Annotated[
    Literal["txt", "csv", "tsv", "jsonl", "parquet"] | None,
    typer.Option("--input-format", help="Format of the input, if the file name does not determine it."),
]


def _delimiter(text: str | None) -> str | None:
    from albert_cli.tables.delimited import delimiter_of

    try:
        return None if text is None else delimiter_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Delimiter = Annotated[
    str | None,
    typer.Option(
        "--delimiter",
        metavar="CHAR",
        callback=_delimiter,
        help="What separates the columns of a CSV file, such as ; or tab; detected by default.",
    ),
]
TextColumn = Annotated[
    str | None, typer.Option("--text-column", metavar="NAME", help="The column of the texts; text by default.")
]
TextPairColumn = Annotated[
    str | None,
    typer.Option("--text-pair-column", metavar="NAME", help="The column of the second texts, of pairs."),
    Formerly("--pair-column"),
]
IdColumn = Annotated[
    str | None, typer.Option("--id-column", metavar="NAME", help="The column of unique ids; else rows from 0.")
]
KeepColumns = Annotated[
    str | None, typer.Option("--keep-columns", metavar="A,B", help="Columns to copy into the output.")
]
LabelColumn = Annotated[
    str | None, typer.Option("--label-column", metavar="NAME", help="The column of the labels; label by default.")
]
OnTruncate = Annotated[
    Literal["warn", "error"],
    typer.Option("--on-truncate", help="A text too long for the model: leave out its end, or refuse it."),
]
Errors = Annotated[Literal["strict", "replace"], typer.Option("--errors", help="What to do where a file is not UTF-8.")]

TopAnswers = Annotated[
    int | None,
    typer.Option(
        "--top",
        min=1,
        max=20,
        metavar="K",
        help="The K likeliest answers (and no answer) with their probabilities.",
    ),
]

NoAnswerThreshold = Annotated[
    float | None,
    typer.Option(
        "--no-answer-threshold",
        metavar="X",
        help="Say that there is no answer where that scores more than X above the best; else the run's own threshold.",
    ),
]

OF_TABLES = ("input_format", "text_column", "text_pair_column", "delimiter")


# --- Computing: every command that runs a model has these four


# More than any processor has; PyTorch makes as many as it is told.
_MOST_THREADS = 1024


def _batch_tokens(text: str) -> int | None:
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError(f"{text!r} is not a number of tokens (from 1 up), or auto")
    return int(text)


Device = Annotated[machine.DeviceName, typer.Option("--device", help="Where to compute; auto: a GPU if there is one.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=_MOST_THREADS, metavar="N", help="Processor threads; all cores by default."),
]
BatchTokens = Annotated[
    int | None,
    typer.Option(
        "--batch-tokens",
        metavar="N",
        parser=_batch_tokens,
        help="Tokens computed at once; auto, the default, as suits the device.",
    ),
]
PRECISION = typer.Option(
    "--precision", help="Numbers to compute in; auto: for vectors and training bf16 on a GPU that has it, else fp32."
)
VECTOR_PRECISION = typer.Option(
    "--precision",
    help="Numbers to compute in; auto: bf16 on a GPU that has it, else fp32. On a CPU int8 takes the "
    "least memory, and with VNNI the least time; bf16 is nearer to fp32, and faster with AMX or AVX512-BF16 (without "
    "them fp32 is used).",
)
VectorPrecision = Annotated[Literal["auto", "fp32", "bf16", "int8"], VECTOR_PRECISION]
Precision = Annotated[machine.Precision, PRECISION]

OF_COMPUTING = ("model", "device", "threads", "precision", "batch_tokens")

# --- Runs

SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings in TOML, as in a run.toml: lines such as learning_rate = 3e-4. Options override it.",
    ),
]
SKIP_BAD = typer.Option(
    "--skip-bad",
    help="Leave out and report bad rows: no usable label, another number of columns, no JSON, a misplaced answer.",
)
SkipBad = Annotated[bool, SKIP_BAD]

# --- What both trainings have: options of fields of their settings

STEPS = typer.Option("--steps", metavar="N", help="Number of updates.")
LEARNING_RATE = typer.Option("--lr", metavar="X", help="Peak learning rate.")
WARMUP = typer.Option("--warmup", metavar="X", help="Steps of warm-up; below 1, a share of the whole run.")
GRAD_ACCUM = typer.Option("--grad-accum", metavar="N", help="Compute a batch in N parts: same result, less memory.")
EVAL_EVERY = typer.Option("--eval-every", metavar="N", help="Evaluate and save every N steps.")
SEED = typer.Option(
    "--seed", min=0, metavar="N", help="Decides everything random: the same seed gives the same result."
)
Seed = Annotated[int, SEED]
