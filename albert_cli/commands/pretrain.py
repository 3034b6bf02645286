"""albert pretrain: train an ALBERT from scratch, or on from another, on text of one's own."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from albert_cli import console, interruption, options
from albert_cli.arguments import Kind
from converters.dialects import read_config, to_google
from converters.families.albert import PRESETS

app = typer.Typer()


class Optimizer(str, Enum):
    adamw = "adamw"
    lamb = "lamb"
    muon = "muon"


class Share(str, Enum):
    all = "all"
    attention = "attention"
    ffn = "ffn"
    none = "none"


@app.command()
def pretrain(
    corpus: Annotated[
        list[Path] | None,
        typer.Option("--corpus", metavar="DIR|FILE", help="Text: a line a paragraph, empty lines between documents."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The run's directory."), Kind.FILE_OUT] = Path(
        "runs/pretrain"
    ),
    preset: options.Preset = None,
    config: options.ConfigFile = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="MODEL",
            help="Go on from this model: path, name or Hub id.",
            autocompletion=options.complete_model,
        ),
        Kind.PATH,
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A spiece.model, 30k-clean.vocab or vocab.txt; else trained.")
    ] = None,
    keep_accents: Annotated[
        bool | None,
        typer.Option(
            "--keep-accents/--strip-accents",
            help="Whether accents and other marks stay (é, で); as the tokenizer's files say, else stripped.",
            show_default=False,
        ),
    ] = None,
    cased: Annotated[
        bool | None,
        typer.Option(
            "--cased/--uncased",
            help="Whether capitals stay; as the tokenizer's files say, else lower-cased.",
            show_default=False,
        ),
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option("--vocab-size", help="Pieces of the vocabulary to train; 30000.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="How many updates.")] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", help="How long to train, instead of --steps.")] = None,
    batch_tokens: Annotated[int | None, typer.Option("--batch-tokens", help="Tokens of one update; 4096.")] = None,
    max_length: Annotated[int | None, typer.Option("--max-length", help="Tokens of a sequence at most; 128.")] = None,
    optimizer: Annotated[
        Optimizer | None, typer.Option("--optimizer", help="adamw, lamb for large batches, or muon; adamw.")
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="The learning rate at its peak; 0.001.")] = None,
    warmup: Annotated[
        float | None, typer.Option("--warmup", help="Steps of warm-up, or a share of the run below 1; 0.05.")
    ] = None,
    grad_accum: Annotated[
        int | None, typer.Option("--grad-accum", metavar="N", help="Compute a batch in N parts: the same, less memory.")
    ] = None,
    share: Annotated[
        Share | None, typer.Option("--share", help="What all layers have in common (the paper's table 4); all.")
    ] = None,
    mask_rate: Annotated[
        float | None, typer.Option("--mask-rate", help="The share of tokens masked in training; 0.15.")
    ] = None,
    whole_words: Annotated[
        bool | None, typer.Option("--whole-words/--pieces", help="n-grams of words (the paper's) or of pieces.")
    ] = None,
    local_heads: Annotated[
        int | None,
        typer.Option("--local-heads", metavar="N", help="Heads that begin by looking at a neighbour; 0, at most 4."),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="FILE=W", help="How often an epoch goes through a file: 0.2, 3; 1."),
        Kind.PATH,
    ] = None,
    unordered: Annotated[
        list[str] | None,
        typer.Option("--unordered", metavar="FILE", help="A file whose lines do not follow on one another."),
        Kind.PATH,
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", metavar="DIR", help="Learn the sentence vectors of this Hugging Face encoder, too."),
    ] = None,
    teacher_sentences: Annotated[
        int | None, typer.Option("--teacher-sentences", metavar="N", help="So many of the corpus's; 200000.")
    ] = None,
    teacher_texts: Annotated[
        Path | None, typer.Option("--teacher-texts", metavar="FILE", help="Further sentences for it, one a line.")
    ] = None,
    eval_every: Annotated[
        int | None, typer.Option("--eval-every", metavar="N", help="Evaluate and save every N steps; 500.")
    ] = None,
    hold_out: Annotated[
        int | None, typer.Option("--hold-out", metavar="N", help="Keep every Nth document for evaluation; 50.")
    ] = None,
    precision: Annotated[
        options.PrecisionName | None,
        typer.Option("--precision", help="Of the computation; auto is bf16 on a GPU that has it."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Decides weights, order, masks and dropout; 42.")] = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", metavar="FILE", help="Settings in TOML, as in a run.toml.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run, to the very same result.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the run in the directory.")] = False,
    json: options.Json = False,
) -> None:
    """Pretrain a model on text: masked words and sentence order, as in the ALBERT paper.

    Documents are packed into pairs of segments, half of them swapped; 15 % of the tokens are masked in n-grams of 1 to
    3 words. Every 50th document is held out, and judged at each evaluation as Google prints it: masked_lm_accuracy,
    masked_lm_loss, sentence_order_accuracy, sentence_order_loss; sentence_order_by_length is the accuracy that the
    lengths of the segments alone give on the same pairs. Without --tokenizer a vocabulary is trained with Google's
    options. The run is a Hugging Face directory, with run.toml, metrics.jsonl and curves.png. A killed run goes on with
    --resume. Under torchrun or accelerate launch, many processes share each batch.

    Examples:

        albert pretrain --corpus texts/ --out runs/mine --vocab-size 8000 --minutes 60

        # on with it after an interruption
        albert pretrain --corpus texts/ --out runs/mine --vocab-size 8000 \\
            --minutes 60 --resume

        albert pretrain --corpus wiki.txt.xz --out runs/base --preset base \\
            --tokenizer spiece.model --steps 125000 --batch-tokens 524288 \\
            --grad-accum 16 --optimizer lamb --lr 0.00176

        albert pretrain --corpus domain.txt --init albert-base-v2 \\
            --out runs/domain --steps 2000 --lr 5e-5

        albert pretrain --corpus texts/ --out runs/ffn --share ffn --steps 1000
    """
    from albert_cli.runs.claim import current

    if settings is None and not (resume and (current(out) / "run.toml").exists()):
        _check_usage(corpus, steps, minutes, f"{out}: holds no run to resume; " * resume)
    given: dict[str, Any] = {
        "corpus": tuple(str(path) for path in corpus) if corpus else None,
        "weights": _weights(weight) if weight else None,
        "unordered": tuple(unordered) if unordered else None,
        "config": _config(preset, config),
        "init": init,
        "tokenizer": tokenizer and str(tokenizer),
        "keep_accents": keep_accents,
        "cased": cased,
        "vocab_size": vocab_size,
        "steps": steps,
        "minutes": minutes,
        "batch_tokens": batch_tokens,
        "max_length": max_length,
        "optimizer": optimizer and optimizer.value,
        "learning_rate": lr,
        "warmup": warmup,
        "grad_accum": grad_accum,
        "share": share and share.value,
        "mask_rate": mask_rate,
        "whole_words": whole_words,
        "local_heads": local_heads,
        "teacher": teacher and str(teacher),
        "teacher_sentences": teacher_sentences,
        "teacher_texts": teacher_texts and str(teacher_texts),
        "eval_every": eval_every,
        "hold_out": hold_out,
        "precision": precision,
        "seed": seed,
    }
    from albert_cli.pretraining.order_by_length import NAME
    from converters.files import check_directory_name

    check_directory_name(out, "a run")
    kept = interruption.of_run(out, resume=resume)
    with interruption.keeping(kept), console.pretraining_progress(quiet=json) as report:
        from albert_cli.pretraining.pretrain import pretrain as run
        from albert_cli.pretraining.settings import resolve

        wanted = resolve(given, settings, current(out) if resume else None)
        summary = run(wanted, out, resume=resume, force=force, report=report)
    if not summary:
        return  # a further process of a distributed run
    if json:
        console.print_json({"out": str(out)} | summary)
        return
    figures = dict(summary["held_out"])
    if NAME in summary:
        figures[NAME] = summary[NAME]
    console.print_table([[name, f"{value:.4f}"] for name, value in figures.items()], ["held out", ""], right=[1])
    console.say(
        f"{summary['steps']} steps, {summary['tokens_seen']:,} tokens in {summary['seconds'] / 60:.1f} min -> {out}"
    )


def _check_usage(corpus: list[Path] | None, steps: int | None, minutes: float | None, before: str) -> None:
    """What a run cannot do without, where no file of settings and no earlier run may hold it."""
    missing = []
    if not corpus:
        missing.append("--corpus: a file or directory of text")
    if steps is None and minutes is None:
        missing.append("--steps or --minutes: how long to train")
    if missing:
        raise typer.BadParameter(f"{before}missing {', and '.join(missing)}")


def _weights(given: list[str]) -> dict[str, float]:
    weights = {}
    for item in given:
        name, _, value = item.rpartition("=")
        try:
            weights[name] = float(value)
        except ValueError:
            name = ""
        if not name:
            raise typer.BadParameter(f"--weight is {item!r}, not FILE=NUMBER as in wordnet.txt=0.5")
    return weights


def _config(preset: options.PresetName | None, path: Path | None) -> dict[str, Any] | None:
    """The model's shape in Google's dialect, which a run.toml can hold."""
    if preset is not None and path is not None:
        raise typer.BadParameter("give either --preset or --config")
    if preset is not None:
        return to_google(PRESETS[preset.value])
    return to_google(read_config(path)) if path is not None else None
