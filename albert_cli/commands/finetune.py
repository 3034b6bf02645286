"""albert finetune: train a task on top of a model, into a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from albert_cli import console, interruption, options, tasks
from albert_cli.arguments import Kind, refuse_idle
from albert_cli.declared import options_of
from albert_cli.runs import progress
from albert_cli.training.settings import Settings

if TYPE_CHECKING:
    from albert_cli.tasks.task import Task

app = typer.Typer()

# Figures that are shown in one line.
_IN_A_LINE = 6
_OF_TABLES = ("text_column", "text_pair_column", "label_column", "delimiter", "--regression", "--multi-label")
_OF_VECTORS = ("loss", "scale")


@app.command(rich_help_panel="Train")
@options_of(Settings)
def finetune(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help=f"One of {', '.join(tasks.names())}; or glue, all of GLUE.",
            autocompletion=options.complete_task,
        ),
    ],
    given: dict[str, Any],
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="N,N,…", help="A run for each seed; mean and spread are printed.")
    ] = None,
    config: options.SettingsFile = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    out: options.RunOut = None,
    resume: options.Resume = False,
    force: options.Force = False,
    compare: Annotated[
        list[Path] | None,
        typer.Option(
            "--compare",
            metavar="RUN",
            help="Draw this run's curves over those of another.",
            autocompletion=options.complete_run,
        ),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option("--submission", metavar="ZIP", help="glue: write the files the GLUE server takes."),
        Kind.FILE_OUT,
    ] = None,
    json: options.Json = False,
) -> None:
    """Fine-tune a model on a task: trained, evaluated, drawn, ready for transformers.

    Hyper-parameters are those published for the task and the model's family unless given. The best model on the
    development set is kept, in a directory that transformers loads, with run.toml, metrics.jsonl, curves.png,
    confusion.png, report.md and the development set's predictions, errors on top. A killed run resumes with --resume.
    Under torchrun or accelerate launch, many processes share each batch.

    sts and pairs train a bi-encoder, a model that gives each text a vector: sts by pairs with a score (columns
    sentence1, sentence2, score), pairs by queries and the text that belongs to each (query, positive, and perhaps
    negatives), beside which all others of a batch are taken for texts that do not. The run is a Sentence-Transformers
    directory.

    Examples:

        albert finetune qnli --model albert-base-v2 --data glue/ --out runs/qnli

        albert finetune qnli --out runs/qnli --resume

        # settings.toml: model = "albert-base-v2", batch_size = 16, a line each
        albert finetune cola --data glue/ --config settings.toml --lr 3e-5

        albert finetune csv --train reviews.csv --model hf/ \\
            --text-column review --label-column sentiment

        albert finetune csv --train tags.jsonl --model hf/ --multi-label

        albert finetune race --data RACE/ --model albert-base-v2

        albert finetune ner --data conll2003/ --model bert-base-cased

        albert finetune imdb --data aclImdb/ --model hf/ \\
            --freeze-encoder --head mlp:128,30,8 --epochs 100

        # few rows of each label: the head alone, on the mean of the hidden states
        albert finetune csv --train few.csv --model hf/ \\
            --freeze-encoder --pooling mean --lr 1e-3,1e-2 --epochs 20

        albert finetune sts --train scored.csv --dev dev.csv --model minilm/

        albert finetune pairs --train questions.jsonl --model hf/ --scale 20

        albert finetune rte --data glue/ --model hf/ --seeds 1,2,3

        albert finetune rte --data glue/ --model hf/ \\
            --lr 1e-5,2e-5,3e-5 --seeds 1,2,3

        albert finetune glue --data glue/ --model hf/ --submission out.zip
    """
    if (given["head"] or "").startswith("mlp") and (given["grad_accum"] or 1) > 1:
        raise typer.BadParameter(
            "--head mlp and --grad-accum do not go together: batch norm takes its statistics from the rows computed "
            "together, so the parts of a batch would give another model; leave --grad-accum out"
        )
    if seeds is not None and given["seed"] is not None:
        raise typer.BadParameter("--seed and --seeds do not go together; choose one")
    if (submission is not None) and task != "glue":
        raise typer.BadParameter("--submission needs all of GLUE: albert finetune glue --submission out.zip")
    if task == "glue":
        refuse_idle("on glue, which is several tasks", "compare", "seeds", "train", "dev", "test", *_OF_TABLES)
    else:  # before any library is loaded
        refuse_idle(f"on {task}, whose columns and labels are known", *_idle_on(tasks.named(task)))
    few = [name for name in _OF_VECTORS if task == "glue" or name not in tasks.named(task).own]
    refuse_idle(f"on {task}", *few)
    if given["loss"] == "cosine":
        refuse_idle("with --loss cosine", "scale")
    if task != "glue" and not tasks.named(task).submission:
        refuse_idle(f"on {task}, which has no server that takes predictions", "test")
    if seeds is not None:
        refuse_idle("with --seeds", "compare")
    numbers, rates = _seeds(seeds), given["learning_rate"] if isinstance(given["learning_rate"], tuple) else ()
    if rates:
        if task == "glue":
            raise typer.BadParameter("--lr takes one rate on glue, which is several tasks")
        refuse_idle("with several rates of --lr", "compare")
        given = given | {"learning_rate": None}
    from converters.staging import check_directory_name

    out = out or Path("runs") / task
    check_directory_name(out, "a run")
    kept = interruption.of_run(out, resume=resume)
    with interruption.keeping(kept), progress.shown(quiet=json) as report:
        from albert_cli.machine import on_threads
        from albert_cli.training import session

        how: dict[str, Any] = {"resume": resume, "force": force, "report": report, "device": device}
        with on_threads(threads):
            if task == "glue":
                result = session.glue(given, out, config=config, submission=submission, **how)
            else:
                how |= {"seeds": numbers, "rates": rates, "compare": compare or []}
                result = session.one(task, given, out, config=config, **how)
    if not result:
        return  # a further process of a distributed run
    if json:
        console.print_json({"out": str(out)} | result)
    else:
        _show(result, out)


def _idle_on(task: Task) -> list[str]:
    """The options of tables that have no effect on a task."""
    kinds = {"--regression": task.regression, "--multi-label": task.multi_label}
    own = {*task.layout.options, *(option for option, posed in kinds.items() if posed is not None)}
    return [option for option in _OF_TABLES if option not in own]


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
    if "sweep" in result:
        from albert_cli.training.report import sweep_table

        header, rows = sweep_table(result)
        console.print_table(rows, header, right=[0])
        best = f"lr {result['best_learning_rate']:g}, by {result['selection_metric']}"
        console.say(f"best: {best}; {len(rows) * len(result['seeds'])} runs in {out}; see {out / 'report.md'}")
        return
    if "seeds" in result:
        rows = [
            [name, console.figure(item["mean"]), f"± {console.figure(item['spread'])}"]
            for name, item in result["metrics"].items()
        ]
        console.print_table(rows, ["metric", "mean", "spread"], right=[1])
        console.say(f"{len(result['seeds'])} runs in {out}; see {out / 'report.md'}")
        return
    best, dev = f"best: step {result['best_step']} of {result['steps']}", result["dev"]
    if len(dev) <= _IN_A_LINE:
        console.say(f"{best}, {_metrics(dev)}")
    else:
        console.say(best)
        console.print_table(
            [[name, console.figure(value)] for name, value in dev.items()], ["metric", "dev"], right=[1]
        )
    drawn = "curves.png, " if (out / "curves.png").exists() else ""
    console.say(f"{out}: model, report.md, {drawn}dev_predictions.csv")


def _metrics(dev: dict[str, float]) -> str:
    return ", ".join(f"{name} {console.figure(value)}" for name, value in dev.items())
