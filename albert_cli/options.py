"""Options that mean the same in every command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from albert_cli.arguments import Kind
from converters.families.albert import PRESETS


def _starting(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """What a shell completes; where nothing fits it names files."""
    return lambda incomplete: [name for name in names() if name.startswith(incomplete)]


def _formats(action: str) -> Iterator[str]:
    from converters import convert

    return (name for name, module in convert.formats().items() if hasattr(module, action))


def _targets() -> list[str]:
    from albert_cli.exporters import exporters

    return [*_formats("write"), *exporters()]


def _models() -> list[str]:
    from albert_cli.registry.builtin import NAME
    from albert_cli.registry.resolve import PUBLISHED

    return [NAME, *PUBLISHED]


def _tasks() -> list[str]:
    from albert_cli import tasks

    return [*tasks.names(), "glue"]


complete_task, complete_model = _starting(_tasks), _starting(_models)

Force = Annotated[bool, typer.Option("--force", help="Replace the model that is at the target already.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="FORMAT",
        help="Format of the source, where its contents leave a doubt.",
        autocompletion=_starting(lambda: _formats("read")),
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings (albert_config.json, config.json, or some of their keys) for a model without: saved-model.",
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="FORMAT",
        help="Format of the target, where its name does not tell.",
        autocompletion=_starting(_targets),
    ),
]
_ANY_MODEL = (
    "A model of any format: directory, file, archive or checkpoint prefix; a published name (albert-base-v2); or a "
    "repository of the Hugging Face Hub (owner/name, owner/name@revision)."
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
    help="A model of any format, a published name (albert-base-v2), or a Hugging Face Hub repository id.",
    show_default=False,
    autocompletion=complete_model,
)
ModelName = Annotated[str | None, MODEL, Kind.PATH]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Device = Annotated[DeviceName, typer.Option("--device", help="Where to compute; auto: a GPU if there is one.")]
if TYPE_CHECKING:
    PresetName = str
else:
    PresetName = Literal[tuple(PRESETS)]
Preset = Annotated[
    PresetName | None, typer.Option("--preset", help="A published shape, or a tiny one to try things out.")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="An albert_config.json or config.json of your own."),
]
Texts = Annotated[
    list[str] | None, typer.Argument(metavar="TEXT", help="One text or several, each in quotes.", show_default=False)
]
TextSource = Annotated[
    str | None,
    typer.Option("--in", metavar="PATH", help="Texts from a file, as albert embed reads them; - is stdin."),
    Kind.PATH,
    Kind.STREAM_IN,
]
InputFormat = Annotated[
    Literal["txt", "csv", "tsv", "jsonl", "parquet"] | None,
    typer.Option("--input-format", help="What the input is, where its name does not tell."),
]


def _delimiter(text: str | None) -> str | None:
    from albert_cli.tables.delimited import delimiter_of

    try:
        return None if text is None else delimiter_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


DELIMITER = typer.Option(
    "--delimiter",
    metavar="CHAR",
    callback=_delimiter,
    help="What separates the columns of a CSV file, such as ; or tab; detected by default.",
)
Delimiter = Annotated[str | None, DELIMITER]
TextColumn = Annotated[
    str | None, typer.Option("--text-column", metavar="NAME", help="The column of the texts; text by default.")
]
Errors = Annotated[Literal["strict", "replace"], typer.Option("--errors", help="What to do where a file is not UTF-8.")]
OutTable = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="Write a table instead: .csv, .tsv, .jsonl or .parquet; - prints JSON lines.",
    ),
    Kind.STREAM_OUT,
]
ForceFile = Annotated[bool, typer.Option("--force", help="Replace the file that is there already.")]
Cased = Annotated[
    bool | None,
    typer.Option(
        "--cased/--lower-case", help="Whether capitals stay; as the model's files say by default.", show_default=False
    ),
]
BatchTokens = Annotated[
    int | None,
    typer.Option("--batch-tokens", min=1, metavar="N", help="Tokens computed at once; as suits the device by default."),
]
SKIP_BAD = typer.Option(
    "--skip-bad",
    help="Leave out and report bad rows: no usable label, another number of columns, no JSON, a misplaced answer.",
)
SettingsFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings in TOML, as in a run.toml.")
]
RunOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="RUN", help="The run's directory; runs/TASK or runs/pretrain by default."),
    Kind.FILE_OUT,
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume the run; on a CPU the result is bit-identical.")]
ForceRun = Annotated[bool, typer.Option("--force", help="Replace the run in the directory.")]

# --- What both trainings have: options of fields of their settings

TrainingPrecision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISION = typer.Option("--precision", help="Of the computation; auto is bf16 on a GPU that has it.")
STEPS = typer.Option("--steps", metavar="N", help="Number of updates.")
LEARNING_RATE = typer.Option("--lr", metavar="X", help="Peak learning rate.")
WARMUP = typer.Option("--warmup", metavar="X", help="Steps of warm-up; below 1, a share of the whole run.")
GRAD_ACCUM = typer.Option("--grad-accum", metavar="N", help="Compute a batch in N parts: same result, less memory.")
EVAL_EVERY = typer.Option("--eval-every", metavar="N", help="Evaluate and save every N steps.")
SEED = typer.Option("--seed", metavar="N", help="Decides everything random: the same seed gives the same result.")
