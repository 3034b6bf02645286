"""Options of what makes a vector of a text, that mean the same in every command that makes some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from albert_cli import console
from albert_cli.options import SENTENCE_TRANSFORMERS, starting

if TYPE_CHECKING:
    from albert_cli.embedding.embedder import Plan
    from albert_cli.embedding.settings import Settings


def _poolings() -> list[str]:
    from albert_cli.embedding.settings import POOLINGS, TOKENS

    return [*POOLINGS, TOKENS]


def _pooling(text: str | None, *, tokens: bool) -> str | None:
    from albert_cli.embedding.settings import pooling_named
    from albert_cli.errors import EmbeddingError

    try:
        return None if text is None else pooling_named(text, tokens=tokens)
    except EmbeddingError as error:
        raise typer.BadParameter(str(error)) from None


_POOLING = (
    "How the vectors of the tokens become that of the text: mean, cls, pooler, max, weighted, lasttoken, "
    "mean_sqrt_len_tokens{}, several joined as mean+max; by default mean, or what the model's Sentence-Transformers "
    "files say."
)


def pooling_option(help: str, *, tokens: bool = False) -> Any:
    """`--pooling` with its check and completion; with `tokens` all vectors of a text may be asked for."""
    return typer.Option(
        "--pooling",
        metavar="MODE",
        callback=lambda text: _pooling(text, tokens=tokens),
        autocompletion=starting(lambda: _poolings() if tokens else _poolings()[:-1]),
        help=help,
    )


Pooling = Annotated[str | None, pooling_option(_POOLING.format(""))]
PoolingOrTokens = Annotated[str | None, pooling_option(_POOLING.format(", or tokens for all of them"), tokens=True)]
PoolingToWrite = Annotated[
    str | None,
    pooling_option(
        f"--to {SENTENCE_TRANSFORMERS}: how the vectors of the tokens become that of a text; by default mean."
    ),
]
NormalizeToWrite = Annotated[
    bool | None,
    typer.Option(
        "--normalize/--no-normalize",
        help=f"--to {SENTENCE_TRANSFORMERS}: scale each vector to length 1, or not, the default.",
        show_default=False,
    ),
]
MaxLengthToWrite = Annotated[
    int | None,
    typer.Option(
        "--max-length",
        min=3,
        metavar="N",
        help=f"--to {SENTENCE_TRANSFORMERS}: tokens of a text at most; by default 512, or what the model takes.",
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        metavar="NAME",
        help="Which of the prompts in the model's Sentence-Transformers files stands before every text, or 'none'; "
        "by default the one that they say.",
        show_default=False,
    ),
]
Normalize = Annotated[
    bool | None,
    typer.Option(
        "--normalize/--no-normalize",
        help="Scale each vector to length 1, or not; as the model's Sentence-Transformers files say, else not.",
        show_default=False,
    ),
]
Dims = Annotated[
    int | None,
    typer.Option(
        "--dims",
        min=1,
        metavar="N",
        help="Keep the first N numbers; by default all, or what the model's Sentence-Transformers files say.",
    ),
]
Layer = Annotated[
    int | None, typer.Option("--layer", metavar="N", help="0 is the embeddings, -1 the last.", show_default="-1")
]
OnTruncate = Annotated[
    Literal["warn", "error", "window"],
    typer.Option("--on-truncate", help="A longer text: cut it, refuse it, or embed it in windows."),
]
ReadEmbeddingColumn = Annotated[
    str | None, typer.Option("--embedding-column", metavar="NAME", help="The column of vectors of the files.")
]


def settings_of(layer: int | None, cased: bool | None, **given: Any) -> Settings:
    """What decides a vector, as the options of a command with one layer say it."""
    from albert_cli.embedding.settings import Settings

    lowercase = None if cased is None else not cased
    return Settings(layers=(-1 if layer is None else layer,), lowercase=lowercase, **given)


def plan_of(model: str | None, settings: Settings, device: str, **computing: Any) -> Plan:
    """How the vectors are made; a line on what was taken from the model's files."""
    from albert_cli.embedding.embedder import Plan
    from albert_cli.registry.resolve import resolve

    plan = Plan.of(resolve(model), settings, device=device, **computing)
    if taken := plan.taken():
        console.warn(taken)
    return plan
