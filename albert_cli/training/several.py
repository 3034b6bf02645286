"""Several runs in one directory: one task with several seeds or learning rates, or several tasks."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from albert_cli.machine import DeviceName
from albert_cli.runs import info as run_info
from albert_cli.runs.claim import Inputs
from albert_cli.runs.curves import draws
from albert_cli.runs.directory import prepare_run_directory
from albert_cli.runs.events import Report, RunBegun, silent
from albert_cli.runs.files import CURVES
from albert_cli.runs.processes import accelerator_for, on_main
from albert_cli.tasks.recipes import adapted
from albert_cli.tasks.task import Task
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training import checks, run_directory
from albert_cli.training.finetune import finetune
from albert_cli.training.metrics import SMALLER_IS_BETTER
from albert_cli.training.settings import Settings
from albert_cli.training.splits import prepare, task_of


def names_of(seeds: Sequence[int], rates: Sequence[float]) -> list[str]:
    """The directories of several runs of one task, in the order of `members_of`; none for a single run."""
    of_seeds, of_rates = [f"seed-{seed}" for seed in seeds], [f"lr-{rate:g}" for rate in rates]
    return [f"{rate}-{seed}" for rate in of_rates for seed in of_seeds] or of_rates or of_seeds


def members_of(settings: Settings, seeds: Sequence[int], rates: Sequence[float]) -> dict[str, Settings]:
    """The settings of each run by its directory: every seed with every learning rate."""
    each = [
        dataclasses.replace(settings, learning_rate=rate, seed=seed)
        for rate in rates or [settings.learning_rate]
        for seed in seeds or [settings.seed]
    ]
    return dict(zip(names_of(seeds, rates), each, strict=True))


def finetune_several(
    settings: Settings,
    out: Path,
    *,
    seeds: Sequence[int] = (),
    rates: Sequence[float] = (),
    resume: bool = False,
    force: bool = False,
    report: Report = silent,
    device: DeviceName = "auto",
) -> dict[str, Any]:
    """Train with each seed and each learning rate, each into a directory of its own in `out` (`names_of`).

    Returns mean and spread (standard deviation) of every metric over the seeds; with `rates`, for each of them, and
    which is the best one.
    """
    from albert_cli.training import report as pages

    members = members_of(settings, seeds, rates)
    with several(members, out, resume=resume, force=force, device=device) as work:
        summaries = []
        for name, item in members.items():
            report(_begun(item, seeds, rates))
            cache = work if settings.freeze_encoder else None
            summaries.append(
                finetune(item, work / name, resume=resume, report=report, device=device, feature_cache=cache)
            )
        if not all(summaries):
            return {}  # a further process of a distributed run
        seeds = list(seeds) or [settings.seed]
        if rates:
            together = _swept(task_of(settings), seeds, rates, summaries)
        else:
            together = {"task": settings.task, "seeds": seeds, "metrics": _over_seeds(summaries), "runs": summaries}
        run_info.write_summary(work, together)
        if draws():
            from albert_cli.training import figures

            histories = {name.replace("-", " ", 1): run_directory.read_history(work / name) for name in members}
            figures.curves(histories, work / CURVES)
        (pages.write_sweep if rates else pages.write_seeds)(work, together, list(members))
        for path in work.glob("features-*.safetensors"):
            path.unlink()
        return together


def _begun(item: Settings, seeds: Sequence[int], rates: Sequence[float]) -> RunBegun:
    if not rates:
        return RunBegun("seed", item.seed)
    return RunBegun("lr", f"{item.learning_rate:g}" + (f", seed {item.seed}" if seeds else ""))


def _over_seeds(summaries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and spread of each metric that all runs have."""
    common = [name for name in summaries[0]["dev"] if all(name in item["dev"] for item in summaries)]
    values = {name: [item["dev"][name] for item in summaries] for name in common}
    return {
        name: {"mean": statistics.fmean(each), "spread": statistics.stdev(each) if len(each) > 1 else 0.0}
        for name, each in values.items()
    }


def _swept(
    task: Task, seeds: Sequence[int], rates: Sequence[float], summaries: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What came of each learning rate: the best has the best mean of the metric that chooses a model; of two that are
    equal, the lower mean loss."""
    sweep: list[dict[str, Any]] = []
    for number, rate in enumerate(rates):
        runs = summaries[number * len(seeds) : (number + 1) * len(seeds)]
        sweep.append({"learning_rate": rate, "metrics": _over_seeds(runs), "runs": list(runs)})
    chosen_by = task.selection_metric
    sign = -1 if chosen_by in SMALLER_IS_BETTER else 1
    best = max(sweep, key=lambda one: (sign * one["metrics"][chosen_by]["mean"], -one["metrics"]["loss"]["mean"]))
    return {
        "task": task.name.lower(),
        "selection_metric": chosen_by,
        "seeds": list(seeds),
        "best_learning_rate": best["learning_rate"],
        "sweep": sweep,
    }


@contextlib.contextmanager
def several(
    members: Mapping[str, Settings], out: Path, *, resume: bool, force: bool, device: DeviceName = "auto"
) -> Iterator[Path]:
    """Hold a directory of several runs, `members` by the name of each; where they are built is given.

    The data and models of all of them are checked before the first is trained.
    """
    every = list(members.values())
    accelerator = accelerator_for(every[0].precision, device)

    def inputs() -> Inputs:
        each = [checks.inputs_of(item) for item in every]
        return Inputs([path for one in each for path in one.models], [path for one in each for path in one.data])

    def check() -> None:
        for item in {dataclasses.replace(item, seed=0, learning_rate=1.0): item for item in every}.values():
            checks.check_libraries(item)
            checks.check_processes(item, accelerator)
            base = run_directory.base_checkpoint(item.model)
            task = adapted(task_of(item), base)
            checks.check_layers(item, base)
            prepared = prepare(task, checks.suited(item, task, base), Tokenizer.of_model(base))
            checks.check_whole_batches(prepared.problem, item, accelerator)

    with prepare_run_directory(
        accelerator,
        out,
        ours=run_directory.OURS,
        inputs=inputs,
        resume=resume,
        force=force,
        members=list(members),
    ) as held:
        on_main(accelerator, check)
        if not resume:
            held.begin()
        yield held.work
