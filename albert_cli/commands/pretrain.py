"""albert pretrain: train an ALBERT from scratch, or on from another, on text of one's own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from albert_cli import console, interruption, options
from albert_cli.arguments import refuse_idle
from albert_cli.declared import options_of
from albert_cli.errors import Notice
from albert_cli.pretraining.settings import PretrainSettings, check_family
from albert_cli.runs import progress
from converters.dialects import read_config, to_google
from converters.families.albert import PRESETS

app = typer.Typer()


@app.command(rich_help_panel="Train")
@options_of(PretrainSettings)
def pretrain(
    given: dict[str, Any],
    preset: options.PresetOfAlbert = None,
    model_config: Annotated[Path | None, options.MODEL_CONFIG] = None,
    config: options.SettingsFile = None,
    settings: Annotated[Path | None, typer.Option("--settings", metavar="FILE", hidden=True)] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    out: options.RunOut = None,
    resume: options.Resume = False,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Pretrain a model on text: masked words and sentence order, as in the ALBERT paper.

    Documents are packed into pairs of segments, half of them swapped; 15 % of the tokens are masked in n-grams of 1 to
    3 words. Every 50th document is held out, and judged at each evaluation as Google prints it: masked_lm_accuracy,
    masked_lm_loss, sentence_order_accuracy, sentence_order_loss; sentence_order_by_length is the accuracy that the
    lengths of the segments alone give on the same pairs. Without --tokenizer a vocabulary is trained with Google's
    options, and without --preset, --model-config or --init the model is a tiny one. The run is a Hugging Face
    directory, with run.toml, metrics.jsonl and curves.png. A killed run resumes with --resume. Under torchrun or
    accelerate launch, many processes share each batch.

    Examples:

        albert pretrain --corpus texts/ --out runs/mine --vocab-size 8000 --minutes 60

        # resume it after an interruption
        albert pretrain --corpus texts/ --out runs/mine --vocab-size 8000 \\
            --minutes 60 --resume

        albert pretrain --corpus wiki.txt.xz --out runs/base --preset base \\
            --tokenizer spiece.model --steps 125000 --tokens-per-update 524288 \\
            --grad-accum 16 --optimizer lamb --lr 0.00176

        albert pretrain --corpus domain.txt --init albert-base-v2 \\
            --out runs/domain --steps 2000 --lr 5e-5

        albert pretrain --corpus texts/ --out runs/ffn --share ffn --steps 1000

        # settings.toml: steps = 1000, optimizer = "lamb", a line each
        albert pretrain --corpus texts/ --config settings.toml
    """
    from albert_cli.runs.claim import current
    from albert_cli.runs.files import RUN

    if given["teacher"] is None and config is None and settings is None and not resume:
        refuse_idle("without --teacher", "teacher_sentences")
    out = out or Path("runs/pretrain")
    model_config, settings = _files(model_config, config, settings)
    given["model_config"] = _config(preset, model_config)
    if settings is None and not (resume and (current(out) / RUN).exists()):
        _check_usage(given, f"{out}: holds no run to resume; " * resume)
    from albert_cli.pretraining.order_by_length import NAME
    from converters.staging import check_directory_name

    check_directory_name(out, "a run")
    kept = interruption.of_run(out, resume=resume)
    with interruption.keeping(kept), progress.shown(quiet=json) as report:
        from albert_cli.machine import on_threads
        from albert_cli.pretraining.pretrain import pretrain as run
        from albert_cli.pretraining.settings import resolve

        wanted = resolve(given, settings, current(out) if resume else None)
        with on_threads(threads):
            summary = run(wanted, out, resume=resume, force=force, report=report, device=device)
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


def _check_usage(given: Mapping[str, Any], before: str) -> None:
    """What a run cannot do without, where no file of settings and no earlier run may hold it."""
    missing = []
    if not given["corpus"]:
        missing.append("--corpus: a file or directory of text")
    if given["steps"] is None and given["minutes"] is None:
        missing.append("--steps or --minutes: how long to train")
    if missing:
        raise typer.BadParameter(f"{before}missing {', and '.join(missing)}")


def _files(model: Path | None, config: Path | None, settings: Path | None) -> tuple[Path | None, Path | None]:
    """The file of the model's config, and that of settings: --config was the former, and --settings is the latter."""
    from converters.files import read_small

    if config is not None and model is None:
        is_json = config.suffix.lower() == ".json" or read_small(config).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
        if is_json:
            message = f"{config}: taken as the model's config; that is --model-config now, and --config is for settings"
            warnings.warn(message, Notice, stacklevel=2)
            return config, settings
    if config is not None and settings is not None:
        raise typer.BadParameter("--settings is the earlier name of --config; give one")
    return model, config or settings


def _config(preset: str | None, path: Path | None) -> dict[str, Any] | None:
    """The model's shape in Google's dialect, which a run.toml can hold."""
    if preset is not None and path is not None:
        raise typer.BadParameter("give either --preset or --model-config")
    if preset is not None:
        return to_google(PRESETS[preset])
    if path is None:
        return None
    config = read_config(path)
    check_family(config, str(path))
    return to_google(config)
