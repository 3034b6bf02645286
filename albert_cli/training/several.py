"""Several runs in one directory: one task with several seeds, or several tasks."""

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
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training import checks, run_directory
from albert_cli.training.finetune import finetune
from albert_cli.training.settings import Settings
from albert_cli.training.splits import prepare, task_of


def finetune_seeds(
    settings: Settings,
    seeds: Sequence[int],
    out: Path,
    *,
    resume: bool = False,
    force: bool = False,
    report: Report = silent,
    device: DeviceName = "auto",
) -> dict[str, Any]:
    """Train with each seed into `out/seed-N`; mean and spread (standard deviation) of every metric over the seeds."""
    from albert_cli.training import report as pages

    members = {f"seed-{seed}": dataclasses.replace(settings, seed=seed) for seed in seeds}
    with several(members, out, resume=resume, force=force, device=device) as work:
        summaries = []
        for name, item in members.items():
            report(RunBegun("seed", item.seed))
            cache = work if settings.freeze_encoder else None
            summaries.append(
                finetune(item, work / name, resume=resume, report=report, device=device, feature_cache=cache)
            )
        if not all(summaries):
            return {}  # a further process of a distributed run
        common = [name for name in summaries[0]["dev"] if all(name in item["dev"] for item in summaries)]
        metrics = {name: _over_seeds([item["dev"][name] for item in summaries]) for name in common}
        together = {"task": settings.task, "seeds": list(seeds), "metrics": metrics, "runs": summaries}
        run_info.write_summary(work, together)
        histories = {f"seed {seed}": run_directory.read_history(work / f"seed-{seed}") for seed in seeds}
        if draws():
            from albert_cli.training import figures

            figures.curves(histories, work / CURVES)
        pages.write_seeds(work, together)
        for path in work.glob("features-*.safetensors"):
            path.unlink()
        return together


def _over_seeds(values: list[float]) -> dict[str, float]:
    return {"mean": statistics.fmean(values), "spread": statistics.stdev(values) if len(values) > 1 else 0.0}


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
        for item in {dataclasses.replace(item, seed=0): item for item in every}.values():
            checks.check_libraries(item)
            checks.check_processes(item, accelerator)
            base = run_directory.base_checkpoint(item.model)
            task = adapted(task_of(item), base)
            checks.check_layers(item, base)
            prepare(task, checks.within_positions(item, task, base), Tokenizer.of_model(base))

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
