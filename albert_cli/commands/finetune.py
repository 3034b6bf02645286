"""albert finetune: train a task on top of a model, into a run directory."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from albert_cli import console, interruption, options, tasks
from albert_cli.arguments import Kind

app = typer.Typer()


class Precision(str, Enum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


@app.command()
def finetune(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help=f"One of {', '.join(tasks.names())}; or glue, all of GLUE.",
            autocompletion=options.complete_task,
        ),
    ],
    model: options.ModelName = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Directory of the task's files, or of GLUE; else downloaded."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="RUN", help="The run's directory; runs/TASK by default."),
        Kind.FILE_OUT,
    ] = None,
    train: Annotated[Path | None, typer.Option("--train", metavar="FILE", help="Training rows.")] = None,
    dev: Annotated[
        Path | None, typer.Option("--dev", metavar="FILE", help="Development rows; else a tenth is held out.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", metavar="FILE", help="GLUE test rows, to be predicted.")
    ] = None,
    text_column: Annotated[str | None, typer.Option("--text-column", metavar="NAME", help="csv: the text.")] = None,
    text_pair_column: Annotated[
        str | None, typer.Option("--text-pair-column", metavar="NAME", help="csv: the second text of a pair.")
    ] = None,
    label_column: Annotated[str | None, typer.Option("--label-column", metavar="NAME", help="csv: the label.")] = None,
    delimiter: options.Delimiter = None,
    regression: Annotated[
        bool, typer.Option("--regression", help="csv: the label is a number to be predicted.")
    ] = False,
    epochs: Annotated[float | None, typer.Option("--epochs", help="How often to see every row.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="How many updates, instead of --epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Rows of one update.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="The learning rate at its peak.")] = None,
    warmup: Annotated[
        float | None, typer.Option("--warmup", help="Steps of warm-up, or a share of all steps below 1.")
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option("--dropout", help="Of the encoder; else the recipe's for GLUE and SQuAD, or the model's own."),
    ] = None,
    max_length: Annotated[int | None, typer.Option("--max-length", help="Tokens of a row at most.")] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Decides the head's weights, order and dropout; 42.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="N,N,…", help="A run for each seed; mean and spread are printed.")
    ] = None,
    freeze_encoder: Annotated[
        bool, typer.Option("--freeze-encoder", help="Train the head only, on features that are computed once.")
    ] = False,
    head: Annotated[
        str | None, typer.Option("--head", metavar="HEAD", help="linear, or mlp:128,30,8 with batch norm.")
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option("--precision", help="Of the computation; auto is bf16 on a GPU that has it.")
    ] = None,
    grad_accum: Annotated[
        int | None,
        typer.Option(
            "--grad-accum", metavar="N", help="Compute a batch in N parts: the same, less memory; not for an mlp head."
        ),
    ] = None,
    eval_every: Annotated[int | None, typer.Option("--eval-every", metavar="N", help="Evaluate every N steps.")] = None,
    early_stop: Annotated[
        int | None, typer.Option("--early-stop", metavar="K", help="Stop after K evaluations without a better one.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run, to the very same result.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the run in the directory.")] = False,
    limit_train: Annotated[
        int | None, typer.Option("--limit-train", metavar="N", help="Take N of the training rows.")
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad",
            help="Leave out and tell rows without a usable label, of another width or no JSON, and misplaced answers.",
        ),
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log to RUN/tensorboard too.")] = False,
    compare: Annotated[
        list[Path] | None,
        typer.Option("--compare", metavar="RUN", help="Draw this run's curves over those of another."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings in TOML, as in a run.toml.")
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option("--submission", metavar="ZIP", help="glue: write the files the GLUE server takes."),
        Kind.FILE_OUT,
    ] = None,
    json: options.Json = False,
) -> None:
    """Fine-tune a model on a task: trained, evaluated, drawn, ready for transformers.

    Hyper-parameters are Google's for the task unless given. The best model on the development set is kept, in a
    directory that transformers loads, with run.toml, metrics.jsonl, curves.png, confusion.png, report.md and the
    development set's predictions, errors on top. A killed run goes on with --resume. Under torchrun or
    accelerate launch, many processes share each batch.

    Examples:

        albert finetune qnli --model albert-base-v2 --data glue/ --out runs/qnli

        albert finetune qnli --out runs/qnli --resume

        albert finetune csv --train reviews.csv --model hf/ \\
            --text-column review --label-column sentiment

        albert finetune imdb --data aclImdb/ --model hf/ \\
            --freeze-encoder --head mlp:128,30,8 --epochs 100

        albert finetune rte --data glue/ --model hf/ --seeds 1,2,3

        albert finetune glue --data glue/ --model hf/ --submission out.zip
    """
    given: dict[str, Any] = {
        "model": model,
        "data": data and str(data),
        "train": train and str(train),
        "dev": dev and str(dev),
        "test": test and str(test),
        "text_column": text_column,
        "text_pair_column": text_pair_column,
        "label_column": label_column,
        "delimiter": delimiter,
        "regression": regression or None,
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": lr,
        "warmup": warmup,
        "dropout": dropout,
        "max_length": max_length,
        "seed": seed,
        "freeze_encoder": freeze_encoder or None,
        "head": head,
        "precision": precision and precision.value,
        "grad_accum": grad_accum,
        "eval_every": eval_every,
        "early_stop": early_stop,
        "limit_train": limit_train,
        "tensorboard": tensorboard or None,
        "skip_bad": skip_bad or None,
    }
    if (head or "").startswith("mlp") and (grad_accum or 1) > 1:
        raise typer.BadParameter(
            "--head mlp and --grad-accum do not go together: batch norm takes its statistics from the rows computed "
            "together, so the parts of a batch would give another model; leave --grad-accum out"
        )
    if seeds is not None and seed is not None:
        raise typer.BadParameter("--seed and --seeds do not go together; choose one")
    if (submission is not None) and task != "glue":
        raise typer.BadParameter("--submission needs all of GLUE: albert finetune glue --submission out.zip")
    numbers = _seeds(seeds)
    if task != "glue":
        tasks.named(task)  # before any library is loaded
    from converters.files import check_directory_name

    out = out or Path("runs") / task
    check_directory_name(out, "a run")
    kept = interruption.of_run(out, resume=resume)
    with interruption.keeping(kept), console.training_progress(quiet=json) as report:
        from albert_cli.training import session

        if task == "glue":
            result = session.glue(
                given, out, config=config, submission=submission, resume=resume, force=force, report=report
            )
        else:
            result = session.one(
                task,
                given,
                out,
                config=config,
                seeds=numbers,
                compare=compare or [],
                resume=resume,
                force=force,
                report=report,
            )
    if not result:
        return  # a further process of a distributed run
    if json:
        console.print_json({"out": str(out)} | result)
    else:
        _show(result, out)


def _seeds(text: str | None) -> list[int]:
    if text is None:
        return []
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--seeds is {text!r}, not whole numbers as 1,2,3") from None
    if len(set(numbers)) < len(numbers) or min(numbers) < 0:
        raise typer.BadParameter(f"--seeds is {text!r}; name different numbers from 0 up")
    return numbers


def _show(result: dict[str, Any], out: Path) -> None:
    if "tasks" in result:
        rows = [[name, _metrics(item["dev"])] for name, item in result["tasks"].items()]
        console.print_table(rows, ["task", "dev"])
        for note in result["notes"]:
            console.warn(f"note: {note}")
        if result["submission"]:
            console.say(f"submission: {result['submission']}")
        return
    if "seeds" in result:
        rows = [
            [name, console.figure(item["mean"]), f"± {console.figure(item['spread'])}"]
            for name, item in result["metrics"].items()
        ]
        console.print_table(rows, ["metric", "mean", "spread"], right=[1])
        console.say(f"{len(result['seeds'])} runs in {out}; see {out / 'report.md'}")
        return
    console.say(f"best: step {result['best_step']} of {result['steps']}, {_metrics(result['dev'])}")
    console.say(f"{out}: model, report.md, curves.png, dev_predictions.csv")


def _metrics(dev: dict[str, float]) -> str:
    return ", ".join(f"{name} {console.figure(value)}" for name, value in dev.items())
