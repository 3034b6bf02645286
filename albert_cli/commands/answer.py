"""albert answer: the span of a text that answers a question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from albert_cli import console, options

app = typer.Typer()


@app.command()
def answer(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run of albert finetune squad.", show_default=False)],
    question: Annotated[str, typer.Argument(metavar="QUESTION", show_default=False)],
    context: Annotated[
        str, typer.Argument(metavar="CONTEXT", help="The text, or @FILE to read it from a file.", show_default=False)
    ],
    json: options.Json = False,
) -> None:
    """Answer a question from a text of any length, or say that it holds no answer.

    Examples:

        albert answer runs/squad "Who wrote Emma?" "Emma is a novel by Jane Austen."

        albert answer runs/squad "Who wrote Emma?" @article.txt --json
    """
    from albert_cli.training import predict
    from albert_cli.training.run import load_run

    found = predict.answer(load_run(run), question, _context(context))
    if json:
        console.print_json(found)
    else:
        typer.echo(found["answer"] or "(no answer in the text)")


def _context(text: str) -> str:
    if not text.startswith("@"):
        return text
    from converters.files import read_small

    return read_small(Path(text[1:])).decode("utf-8", "replace")
