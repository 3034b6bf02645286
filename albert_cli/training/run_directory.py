"""The run directory: a Hugging Face model, `run.toml` with all that made it, and what training writes beside.

A linear head is part of `model.safetensors` under Hugging Face's names. An MLP head, and one on the mean of the hidden
states, have no place in that format: they are in `head.safetensors`, and `model.safetensors` holds the fine-tuned
encoder, which every other program can load.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from albert_cli.declared import faults_of, load_toml
from albert_cli.errors import RunError
from albert_cli.machine import find_device
from albert_cli.model.loading import assign, shapes_only, to_checkpoint
from albert_cli.model.task_heads import TaskModel
from albert_cli.phases import phase
from albert_cli.registry import resolve
from albert_cli.runs import info as run_info
from albert_cli.runs.events import Evaluated, Record, Trained, records_of
from albert_cli.runs.files import LOG, RUN, pattern
from albert_cli.runs.log import read_log
from albert_cli.tasks import known_as, named, names
from albert_cli.tasks.task import Task
from albert_cli.tensor_files import first_line, read_tensors, write_tensors
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training import problems
from albert_cli.training.foreign import foreign_info
from albert_cli.training.problems import AnyProblem
from albert_cli.training.run_info import RunInfo
from albert_cli.training.scale import Scale
from albert_cli.training.settings import Settings, hidden_sizes
from converters import convert, sentence_keys, spec
from converters.checkpoint import Checkpoint
from converters.config import EncoderConfig
from converters.errors import CorruptError
from converters.messages import brief, listing

HEAD = "head.safetensors"
# What a run may leave in its directory; all that --force removes.
OURS = pattern(
    r"head\.safetensors|features-[0-9a-f]{16}\.safetensors|(confusion|predictions|labels|entities|recall)\.png"
    rf"|report\.md|dev_(mismatched_)?predictions\.csv|dev_predictions\.json|[A-Z][\w-]*\.tsv|{sentence_keys.OURS}"
)


@dataclass(frozen=True)
class _TaskTable:
    name: str
    kind: str
    labels: tuple[str, ...]
    no_answer: bool
    mean: float = 0.0
    spread: float = 1.0
    no_answer_threshold: float = 0.0
    lowest: float = 0.0
    highest: float = 1.0


@dataclass(frozen=True)
class _RunFile:
    """The tables of run.toml that are read again."""

    task: _TaskTable
    settings: Settings
    hashes: Mapping[str, str]


@dataclass(frozen=True, repr=False)
class LoadedRun:
    """A run's best model, in eval mode, and all that its use needs: where it computes, how many tokens at once, too."""

    directory: Path
    info: RunInfo
    task: Task
    problem: AnyProblem
    model: TaskModel
    tokenizer: Tokenizer
    device: str
    batch_tokens: int | None = None

    def __repr__(self) -> str:
        return f"<LoadedRun {str(self.directory)!r}: {self.info.problem} ({self.task.name}) on {self.device}>"


@dataclass(frozen=True)
class History:
    """The log of a run, and the metric by which it chose its model."""

    records: list[Record]
    selection_metric: str

    @classmethod
    def of(cls, directory: Path, records: list[Record], selection_metric: str) -> History:
        """RunError where the records lack what is drawn and reported of them."""
        evaluations = records_of(records, Evaluated)
        lacking = [
            key for key in ("loss", "learning_rate") if any(key not in one for one in records_of(records, Trained))
        ]
        lacking += [key for key in ("loss", selection_metric) if any(key not in one for one in evaluations)]
        if lacking or not any(one.get("best") for one in evaluations):
            keys = ", ".join(lacking or ["best"])
            raise RunError(f"{directory / LOG}: no log of a finished fine-tuning, for its records lack {keys}")
        return cls(records, selection_metric)


def base_checkpoint(model: str) -> Checkpoint:
    """The model to start from, by path, published name or repository of the Hub."""
    return resolve.resolve(model).load()


def build(
    base: Checkpoint, problem: AnyProblem, info: RunInfo, *, head_dropout: float | None = None
) -> tuple[TaskModel, list[str]]:
    """The base's encoder with a fresh head, drawn from the settings' seed; and notes on what else had to be drawn.

    The dropout of the settings, and `head_dropout`, take the place of the base's where they are given.
    """
    parts = spec.components(base.tensors, base.config)
    config = dataclasses.replace(
        with_dropout(base.config, info.settings.get("dropout"), head_dropout),
        extra={key: value for key, value in base.config.extra.items() if key not in _HEAD_KEYS}
        | {"finetuning_task": info.task}
        | problem.config_keys(info),
    )
    torch.manual_seed(info.settings["seed"])
    notes = []
    model = problem.head(config, info)
    pooler = model.encoder.pooler
    if pooler is not None and "pooler" not in parts:
        kept = ", which a frozen encoder keeps; train it, too" if info.settings.get("freeze_encoder") else ""
        notes.append(f"{base.where} has no pooler: it starts from random weights{kept}")
        model.encoder.pooler = None
    assign(nn.ModuleDict({"encoder": model.encoder}), base)
    model.encoder.pooler = pooler
    return model, notes


def with_dropout(config: EncoderConfig, encoder: float | None, head: float | None) -> EncoderConfig:
    """A config with this dropout of the encoder, and before the head; None: as it is, the head's even if it was that
    of the encoder."""
    if encoder is None:
        return config
    return dataclasses.replace(
        config,
        hidden_dropout_prob=encoder,
        attention_probs_dropout_prob=encoder,
        classifier_dropout_prob=config.head_dropout_prob if head is None else head,
    )


_HEAD_KEYS = ("architectures", "id2label", "label2id", "num_labels", "problem_type", "finetuning_task")


def save_model(model: TaskModel, base: Checkpoint, directory: Path, problem: AnyProblem, info: RunInfo) -> None:
    """Write the model's files into the run, each in one step, and prove them; its outputs are labels, in their unit."""
    with info.scale.folded(model.output):
        if model.mlp is not None:
            tensors = {f"mlp.{name}": item for name, item in model.mlp.state_dict().items()}
            write_tensors(directory / HEAD, tensors, {"format": "pt"})
        saved = model if model.mlp is None else nn.ModuleDict({"encoder": model.encoder})
        checkpoint = to_checkpoint(saved, model.config, base.tokenizer)
        convert.save(problem.saved(checkpoint, base, info), directory, format="safetensors", force=True)


def write_info(
    directory: Path, problem: AnyProblem, info: RunInfo, *, data: Mapping[str, Any], plan: Mapping[str, int]
) -> None:
    """Write run.toml: settings, labels, versions, hashes of data and model, and the numbers of steps."""
    tables = {
        "task": {
            "name": info.task,
            "kind": info.problem,
            "labels": list(info.labels),
            "no_answer": info.no_answer,
            **problem.stored(info),
        },
        "settings": {key: value for key, value in info.settings.items() if value is not None},
        "plan": dict(plan),
        "data": dict(data),
        "hashes": dict(info.hashes),
    }
    run_info.write_info(directory, tables)


def settle(directory: Path, problem: AnyProblem, info: RunInfo) -> None:
    """Add to run.toml what the best model's outputs decided."""
    content = load_toml(directory / RUN)
    task = content["task"] | problem.stored(info)
    if task != content["task"]:
        run_info.rewrite_info(directory, content | {"task": task})


def read_info(directory: Path) -> RunInfo:
    """What run.toml says; for a fine-tuned model of other origin, what its config says. RunError where neither can."""
    if directory.is_file():
        raise RunError(f"{directory}: a file; name the directory of the fine-tuned model that it is a part of")
    if not directory.is_dir():
        raise RunError(f"{directory}: no such directory; name one that albert finetune wrote")
    if not (directory / RUN).exists():
        return foreign_info(directory)
    content = load_toml(directory / RUN)
    if "task" not in content and "corpus" in content.get("settings", ()):
        raise RunError(
            f"{directory}: a run of albert pretrain, which is fine-tuned for nothing yet; albert finetune TASK --model "
            f"{directory} does that"
        )
    faults = faults_of(content, _RunFile, complete=True) or _faults(content["task"], content["settings"])
    if faults:
        raise RunError(f"{directory / RUN}: damaged: {'; '.join(faults)}; restore it")
    task, settings = content["task"], content["settings"]
    hidden = hidden_sizes(settings.get("head", "linear"))
    assert hidden is not None
    return RunInfo(
        task=task["name"],
        problem=problems.named(task["kind"]).name,
        labels=tuple(task["labels"]),
        no_answer=task["no_answer"],
        no_answer_threshold=float(task.get("no_answer_threshold", 0.0)),
        scale=Scale(float(task.get("mean", 0.0)), float(task.get("spread", 1.0))),
        scores=(float(task.get("lowest", 0.0)), float(task.get("highest", 1.0))),
        max_length=settings["max_length"],
        hidden=hidden,
        pooling=settings.get("pooling"),
        settings=settings,
        hashes=content["hashes"],
    )


def _faults(task: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """What no run has written into the tables of these names, though of the right types."""
    faults = []
    known, settled = known_as(task["name"]), known_as(settings["task"])
    if known is None:
        faults.append(f"task.name is {brief(task['name'])}, not one of {', '.join(names())}")
    elif known != settled:
        faults.append(f"task.name is {brief(task['name'])}, but settings.task is {brief(settings['task'])}")
    if task["kind"] not in problems.every():
        faults.append(f"task.kind is {brief(task['kind'])}, not one of {', '.join(sorted(problems.every()))}")
    if twice := sorted({label for label in task["labels"] if task["labels"].count(label) > 1}):
        faults.append(f"task.labels names {listing(twice)} twice")
    if not (math.isfinite(task.get("mean", 0)) and 0 < task.get("spread", 1) < math.inf):
        faults.append(f"mean and spread of the labels are {task.get('mean')} and {task.get('spread')}")
    lowest, highest = task.get("lowest", 0), task.get("highest", 1)
    if not (math.isfinite(lowest) and lowest < highest < math.inf):
        faults.append(f"lowest and highest of the scores are {lowest} and {highest}")
    if not math.isfinite(task.get("no_answer_threshold", 0)):
        faults.append(f"no_answer_threshold is {task['no_answer_threshold']}")
    if hidden_sizes(settings.get("head", "linear")) is None:
        faults.append(f"settings.head is {brief(settings['head'])}, not linear or mlp: and sizes")
    return faults


def _check_model(directory: Path, info: RunInfo, problem: AnyProblem, checkpoint: Checkpoint) -> None:
    """RunError where run.toml and the model beside it are of different runs: labels, kind of problem, length."""
    config, where = checkpoint.config, directory / RUN
    for key, wanted in problem.config_keys(info).items():
        if key in config.extra and config.extra[key] != wanted:
            raise RunError(
                f"{where}: of another run than the model beside it: with kind {info.problem} and labels "
                f"{listing(info.labels) or '(none)'}, {key} is {brief(wanted)}, but in config.json "
                f"{brief(config.extra[key])}; restore the one that was changed"
            )
    found, rows = checkpoint.labels, max(1, len(info.labels))
    if problem.config_keys(info) and not info.hidden and found is not None and found != rows:
        raise RunError(
            f"{where}: of another run than the model beside it: {rows} labels, but its head has {found} rows; "
            "restore the one that was changed"
        )
    if info.max_length > config.max_tokens:
        raise RunError(
            f"{where}: of another run than the model beside it: max_length is {info.max_length}, but the model takes "
            f"{config.max_tokens} tokens; restore the one that was changed"
        )


@phase("loading the model")
def load_run(directory: Path, *, device: str | None = None, batch_tokens: int | None = None) -> LoadedRun:
    """The best model of a run, in eval mode, with its tokenizer; `device` None: a GPU if there is one.

    A name that is no path here is that of a fine-tuned model on the Hugging Face Hub. The weights are on the CPU until
    the model computes.
    """
    if resolve.may_be_on_the_hub(directory):
        directory = resolve.resolve(directory).path
    device = device or find_device()
    info = read_info(directory)
    if (directory / RUN).exists() and not (directory / "config.json").exists():
        raise RunError(f"{directory}: no model has been saved yet; finish it with albert finetune --resume")
    checkpoint = convert.load(directory)
    problem = problems.named(info.problem).tuned(info)
    if (directory / RUN).exists():
        _check_model(directory, info, problem, checkpoint)
    with shapes_only():
        model = problem.head(checkpoint.config, info)
    if model.mlp is None:
        assign(model, checkpoint)
    else:
        _load_head(directory / HEAD, model.mlp.to_empty(device="cpu"))
        assign(nn.ModuleDict({"encoder": model.encoder}), checkpoint)
    tokenizer = Tokenizer.of_model(checkpoint)
    return LoadedRun(directory, info, task_of(info), problem, model.eval(), tokenizer, device, batch_tokens)


def task_of(info: RunInfo) -> Task:
    """The task of a run, as the kind of problem that it is there."""
    return named(info.task).posed_as(info.problem)


def read_history(directory: Path) -> History:
    """What a run logged; RunError where there is no run or no log."""
    records = read_log(directory)
    return History.of(directory, records, task_of(read_info(directory)).selection_metric)


def _load_head(path: Path, mlp: nn.Module) -> None:
    what = f"the head that {RUN} describes"
    tensors = {name.removeprefix("mlp."): item for name, item in read_tensors(path, what).items()}
    try:
        mlp.load_state_dict(tensors)
    except RuntimeError as error:
        raise CorruptError(path, f"not {what} ({first_line(error)})") from None
