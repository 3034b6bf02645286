"""What `albert finetune` does with its options: one task, several seeds, or all of GLUE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from albert_cli import tasks
from albert_cli.errors import DataError, NoDataError, RunError
from albert_cli.machine import DeviceName
from albert_cli.registry import builtin
from albert_cli.runs.claim import check_free, current
from albert_cli.runs.events import Report, RunBegun
from albert_cli.runs.files import CURVES, RUN
from albert_cli.tasks.recipes import adapted
from albert_cli.tasks.task import Sources
from albert_cli.training import settings as settings_module
from albert_cli.training import submission as submissions
from albert_cli.training.finetune import finetune
from albert_cli.training.run_directory import OURS, base_checkpoint, read_history
from albert_cli.training.settings import Settings
from albert_cli.training.several import finetune_several, names_of, several
from converters.checkpoint import Checkpoint
from converters.libraries import require_library

GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")


def one(
    task: str,
    given: Mapping[str, Any],
    out: Path,
    *,
    config: Path | None,
    seeds: Sequence[int],
    rates: Sequence[float] = (),
    compare: Sequence[Path],
    resume: bool,
    force: bool,
    report: Report,
    device: DeviceName = "auto",
) -> dict[str, Any]:
    """Train one task; with `seeds` or `rates` of learning, once for each. `compare`: runs to draw over the new one's
    curves."""
    members = names_of(seeds, rates)
    if members and (out / RUN).exists():
        raise RunError(f"{out}: holds a run of one seed; name another directory with --out")
    check_free(out, OURS, resume=resume, force=force, members=members)
    place = current(out) if resume else out
    first = place / members[0] if members else place
    if rates:
        given = {**given, "learning_rate": rates[0]}
    wanted = _settings(task, given, first, config=config, resume=resume)
    how: dict[str, Any] = {"resume": resume, "force": force, "report": report, "device": device}
    if members:
        return finetune_several(wanted, out, seeds=seeds, rates=rates, **how)
    if compare:
        require_library("matplotlib", "--compare")
    for path in compare:
        read_history(path)
    summary = finetune(wanted, out, **how)
    if summary and compare:
        from albert_cli.training import figures  # with matplotlib, once the training is over

        figures.curves({path.name: read_history(path) for path in [out, *compare]}, out / CURVES)
    return summary


def glue(
    given: Mapping[str, Any],
    out: Path,
    *,
    config: Path | None,
    submission: Path | None,
    resume: bool,
    force: bool,
    report: Report,
    device: DeviceName = "auto",
) -> dict[str, Any]:
    """Train every task of GLUE into `out/TASK`; with `submission`, predict the test files and pack them."""
    check_free(out, OURS, resume=resume, force=force, members=GLUE)
    if submission is not None:
        submissions.check(submission, force=force)
    place = current(out) if resume else out
    bases = cache(base_checkpoint)
    wanted = {name: _settings(name, given, place / name, config=config, resume=resume, bases=bases) for name in GLUE}
    if submission is not None:
        absent = [
            f"{split} of {tasks.named(name).name}"
            for name, item in wanted.items()
            for split in tasks.named(name).submission
            if not _has(name, item.sources, split)
        ]
        if absent:
            raise DataError(f"a submission needs every test file; missing: {', '.join(absent)}")
    with several(wanted, out, resume=resume, force=force, device=device) as work:
        summaries = {}
        for name, item in wanted.items():
            report(RunBegun("task", name))
            summaries[name] = finetune(item, work / name, resume=resume, report=report, device=device)
    if not all(summaries.values()):
        return {}  # a further process of a distributed run
    notes: list[str] = []
    if submission is not None:
        files = {file: out / name / file for name in GLUE for file in tasks.named(name).submission.values()}
        notes = submissions.pack(files, submission, force=force)
    return {"tasks": summaries, "submission": submission and str(submission), "notes": notes}


def _settings(
    task: str,
    given: Mapping[str, Any],
    out: Path,
    *,
    config: Path | None,
    resume: bool,
    bases: Callable[[str], Checkpoint] = base_checkpoint,
) -> Settings:
    """The command line before the file, the file before the resumed run, that before the recipe for the model."""
    resumed = resume and (out / RUN).exists()
    layers = [given]
    if config is not None:
        layers.append({key: value for key, value in settings_module.read_toml(config).items() if key != "task"})
    if resumed:
        layers.append(
            {key: value for key, value in settings_module.read_toml(out / RUN, of_run=True).items() if key != "task"}
        )
    model = next((layer["model"] for layer in layers if layer.get("model")), None)
    layers.insert(0, {"model": model or builtin.default()})
    facts = tasks.named(task)
    wanted = settings_module.resolve(facts, *layers, resumed=resumed)
    if wanted.task == "csv" and not (wanted.data or wanted.train):
        if resume:
            raise NoDataError(
                f"{out}: contains no run to resume, and csv needs --data DIR or --train FILE for a new one"
            )
        raise NoDataError("csv has no training data; name it with --data DIR or --train FILE")
    facts = adapted(facts, bases(wanted.model))
    if facts.no_answer_recipe is not None and (train := facts.read(wanted.sources, "train")) is not None:
        return settings_module.resolve(facts, *layers, recipe=facts.recipe_for(train), resumed=resumed)
    return settings_module.resolve(facts, *layers, resumed=resumed)


def _has(task: str, sources: Sources, split: str) -> bool:
    return tasks.named(task).read(sources, split) is not None
