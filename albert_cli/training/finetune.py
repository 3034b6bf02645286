"""Fine-tuning from settings to a finished run directory: the flow, in reading order."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from albert_cli.cards.origin import Origin
from albert_cli.machine import DeviceName
from albert_cli.model.task_heads import TaskModel, without_dropout
from albert_cli.registry import resolve
from albert_cli.runs import info as run_info
from albert_cli.runs import resumption
from albert_cli.runs.directory import prepare_run_directory
from albert_cli.runs.events import Counter, FineTuningPlan, Note, Report, silent
from albert_cli.runs.files import RUN, TENSORBOARD
from albert_cli.runs.processes import accelerator_for
from albert_cli.tasks.recipes import adapted
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training import checks, results, run_directory, weighing
from albert_cli.training.features import FeatureCache
from albert_cli.training.inference import infer_shared
from albert_cli.training.loop import FinetuneJob, train
from albert_cli.training.rows import Rows
from albert_cli.training.settings import Plan, Settings
from albert_cli.training.splits import Prepared, prepare, score, task_of
from albert_cli.training.tensorboard import with_tensorboard
from converters.checkpoint import Checkpoint


@dataclass(frozen=True)
class _Run:
    """What is known of a run when its training begins; it is built in `out`. `name`: of its directory when finished."""

    settings: Settings
    prepared: Prepared
    base: Checkpoint
    out: Path
    name: str
    origin: Origin
    accelerator: Accelerator
    report: Report


def finetune(
    settings: Settings,
    out: Path,
    *,
    resume: bool = False,
    force: bool = False,
    report: Report = silent,
    device: DeviceName = "auto",
    feature_cache: Path | None = None,
) -> dict[str, Any]:
    """Train a task and write the run directory; the summary of it (best step, metrics) is returned.

    `report` hears of everything logged. `resume` continues a run with the same settings, data and model; what is
    finished is left as it is. `feature_cache`: a directory that keeps the features of a frozen encoder for other runs.
    Raises AlbertError's children, each with one line.
    """
    accelerator = accelerator_for(settings.precision, device)
    checks.check_processes(settings, accelerator)
    report = report if accelerator.is_main_process else silent
    inputs = partial(checks.inputs_of, settings)
    with prepare_run_directory(
        accelerator, out, ours=run_directory.OURS, inputs=inputs, resume=resume, force=force
    ) as held:
        checks.check_libraries(settings)
        base = run_directory.base_checkpoint(settings.model)
        origin = Origin.of(resolve.resolve(settings.model))
        task = adapted(task_of(settings), base)
        checks.check_layers(settings, base)
        settings = checks.suited(settings, task, base)
        prepared = prepare(task, settings, Tokenizer.of_model(base))
        checks.check_whole_batches(prepared.problem, settings, accelerator)
        prepared = prepared.with_hash("model", run_info.digest_of(base))
        summary: dict[str, Any] | None = None
        if resume and (held.work / RUN).exists():
            checks.check_same(held.work, prepared.info)
            summary = run_info.read_summary(held.work, results.Summary)
            if summary is not None:
                report(Note(resumption.finished(out)))
        elif resume:
            report(Note(resumption.none_yet(out)))
        accelerator.wait_for_everyone()
        if summary is None:
            if not resume:
                held.begin()
            if settings.tensorboard and accelerator.is_main_process:
                report = with_tensorboard(report, held.work / TENSORBOARD)
            run = _Run(settings, prepared, base, held.work, out.name, origin, accelerator, report)
            summary = _train(run, resume=resume, feature_cache=feature_cache)
        return summary


def _train(run: _Run, *, resume: bool, feature_cache: Path | None) -> dict[str, Any]:
    started = time.perf_counter()  # the first epoch's time has the features of a frozen encoder in it
    settings, prepared, info = run.settings, run.prepared, run.prepared.info
    model, notes = run_directory.build(run.base, prepared.problem, info, head_dropout=prepared.task.recipe.head_dropout)
    plan = _plan(settings, prepared)
    _announce(run, model, plan, notes)
    if settings.freeze_encoder:
        model.encoder.requires_grad_(False)
        without_dropout(model.encoder)
    model.to(run.accelerator.device)
    rows: dict[str, Rows] = {name: split.rows for name, split in prepared.splits.items()}
    cache = None
    if settings.freeze_encoder and model.features is not None:
        cache = FeatureCache(feature_cache or run.out, model, model.features, run.accelerator, info, run.report)
        rows = {name: cache.rows(split) for name, split in prepared.splits.items()}
    job = FinetuneJob(
        model=model,
        problem=prepared.problem,
        rows=rows["train"].with_targets(info.scale.standard(rows["train"].targets)),
        plan=plan,
        settings=settings,
        directory=run.out,
        accelerator=run.accelerator,
        selection_metric=prepared.task.selection_metric,
        evaluate=partial(_evaluate, run, rows),
        save_best=partial(run_directory.save_model, model, run.base, run.out, prepared.problem, info),
        batch_metrics=prepared.problem.batch_metrics((prepared.task.selection_metric,), info),
        report=run.report,
        weighing=prepared.weighing,
        loss_unit=info.scale.spread**2,
        started=started,
    )
    train(job, resume=resume)
    if not run.accelerator.is_main_process:
        return {}
    device = str(run.accelerator.device)
    summary = results.finish(run.out, prepared, plan, run.report, device=device, called=run.name, origin=run.origin)
    if cache is not None and feature_cache is None:
        cache.remove()
    return summary


def _plan(settings: Settings, prepared: Prepared) -> Plan:
    train, dev = prepared.train, sum(len(part.rows) for part in prepared.dev.values())
    return Plan.of(settings, prepared.task.recipe, len(train.rows), dev, examples=len(train.examples))


def _announce(run: _Run, model: TaskModel, plan: Plan, notes: list[str]) -> None:
    """Write run.toml, and report what was noticed and what is going to happen."""
    prepared, problem, info = run.prepared, run.prepared.problem, run.prepared.info
    if run.accelerator.is_main_process:
        run.out.mkdir(parents=True, exist_ok=True)
        counts = {
            name: {"file": split.examples.where, "rows": len(split.examples), **problem.counts(split)}
            for name, split in prepared.splits.items()
        }
        counts["train"] |= {"label_weights": weights} if (weights := prepared.label_weights) else {}
        for name, same in prepared.in_train.items():
            counts[name]["in_train"] = same
        run_directory.write_info(run.out, problem, info, data=counts, plan=dataclasses.asdict(plan))
    run.accelerator.wait_for_everyone()
    for note in [*prepared.notes, *notes]:
        run.report(Note(note))
    taken = [problem.described(prepared.train, info, prepared.task)]
    if weights := prepared.label_weights:
        taken.append(weighing.described(weights))
    rows = ((same, len(prepared.dev[name].examples), name) for name, same in prepared.in_train.items())
    taken.append(", ".join(f"{same} of {every} {name} rows in train, too" for same, every, name in rows))
    if whose := prepared.task.recipe.model:
        taken.append(f"hyper-parameters of {whose}")
    dropout = _dropout(model, run.settings)
    run.report(FineTuningPlan(plan.steps, plan.warmup_steps, len(prepared.train.rows), dropout, "; ".join(taken)))


def _dropout(model: TaskModel, settings: Settings) -> str:
    """The encoder's dropout in training, as the plan line shows it; nothing where there is none."""
    hidden, attention = model.config.hidden_dropout_prob, model.config.attention_probs_dropout_prob
    if settings.freeze_encoder or not (hidden or attention):
        return ""
    return f"{hidden:g}" if hidden == attention else f"{hidden:g} ({attention:g} of attention)"


def _evaluate(run: _Run, rows: dict[str, Rows], model: nn.Module) -> dict[str, float]:
    """Loss and metrics of every development split; those of further splits with its name before.

    A metric of a part of the data that a split lacks, as RACE's middle, is left out.
    """
    prepared, accelerator = run.prepared, run.accelerator
    found: dict[str, float] = {}
    for name, split in prepared.dev.items():
        tick = Counter(run.report, "evaluating", "rows", -(-len(split.rows) // accelerator.num_processes))
        outputs = infer_shared(accelerator, model, rows[name], tick=tick)
        in_units = [prepared.info.scale.labels(output) for output in outputs]
        values = score(prepared.problem, split, in_units, prepared.info, prepared.task.metrics)
        values = {key: values[key] for key in ("loss", *prepared.task.metrics) if key in values}
        found |= {f"{name.removeprefix('dev').lstrip('_')}_{key}".lstrip("_"): value for key, value in values.items()}
    return found
