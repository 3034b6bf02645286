"""albert answer: the span of a text that answers a question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from albert_cli import arguments, console, options
from albert_cli.arguments import Kind
from converters.errors import UsageError

app = typer.Typer()


@app.command()
def answer(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A run of albert finetune squad, or a model fine-tuned elsewhere.",
            show_default=False,
            autocompletion=options.complete_run,
        ),
    ],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What is asked, in quotes.", show_default=False)],
    context: Annotated[
        str,
        typer.Argument(metavar="CONTEXT", help="The text, or @FILE to read it from a file.", show_default=False),
        Kind.RAW,
    ],
    top: options.TopAnswers = None,
    no_answer_threshold: options.NoAnswerThreshold = None,
    json: options.Json = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.Precision = "auto",
    batch_tokens: options.BatchTokens = None,
) -> None:
    """Answer a question from a text of any length, or say that it holds no answer.

    It holds none where that scores more than the best answer by more than the threshold, which albert finetune squad
    finds on the development set. RUN may also be a question-answering model of other origin, by path or by its name on
    the Hugging Face Hub: there the threshold is 0.

    Examples:

        albert answer runs/squad "Who wrote Emma?" "Emma is a novel by Jane Austen."

        albert answer runs/squad "Who wrote Emma?" @article.txt --json

        albert answer runs/squad "Who wrote Emma?" @article.txt --top 5

        albert answer deepset/roberta-base-squad2 "Who wrote it?" @emma.txt
    """
    from albert_cli.machine import Machine
    from albert_cli.training import prediction
    from albert_cli.training.run_directory import load_run

    if not question.strip():
        raise UsageError("QUESTION", "is empty", "write what is asked")
    text = _context(context)
    if not text.strip():
        raise UsageError("CONTEXT", "is empty", "give the text that may hold the answer, or @FILE")
    with Machine(device, threads, precision).at_work() as where:
        loaded = load_run(run, device=where, batch_tokens=batch_tokens)
        loaded = prediction.answering(loaded, top, no_answer_threshold)
        found = prediction.one(loaded, "answer", question, text)
    if json:
        console.print_json(found)
        return
    console.say(found["answer"] or "(no answer in the text)")
    if top is not None:
        rows = [[item["text"] or "(no answer)", f"{item['probability']:.4f}"] for item in found["candidates"]]
        console.print_table(rows, ["candidate", "probability"], right=[1])


def _context(text: str) -> str:
    if not text.startswith("@"):
        text = arguments.decoded(text, "CONTEXT")
        arguments.tell_of_file(text, "@{} reads it")
        return text
    from albert_cli.errors import TextError
    from converters.files import read_small

    path = Path(arguments.expanded(text[1:]))
    data = read_small(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TextError(
            f"{path}: line {line} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}; convert it"
        ) from None
