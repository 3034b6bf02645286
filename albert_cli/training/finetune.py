"""Fine-tuning from settings to a finished run directory: the flow, in reading order."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray

from albert_cli.errors import TrainingError
from albert_cli.memory import out_of_memory
from albert_cli.model.task_heads import Classifier, without_dropout
from albert_cli.registry import resolve
from albert_cli.runs import info as run_info
from albert_cli.runs.claim import Inputs
from albert_cli.runs.directory import prepare_run_directory
from albert_cli.runs.events import (
    Counter,
    Ended,
    Evaluated,
    Event,
    FineTuningPlan,
    Note,
    Remark,
    Report,
    RunBegun,
    Trained,
    records_of,
    silent,
)
from albert_cli.runs.files import CURVES, RUN, TENSORBOARD
from albert_cli.runs.log import read_log
from albert_cli.runs.processes import accelerator_for, on_main
from albert_cli.tasks import named
from albert_cli.tasks.examples import Examples, Questions
from albert_cli.tasks.task import Task
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training import data, labels, questions, reading, run_directory
from albert_cli.training.inference import Kind, Rows, infer, mean_loss
from albert_cli.training.loop import Job, train
from albert_cli.training.metrics import compute
from albert_cli.training.questions import Windows
from albert_cli.training.run_directory import RunInfo
from albert_cli.training.scale import Scale
from albert_cli.training.settings import PATHS, Plan, Settings
from converters.checkpoint import Checkpoint
from converters.libraries import require_library
from converters.staging import atomic_write


@dataclass(frozen=True)
class Split:
    """One data set as read and as the model takes it; `cut` for questions."""

    examples: Examples | Questions
    rows: Rows
    cut: Windows | None = None


@dataclass(frozen=True)
class Prepared:
    """Everything that is known before training: the kind of problem, the rows, what was noticed on the way."""

    task: Task
    info: RunInfo
    train: Split
    dev: dict[str, Split]
    notes: list[str]


def finetune(
    settings: Settings,
    out: Path,
    *,
    resume: bool = False,
    force: bool = False,
    report: Report = silent,
    feature_cache: Path | None = None,
) -> dict[str, Any]:
    """Train a task and write the run directory; the summary of it (best step, metrics) is returned.

    `report` hears of everything logged. `resume` goes on where a run with the same settings, data and model stopped;
    what is finished is left as it is. Raises AlbertError's children, each with one line.
    """
    accelerator = accelerator_for(settings.precision)
    if settings.hidden and accelerator.num_processes > 1:
        raise TrainingError(
            f"an mlp head has batch norm, whose statistics are those of the rows computed together: "
            f"{accelerator.num_processes} processes would train another model than one; start one process"
        )
    if not accelerator.is_main_process:
        report = silent
    given = settings
    with prepare_run_directory(
        accelerator, out, ours=run_directory.OURS, inputs=lambda: inputs_of(given), resume=resume, force=force
    ) as held:
        work = held.work
        _check_libraries(settings, accelerator)
        base = run_directory.base_checkpoint(settings.model)
        tokenizer = Tokenizer.of_model(base)
        settings = _fit(settings, base)
        prepared = prepare(settings, tokenizer)
        info = dataclasses.replace(prepared.info, hashes=prepared.info.hashes | {"model": run_info.digest_of(base)})
        summary: dict[str, Any] | None = None
        if resume and (work / RUN).exists():
            _check_same(work, info)
            summary = run_info.read_summary(work)
        accelerator.wait_for_everyone()
        if summary is None:
            if not resume:
                held.begin()
            if settings.tensorboard and accelerator.is_main_process:
                report = _with_tensorboard(report, work / TENSORBOARD)
            summary = _train(
                accelerator, base, prepared, info, settings, work, resume=resume, report=report, cache=feature_cache
            )
        return summary


def _train(
    accelerator: Accelerator,
    base: Checkpoint,
    prepared: Prepared,
    info: RunInfo,
    settings: Settings,
    out: Path,
    *,
    resume: bool,
    report: Report,
    cache: Path | None,
) -> dict[str, Any]:
    started = time.perf_counter()  # the first epoch's time has the features of a frozen encoder in it
    recipe = prepared.task.recipe
    model, notes = run_directory.build(base, info, seed=settings.seed, head_dropout=recipe.head_dropout)
    plan = Plan.of(
        settings,
        recipe,
        len(prepared.train.rows),
        sum(len(part.rows) for part in prepared.dev.values()),
        examples=len(prepared.train.examples),
    )
    if accelerator.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        counts = {name: _facts(part) for name, part in {"train": prepared.train, **prepared.dev}.items()}
        run_directory.write_info(out, info, data=counts, plan=dataclasses.asdict(plan))
    accelerator.wait_for_everyone()
    for note in [*prepared.notes, *notes]:
        report(Note(note))
    shown = len(prepared.train.rows), _dropout(model, settings), _taken(prepared)
    report(FineTuningPlan(plan.steps, plan.warmup_steps, *shown))
    if settings.freeze_encoder:
        model.encoder.requires_grad_(False)
        without_dropout(model.encoder)

    job = Job(
        model=model.to(accelerator.device),
        kind=info.kind,
        rows=_for_training(prepared),
        plan=plan,
        settings=settings,
        directory=out,
        accelerator=accelerator,
        best=prepared.task.selection_metric,
        evaluate=lambda trained: _evaluate(trained, prepared, accelerator, report),
        save_best=lambda: run_directory.save_model(model, base, out, info.scale),
        train_metrics=None if info.kind == "answers" else _train_metrics(prepared),
        report=report,
        loss_unit=info.scale.spread**2,
        started=started,
    )
    features = None
    if settings.freeze_encoder and isinstance(model, Classifier):
        features = _Features(cache or out, model, accelerator, info, report)
        prepared = dataclasses.replace(
            prepared,
            train=features(prepared.train),
            dev={name: features(part) for name, part in prepared.dev.items()},
        )
        job.rows = _for_training(prepared)
    train(job, resume=resume)
    summary: dict[str, Any] = {}
    if accelerator.is_main_process:
        summary = _finish(out, prepared, plan, report)
        if features is not None and cache is None:
            features.remove()
    return summary


def finetune_seeds(
    settings: Settings,
    seeds: Sequence[int],
    out: Path,
    *,
    resume: bool = False,
    force: bool = False,
    report: Report = silent,
) -> dict[str, Any]:
    """Train with each seed into `out/seed-N`; mean and spread (standard deviation) of every metric over the seeds."""
    from albert_cli.training import figures
    from albert_cli.training import report as pages

    wanted = {f"seed-{seed}": dataclasses.replace(settings, seed=seed) for seed in seeds}
    with several(wanted, out, resume=resume, force=force) as work:
        summaries = []
        for name, item in wanted.items():
            report(RunBegun("seed", item.seed))
            cache = work if settings.freeze_encoder else None
            summaries.append(finetune(item, work / name, resume=resume, report=report, feature_cache=cache))
        if not all(summaries):
            return {}  # a further process of a distributed run
        metrics = {
            name: {
                "mean": statistics.fmean(item["dev"][name] for item in summaries),
                "spread": statistics.stdev(item["dev"][name] for item in summaries) if len(summaries) > 1 else 0.0,
            }
            for name in summaries[0]["dev"]
        }
        together = {"task": settings.task, "seeds": list(seeds), "metrics": metrics, "runs": summaries}
        runs = {f"seed {seed}": work / f"seed-{seed}" for seed in seeds}
        run_info.write_summary(work, together)
        figures.curves(runs, work / CURVES)
        pages.write_seeds(work, together)
        for path in work.glob("features-*.safetensors"):
            path.unlink()
        return together


@contextlib.contextmanager
def several(wanted: Mapping[str, Settings], out: Path, *, resume: bool, force: bool) -> Iterator[Path]:
    """Hold a directory of several runs, `wanted` by the name of each; where they are built is given.

    The data and models of all of them are checked before the first is trained.
    """
    every = list(wanted.values())
    accelerator = accelerator_for(every[0].precision)

    def inputs() -> Inputs:
        each = [inputs_of(item) for item in every]
        return Inputs([path for one in each for path in one.models], [path for one in each for path in one.data])

    def check() -> None:
        for item in {dataclasses.replace(item, seed=0): item for item in every}.values():
            _check_libraries(item, accelerator)
            base = run_directory.base_checkpoint(item.model)
            tokenizer = Tokenizer.of_model(base)
            prepare(_fit(item, base), tokenizer)

    with prepare_run_directory(
        accelerator,
        out,
        ours=run_directory.OURS,
        inputs=inputs,
        resume=resume,
        force=force,
        members=list(wanted),
    ) as held:
        on_main(accelerator, check)
        if not resume:
            held.begin()
        yield held.work


def prepare(settings: Settings, tokenizer: Tokenizer) -> Prepared:
    """Read and tokenize the training and development data; every fault of it is told before anything is computed."""
    task = named(settings.task)
    if settings.regression and task.name != "csv":
        raise TrainingError(f"--regression is for csv; {task.name} is a {task.problem} task")
    task = of_kind(task, "regression" if settings.regression else task.problem)
    read = reading.read_rows(task, settings)
    task = task.fitted(read.whole)
    names = task.labels
    if task.problem == "classification" and not names:
        assert isinstance(read.whole, Examples)
        names = data.found_labels(read.whole)
        read.notes.extend(data.alike_labels(read.whole) + data.doubtful_labels(read.whole))
    if settings.skip_bad:
        read.dev = {name: reading.usable(part, task, names) for name, part in read.dev.items()}
    for unlabelled in task.submission:
        task.read(settings.sources, unlabelled)  # a fault of a test file is told before training, too
    info = RunInfo(
        task=task.name.lower(),
        kind=task.problem,
        labels=names if task.problem == "classification" else (),
        max_length=settings.max_length,
        hidden=settings.hidden or (),
        no_answer=isinstance(read.train, Questions) and read.train.unanswerable > 0,
        settings=dataclasses.asdict(settings),
        hashes={"train": read.whole.digest} | {name: part.digest for name, part in read.dev.items()},
    )
    targets = reading.targets({"train": read.train, **read.dev}, info, task)
    hint = "raise --limit-train" if len(read.train) < len(read.whole) else ""
    if task.problem == "classification":
        data.check_classes(targets["train"], names, read.train.where, hint)
    elif task.problem == "regression" and task.value_range is None:
        info = dataclasses.replace(info, scale=Scale.of(targets["train"]))
        read.notes.extend(reading.scale_notes(targets["train"], read.train.where))
    train = split_of(read.train, info, task, tokenizer)
    dev = {name: split_of(part, info, task, tokenizer) for name, part in read.dev.items()}
    for name, split in {"train": train, **dev}.items():
        notes = _notes(name, split, settings.max_length)
        read.notes.extend(note for note in notes if note not in read.notes)
    return Prepared(task, info, train, dev, read.notes)


def split_of(
    examples: Examples | Questions,
    info: RunInfo,
    task: Task | None,
    tokenizer: Tokenizer,
    *,
    labelled: bool = True,
) -> Split:
    """Tokenize rows, and turn their labels into targets where they are wanted."""
    if isinstance(examples, Questions):
        cut = questions.windows(examples.items, tokenizer, info.max_length)
        return Split(examples, Rows(cut.tokens, torch.from_numpy(cut.spans) if labelled else None), cut)
    targets = torch.from_numpy(reading.targets_of(examples, info, task)) if labelled else None
    tokens = tokenizer.encode_batch(examples.texts, examples.pairs, max_length=info.max_length)
    return Split(examples, Rows(tokens, targets))


def of_kind(task: Task, kind: Kind) -> Task:
    """The task as it is for a kind of problem: your own rows may be a regression."""
    return task.posed_as(kind)


def score(split: Split, outputs: list[NDArray[Any]], info: RunInfo, task: Task) -> dict[str, float]:
    """The task's metrics and the mean loss of outputs, by row; NaN, all of them, where an output is not finite."""
    assert split.rows.targets is not None
    if not all(np.isfinite(output).all() for output in outputs):
        return dict.fromkeys(("loss", *task.metrics), math.nan)
    found: dict[str, float] = {"loss": mean_loss(info.kind, outputs, split.rows.targets)}
    if isinstance(split.examples, Questions):
        assert split.cut is not None
        given = questions.answers(split.examples.items, split.cut, outputs, no_answer=info.no_answer)
        exact, f1 = questions.scores(split.examples.items, [item.text for item in given])
        return found | {"exact": statistics.fmean(exact), "f1": statistics.fmean(f1)}
    return found | compute(task.metrics, split.rows.targets.numpy(), decide(np.stack(outputs), info))


def decide(outputs: NDArray[Any], info: RunInfo) -> NDArray[Any]:
    """Classes, the values of a regression, or of each label whether it is one, from outputs (rows, labels)."""
    if info.kind == "regression":
        values: NDArray[Any] = outputs[:, 0]
        return values
    if info.kind == "labels":
        return outputs > 0  # a probability above a half
    classes: NDArray[np.int64] = outputs.argmax(axis=1)
    return classes


def inputs_of(settings: Settings) -> Inputs:
    """What a run reads from this disk."""
    given = (settings.data, settings.train, settings.dev, settings.test)
    return Inputs([resolve.resolve(settings.model).path], [Path(path) for path in given if path])


def _check_libraries(settings: Settings, accelerator: Accelerator) -> None:
    """Refuse what lacks a library, or cannot be shared by processes, before any work is done."""
    require_library("matplotlib", "drawing a run's curves")
    require_library("sklearn", "measuring a run")
    if settings.tensorboard:
        require_library("tensorboard", "--tensorboard")
    if settings.hidden and accelerator.num_processes > 1:
        raise TrainingError(
            "an mlp head has batch norm, whose figures are those of a whole batch: train it in one process"
        )


def _fit(settings: Settings, base: Checkpoint) -> Settings:
    """Settings within what the model can do."""
    positions = base.config.max_tokens
    task = named(settings.task)
    if settings.max_length > positions:
        if settings.max_length not in {recipe.max_length for recipe in (task.recipe, task.no_answer_recipe) if recipe}:
            raise TrainingError(f"--max-length is {settings.max_length}, but the model has {positions} positions")
        return dataclasses.replace(settings, max_length=positions)
    return settings


def _check_same(out: Path, info: RunInfo) -> None:
    """Refuse to resume with other settings, data or model than the run was started with."""
    before = run_directory.read_info(out)
    now = {key: value for key, value in info.settings.items() if value is not None}
    scales = [f"the scale of the labels was {before.scale}, now {info.scale}"] if before.scale != info.scale else []
    run_info.check_same(
        out, settings=(before.settings, now), hashes=(before.hashes, info.hashes), paths=PATHS, changed=scales
    )


def _evaluate(model: Any, prepared: Prepared, accelerator: Accelerator, report: Report) -> dict[str, float]:
    found: dict[str, float] = {}
    share = (accelerator.process_index, accelerator.num_processes)
    for name, split in prepared.dev.items():
        rows = -(-len(split.rows) // accelerator.num_processes)
        tick = Counter(report, "evaluating", "rows", rows)
        outputs = infer(model, split.rows, device=accelerator.device, share=share, tick=tick)
        if accelerator.num_processes > 1:
            outputs = dict(gather_object(list(outputs.items())))
        in_units = [prepared.info.scale.labels(outputs[row]) for row in range(len(split.rows))]
        values = score(split, in_units, prepared.info, prepared.task)
        found |= {f"{name.removeprefix('dev').lstrip('_')}_{key}".lstrip("_"): value for key, value in values.items()}
    return found


def _for_training(prepared: Prepared) -> Rows:
    rows, info = prepared.train.rows, prepared.info
    return info.scale.standard(rows) if info.kind == "regression" else rows


def _train_metrics(prepared: Prepared) -> Callable[[NDArray[np.float32], NDArray[Any]], dict[str, float]]:
    """The metric that chooses the model, of training rows by their outputs and (standard) targets."""
    task, info = prepared.task, prepared.info
    if info.kind == "regression":
        scale = info.scale
        return lambda logits, wanted: compute(
            (task.selection_metric,), scale.labels(wanted), decide(scale.labels(logits), info)
        )
    return lambda logits, wanted: compute((task.selection_metric,), wanted, decide(logits, info))


class _Features:
    """The pooled outputs of a frozen encoder, computed once and kept in a file while training may be resumed."""

    def __init__(
        self, directory: Path, model: Classifier, accelerator: Accelerator, info: RunInfo, report: Report
    ) -> None:
        self.directory, self.model, self.accelerator = directory, model, accelerator
        self.info, self.report = info, report
        self.written: list[Path] = []

    def __call__(self, split: Split) -> Split:
        from safetensors.torch import load_file, save_file

        path = self.directory / f"features-{self._fingerprint(split)}.safetensors"
        self.written.append(path)
        if path.exists():
            features = load_file(path)["features"]
        else:
            features = self._compute(split)
            if self.accelerator.is_main_process:
                with atomic_write(path, force=True, ours=None) as beside:
                    save_file({"features": features}, beside)
            self.accelerator.wait_for_everyone()
        return dataclasses.replace(split, rows=Rows(None, split.rows.targets, features))

    def remove(self) -> None:
        for path in self.written:
            path.unlink(missing_ok=True)

    def _compute(self, split: Split) -> torch.Tensor:
        accelerator, rows = self.accelerator, len(split.rows)
        tick = Counter(self.report, "features", "rows", rows)
        share = (accelerator.process_index, accelerator.num_processes)
        limit = self.info.max_length
        message = f"out of memory while computing the features of the frozen encoder; lower --max-length ({limit})"
        with accelerator.autocast(), out_of_memory(lambda: message, TrainingError):
            outputs = infer(
                self.model, split.rows, device=accelerator.device, forward=self.model.features, share=share, tick=tick
            )
        if accelerator.num_processes > 1:
            outputs = dict(gather_object(list(outputs.items())))
        return torch.from_numpy(np.stack([outputs[row] for row in range(rows)]))

    def _fingerprint(self, split: Split) -> str:
        """Of all that the features depend on: the model, the tokens, the precision."""
        assert split.rows.tokens is not None
        sha = hashlib.sha256(self.info.hashes["model"].encode() + self.accelerator.mixed_precision.encode())
        for array in (split.rows.tokens.ids, split.rows.tokens.token_type_ids, split.rows.tokens.starts):
            sha.update(array.tobytes())
        return sha.hexdigest()[:16]


def _finish(out: Path, prepared: Prepared, plan: Plan, report: Report) -> dict[str, Any]:
    """With the best model: predictions of dev and test, figures, report and summary."""
    from albert_cli.training import figures, prediction
    from albert_cli.training import report as pages

    records = read_log(out)
    evaluations = records_of(records, Evaluated)
    best = [record for record in evaluations if record["best"]][-1]
    loaded = run_directory.load_run(out)
    confusion = None
    for name, split in prepared.dev.items():
        whole = split_of(split.examples, prepared.info, prepared.task, loaded.tokenizer)
        predictions = prediction.run_on(loaded, whole, tick=Counter(report, "predicting", "rows", len(whole.rows)))
        if note := prediction.sameness(name, whole, predictions, prepared.info):
            prepared.notes.append(note)
            report(Remark(note))
        if name == "dev":
            confusion = predictions
        prediction.write_dev(loaded, whole, predictions, out, name)
    prediction.write_submissions(loaded, prepared.task, out)
    hidden = ("event", "best", "early_stop", "step", "epoch")
    dev = {key: value for key, value in best.items() if key not in hidden and not key.startswith("train_")}
    last = evaluations[-1]
    end = records[-1]
    summary = {
        "task": prepared.info.task,
        "best_step": best["step"],
        "steps": last["step"],
        "planned_steps": plan.steps,
        "stopped_early": bool(last.get("early_stop", False)),
        "dev": dev,
        "last_weights_sha256": end["last_weights_sha256"],
    }
    figures.curves({out.name: out}, out / CURVES)
    assert confusion is not None
    figures.confusion(loaded.info, prepared.dev["dev"], confusion, out)
    pages.write(out, prepared, summary, records)
    run_info.write_summary(out, summary)
    return summary


def _with_tensorboard(report: Report, directory: Path) -> Report:
    """A listener that writes every figure for TensorBoard as well."""
    from torch.utils.tensorboard import SummaryWriter

    writer: list[SummaryWriter] = []

    def on_event(event: Event) -> None:
        if isinstance(event, (Trained, Evaluated)):
            if not writer:  # made late, so that what a killed run wrote after this step is left out
                writer.append(SummaryWriter(str(directory), purge_step=event.step))
            for name, value in event.figures.items():
                writer[0].add_scalar(f"{event.NAME}/{name}", value, event.step)
        elif isinstance(event, Ended) and writer:
            writer[0].close()
        report(event)

    return on_event


def _taken(prepared: Prepared) -> str:
    """What the training data was taken for, in a few words."""
    examples, targets, info = prepared.train.examples, prepared.train.rows.targets, prepared.info
    if isinstance(examples, Questions):
        recipe = f", recipe of {prepared.task.recipe.name}"
        return f"{len(examples)} questions, {examples.unanswerable} of them without an answer{recipe}"
    assert targets is not None
    if info.kind == "regression":
        low, high = float(targets.min()), float(targets.max())
        spread = float(targets.std(correction=0))
        return f"labels: {low:g} to {high:g}, mean {float(targets.mean()):g}, standard deviation {spread:g}"
    return labels.described(info.labels, torch.bincount(targets, minlength=len(info.labels)).tolist())


def _dropout(model: run_directory.Model, settings: Settings) -> str:
    """The encoder's dropout in training, as the plan line tells it; nothing where there is none."""
    hidden, attention = model.config.hidden_dropout_prob, model.config.attention_probs_dropout_prob
    if settings.freeze_encoder or not (hidden or attention):
        return ""
    return f"{hidden:g}" if hidden == attention else f"{hidden:g} ({attention:g} of attention)"


def _facts(split: Split) -> Mapping[str, Any]:
    facts: dict[str, Any] = {"file": split.examples.where, "rows": len(split.examples)}
    if split.cut is not None:
        facts["windows"] = len(split.rows)
    return facts


def _notes(name: str, split: Split, max_length: int) -> list[str]:
    notes = []
    assert split.rows.tokens is not None
    cut = int((split.rows.tokens.truncated > 0).sum())
    if cut:
        notes.append(f"{name}: {cut} of {len(split.rows)} rows are cut to {max_length} tokens")
    if left_out := split.examples.left_out_note():
        notes.append(left_out)
    return notes
