"""albert convert: a model from any format to any other, read back and proved equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from albert_cli import console, options, vector_options
from albert_cli.arguments import refuse_idle

if TYPE_CHECKING:
    from albert_cli.exporters import Exported, Exporter
    from albert_cli.registry.resolve import Model
    from converters.choices import Choices
    from converters.convert import Report
    from converters.sentence_writing import SentenceRecipe

app = typer.Typer()


@app.command(rich_help_panel="Models")
def convert(
    source: options.Source,
    target: options.Target,
    source_as: options.From = None,
    target_as: options.To = None,
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"] | None,
        typer.Option("--dtype", help="Cast the weights; the largest error is reported."),
    ] = None,
    force: options.Force = False,
    keep_optimizer: Annotated[
        bool, typer.Option("--keep-optimizer", help="Carry the optimizer's slots (adam_m, adam_v, lamb_m, lamb_v).")
    ] = False,
    model_config: options.PartialModelConfig = None,
    heads: options.Heads = None,
    part: options.Parts = None,
    classification_head: options.ClassificationHead = None,
    head: options.ExportedHead = None,
    quantize: options.Quantize = None,
    pooling: vector_options.PoolingToWrite = None,
    normalize: vector_options.NormalizeToWrite = None,
    max_length: vector_options.MaxLengthToWrite = None,
    json: options.Json = False,
) -> None:
    """Convert a model between formats, losslessly, and prove it.

    Everything written is read back and compared with the source, tensor by tensor (SHA-256), before it takes its place.
    The format of SOURCE is found from its contents; a bare directory as TARGET becomes a Hugging Face directory.

    Examples:

        # Google's checkpoint, or its archive as published, to Hugging Face
        albert convert albert_base_v2/ hf/
        albert convert albert_base_v2.tar.gz hf/

        # for Julia, and back to TensorFlow
        albert convert hf/ albert.npz
        albert convert albert.npz tf/ --to tf

        # half the size
        albert convert hf/ half/ --to safetensors --dtype float16

        # from the Hugging Face Hub
        albert convert albert/albert-base-v2 albert.npz

        # Google's BERT; the generator of Google's ELECTRA
        albert convert uncased_L-12_H-768_A-12/ bert/
        albert convert electra_small/ generator/ --part generator

        # fairseq's RoBERTa
        albert convert roberta.base.tar.gz roberta/

        # for onnxruntime, checked against PyTorch: an encoder, a task with its head
        albert convert hf/ albert.onnx
        albert convert runs/sst2 sst2-onnx/ --to onnx

        # with the masked-word head; in 8 bits, and what that costs
        albert convert hf/ fill-mask/ --to onnx --head mlm
        albert convert runs/sst2 small/ --to onnx --quantize int8

        # for hub.KerasLayer
        albert convert hf/ module/ --to saved-model

        # for sentence-transformers: the encoder of a run, or of any model
        albert convert runs/mine st/ --to sentence-transformers
        albert convert hf/ st/ --to sentence-transformers --pooling cls --normalize
    """
    from albert_cli import exporters
    from albert_cli.registry import resolve
    from converters import parts
    from converters.choices import Choices
    from converters.convert import check_place

    source_path, both = Path(source), part == "both"
    recipe, target_as = _recipe(target_as, pooling, normalize, max_length, source_path, target, both=both)
    exporter = exporters.asked_for(target, target_as)
    if both and model_config:
        raise typer.BadParameter(
            "holds the settings of one model; convert each with its --part", param_hint="--model-config"
        )
    _check_options(exporter, {"--dtype": dtype, "--keep-optimizer": keep_optimizer}, both=both)
    if exporter:
        exporter.check(target, force=force, source=source_path)
    elif option := next((name for name, value in (("--head", head), ("--quantize", quantize)) if value), None):
        raise typer.BadParameter(
            f"a format keeps every head and value; {option} is for --to {' or '.join(exporters.exporters())}",
            param_hint=option,
        )
    elif both:
        parts.check_directory(target, target_as, force=force)
    else:
        writer = check_place(target, target_as, force=force, source=source_path, source_as=source_as)
        if recipe is None:
            _check_head(source_path, writer.NAME)
    model, choices = resolve.resolve(source), Choices(model_config, heads, part, classification_head)
    if exporter:
        checkpoint = model.load(format=source_as, choices=choices)
        exported = exporter.export(
            checkpoint, target, force=force, source=model.path, head=head or exporters.AUTO, quantize=quantize
        )
        if json:
            console.print_report(exported)
        else:
            console.print_table(_summary_of_export(exported))
        return
    settings: dict[str, Any] = {
        "source_as": source_as,
        "target_as": target_as,
        "dtype": dtype,
        "force": force,
        "keep_optimizer": keep_optimizer,
    } | ({"sentence": recipe} if recipe else {})
    reports = _convert(model, target, choices, **settings)
    if json:
        console.print_reports(reports)
        return
    for report in reports.values():
        console.print_table(_summary(report))


def _recipe(
    target_as: str | None,
    pooling: str | None,
    normalize: bool | None,
    max_length: int | None,
    source: Path,
    target: Path,
    *,
    both: bool,
) -> tuple[SentenceRecipe | None, str | None]:
    """What --to sentence-transformers writes beside the encoder, and the format of that."""
    if target_as != options.SENTENCE_TRANSFORMERS:
        from converters.errors import UnknownFormatError, did_you_mean

        if near := did_you_mean(target_as or "", [options.SENTENCE_TRANSFORMERS]):
            raise UnknownFormatError(f"{target_as!r} is no format here{near}")
        refuse_idle(f"without --to {options.SENTENCE_TRANSFORMERS}", "pooling", "normalize", "max_length")
        return None, target_as
    if both:
        raise typer.BadParameter(f"{target_as} holds one model", param_hint="--part")
    from converters.convert import DEFAULT_DIRECTORY_FORMAT
    from converters.sentence_writing import SentenceRecipe
    from converters.staging import check_directory_name

    recipe = SentenceRecipe(pooling, normalize, max_length)
    check_directory_name(target, "a Sentence-Transformers model")
    settings = _settings_of(source)
    if settings.get("teacher"):
        recipe = dataclasses.replace(recipe, why="as the run's --teacher had it trained")
    elif settings.get("pooling"):
        recipe = dataclasses.replace(recipe, why="which the run's head read")
    return recipe, DEFAULT_DIRECTORY_FORMAT


def _settings_of(source: Path) -> dict[str, Any]:
    """The settings of a run; none of what is no run."""
    from albert_cli.declared import load_toml
    from albert_cli.runs.files import RUN

    settings = load_toml(source / RUN).get("settings") if (source / RUN).is_file() else None
    return settings if isinstance(settings, dict) else {}


def _check_head(source: Path, format: str) -> None:
    """Refuse to leave out a head that reads what the formats' own heads do not (CheckpointError)."""
    from converters.errors import CheckpointError

    if _settings_of(source).get("pooling"):
        raise CheckpointError(
            source,
            f"its head reads the mean of the hidden states, for which {format} has no place",
            f"--to onnx keeps it, --to {options.SENTENCE_TRANSFORMERS} writes the encoder with its mean",
        )


def _check_options(exporter: Exporter | None, given: Mapping[str, Any], *, both: bool) -> None:
    """Refuse what an exporter cannot do."""
    if exporter is None:
        return
    if option := next((name for name, value in given.items() if value), None):
        raise typer.BadParameter(f"{exporter.NAME} holds the weights in float32 and nothing else", param_hint=option)
    if both:
        raise typer.BadParameter(f"{exporter.NAME} holds one model", param_hint="--part")


def _convert(model: Model, target: Path, choices: Choices, **settings: Any) -> dict[str, Report]:
    """Convert one model, or those of a checkpoint of several, or several into one checkpoint; reports by part."""
    from albert_cli.cards.conversion import page_of
    from converters import convert, parts
    from converters.errors import errors_name, renamed

    with errors_name(model.shown, model.path), console.progress_bytes() as progress:
        if choices.part == "both":
            reports = parts.convert_each(model.path, target, heads=choices.heads, progress=progress, **settings)
        elif not (settings["source_as"] or settings.get("sentence")) and (models := parts.found(model.path)):
            choices.check((), model.path, "a directory of two models")
            reports = {"": parts.join(models, target, progress=progress, **settings)}
        else:
            settings |= {"choices": choices, "progress": progress, "page": page_of(model, target)}
            reports = {"": convert.convert(model.path, target, **settings)}
    return {
        name: dataclasses.replace(report, source=renamed(report.source, model.path, model.shown))
        for name, report in reports.items()
    }


def _summary(report: Report) -> list[tuple[str, str]]:
    from converters.families import pretraining_heads
    from converters.proof import describe_not_finite
    from converters.roles import HEADS

    kept = len(report.digests)
    rows = [
        ("converted", f"{report.source} ({report.source_format}) -> {report.target} ({report.target_format})"),
        (
            "proved",
            f"{kept} tensors, {report.parameters:,} parameters, {report.bytes:,} bytes: read back, SHA-256 equal",
        ),
        ("tokenizer", report.tokenizer),
    ]
    if report.cast:
        error = f", largest error {report.cast.max_abs_error:.3g} in {report.cast.worst}" if report.cast.worst else ""
        rows.append(("cast", f"{report.cast.tensors} tensors to {report.cast.dtype}{error or ', no value changed'}"))
    if odd := describe_not_finite(report.not_finite):
        rows.append(("not finite", f"{odd}, kept as they are"))
    if report.global_step is not None:
        rows.append(("step", f"global_step {report.global_step} kept"))
    for reason, count in report.dropped.items():
        hint = " (--keep-optimizer carries them)" if reason == "optimizer slots" else ""
        rows.append(("dropped", f"{count} {reason}{hint}"))
    # Those of pre-training are what every model is expected to have: `absent` says which it lacks.
    if not pretraining_heads().issuperset(report.heads):
        rows.append(("heads", ", ".join(HEADS[head] for head in report.heads)))
    rows += [("absent", what) for what in report.absent]
    rows += [("note", note) for note in report.notes]
    return rows


def _summary_of_export(exported: Exported) -> list[tuple[str, str]]:
    target = f"{exported.target} ({exported.target_format})"
    shapes = ", ".join(" x ".join(map(str, shape)) for shape in exported.shapes)
    difference = f"largest difference {exported.max_abs_difference:.2g}, allowed {exported.allowed_difference:.2g}"
    rows = [
        ("exported", f"{exported.source} ({exported.source_format}) -> {target}"),
        ("holds", f"{exported.title}: {exported.parameters:,} parameters, {exported.bytes:,} bytes"),
        ("runs", f"{', '.join(exported.inputs)} -> {', '.join(exported.outputs)}"),
        ("checked", f"against PyTorch on inputs of {shapes}: {difference}"),
    ]
    if cost := exported.quantized:
        of = f"{cost.rows} texts" if cost.texts else f"{cost.rows} rows of any ids, for it has no tokenizer"
        rows.append((cost.kind, f"{cost.bytes_before:,} -> {cost.bytes:,} bytes; against float32 on {of}:"))
        for item in cost.outputs:
            cosines = f"cosine {item.mean_cosine:.4f} in the mean, {item.lowest_cosine:.4f} at worst"
            rows.append(("", f"{item.output}: {cosines}; largest difference {item.max_abs_difference:.2g}"))
    rows.append(("tokenizer", exported.tokenizer))
    rows += [("left out", what) for what in exported.left_out]
    rows += [("dropped", f"{count} {reason}") for reason, count in exported.dropped.items()]
    return rows + [("note", note) for note in exported.notes]
