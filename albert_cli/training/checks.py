"""What is refused before a run begins, or is resumed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from accelerate import Accelerator

from albert_cli.errors import TrainingError
from albert_cli.registry import resolve
from albert_cli.runs import info as run_info
from albert_cli.runs.claim import Inputs
from albert_cli.runs.curves import warn_of_no_pictures
from albert_cli.tasks.task import Task
from albert_cli.training import problems, run_directory
from albert_cli.training.problems import AnyProblem
from albert_cli.training.run_info import RunInfo
from albert_cli.training.settings import LATER, PATHS, Settings
from converters.checkpoint import Checkpoint
from converters.libraries import require_library
from converters.messages import brief


def check_processes(settings: Settings, accelerator: Accelerator) -> None:
    """Refuse a head that several processes cannot train together (TrainingError)."""
    if settings.hidden and accelerator.num_processes > 1:
        raise TrainingError(
            f"an mlp head has batch norm, whose statistics are those of the rows computed together: "
            f"{accelerator.num_processes} processes would train another model than one; start one process"
        )


def check_libraries(settings: Settings) -> None:
    """Refuse what lacks a library; a Notice where no pictures will be drawn."""
    warn_of_no_pictures()
    if settings.tensorboard:
        require_library("tensorboard", "--tensorboard")


def inputs_of(settings: Settings) -> Inputs:
    """What a run reads from this disk."""
    given = (settings.data, settings.train, settings.dev, settings.test)
    return Inputs([resolve.resolve(settings.model).path], [Path(path) for path in given if path])


def check_whole_batches(problem: AnyProblem, settings: Settings, accelerator: Accelerator) -> None:
    """Refuse to divide batches whose rows are computed together (TrainingError)."""
    if problem.together and settings.grad_accum > 1:
        raise TrainingError(f"{problem.together}: its parts would train another model than it; leave --grad-accum out")
    if problem.together and accelerator.num_processes > 1:
        raise TrainingError(
            f"{problem.together}: {accelerator.num_processes} processes would train another model than one; start one "
            "process"
        )


def suited(settings: Settings, task: Task, base: Checkpoint) -> Settings:
    """Settings as they are for a model; TrainingError where it cannot be trained so."""
    return problems.named(task.problem).suited(_within_positions(settings, task, base), base)


def _within_positions(settings: Settings, task: Task, base: Checkpoint) -> Settings:
    """Settings within what the model can do: a recipe's `max_length` is cut, the user's refused (TrainingError)."""
    positions = base.config.max_tokens
    if settings.max_length <= positions:
        return settings
    if settings.max_length not in {recipe.max_length for recipe in (task.recipe, task.no_answer_recipe) if recipe}:
        raise TrainingError(f"--max-length is {settings.max_length}, but the model has {positions} positions")
    return dataclasses.replace(settings, max_length=positions)


def check_layers(settings: Settings, base: Checkpoint) -> None:
    """Refuse a rate for each layer where layers have weights in common (TrainingError)."""
    config = base.config
    if settings.layer_decay != 1 and config.num_hidden_layers > 1 and config.shared != "none":
        raise TrainingError(
            f"--layer-decay {settings.layer_decay:g} gives each layer a rate of its own, but in {base.where} they have "
            "their weights in common; leave it out"
        )


def check_same(out: Path, info: RunInfo) -> None:
    """Refuse to resume with other settings, data or model than the run was started with (RunError)."""
    before = run_directory.read_info(out)
    later = [item for item in dataclasses.fields(Settings) if item.name in LATER or item.default is False]
    defaults = {item.name: item.default for item in later}  # an option that there was not was not given
    settings = defaults | dict(before.settings)
    now = {key: value for key, value in info.settings.items() if value is not None}
    facts = {
        "kind": (before.problem, info.problem),
        "labels": (before.labels, info.labels),
        "no_answer": (before.no_answer, info.no_answer),
        "scale of the labels": (before.scale, info.scale),
        "range of the scores": (before.scores, info.scores),
    }
    changed = [f"{name} was {brief(old)}, now {brief(new)}" for name, (old, new) in facts.items() if old != new]
    run_info.check_same(
        out,
        settings=(settings, now),
        hashes=(before.hashes, info.hashes),
        paths=PATHS,
        changed=changed,
    )
