"""The run directory: a Hugging Face model, `run.toml` with all that made it, and what training writes beside.

A linear head is part of `model.safetensors` under Hugging Face's names. An MLP head has no place in that format: it is
in `head.safetensors`, and `model.safetensors` holds the fine-tuned encoder, which every other program can load.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from albert_cli.declared import faults_of, load_toml
from albert_cli.errors import RunError
from albert_cli.model.loading import assign, shapes_only, to_checkpoint
from albert_cli.model.task_heads import Classifier, QuestionAnswering
from albert_cli.registry import resolve
from albert_cli.runs import info as run_info
from albert_cli.runs.files import RUN, pattern
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training.inference import Kind
from albert_cli.training.scale import Scale
from albert_cli.training.settings import Settings, hidden_sizes
from converters import convert, roles, spec
from converters.checkpoint import Checkpoint
from converters.config import EncoderConfig
from converters.errors import CorruptError
from converters.julia.values import brief
from converters.staging import atomic_write

HEAD = "head.safetensors"
# What a run may leave in its directory; all that --force removes.
OURS = pattern(
    r"head\.safetensors|features-[0-9a-f]{16}\.safetensors|(confusion|predictions)\.png|report\.md"
    r"|dev_(mismatched_)?predictions\.csv|dev_predictions\.json|[A-Z][\w-]*\.tsv"
)
Model = Classifier | QuestionAnswering


@dataclass(frozen=True)
class RunInfo:
    """What a run's model is for. `labels` in the order of the logits; empty for a regression or for answers.

    `scale`: what a regression's labels were divided by in training; the saved model's outputs are labels.
    """

    task: str
    kind: Kind
    labels: tuple[str, ...]
    max_length: int
    hidden: tuple[int, ...] = ()
    no_answer: bool = False
    scale: Scale = field(default_factory=Scale)
    settings: Mapping[str, Any] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)

    def extras(self) -> dict[str, Any]:
        """The config's keys by which transformers knows the labels and the kind of problem."""
        if self.kind == "answers":
            return {"finetuning_task": self.task}
        names = self.labels or ("score",)
        problem = "regression" if self.kind == "regression" else "single_label_classification"
        return {
            "finetuning_task": self.task,
            "id2label": {str(number): name for number, name in enumerate(names)},
            "label2id": {name: number for number, name in enumerate(names)},
            "problem_type": problem,
        }


@dataclass(frozen=True)
class _TaskTable:
    name: str
    kind: Literal["classification", "labels", "regression", "answers"]
    labels: tuple[str, ...]
    no_answer: bool
    mean: float = 0.0
    spread: float = 1.0


@dataclass(frozen=True)
class _RunFile:
    """The tables of run.toml that are read again."""

    task: _TaskTable
    settings: Settings
    hashes: Mapping[str, str]


@dataclass(frozen=True)
class LoadedRun:
    directory: Path
    info: RunInfo
    model: Model
    tokenizer: Tokenizer


def base_checkpoint(model: str) -> Checkpoint:
    """The model to start from, by path, published name or repository of the Hub."""
    return resolve.resolve(model).load()


def build(base: Checkpoint, info: RunInfo, *, seed: int, head_dropout: float | None = None) -> tuple[Model, list[str]]:
    """The base's encoder with a fresh head, drawn from `seed`; and notes on what else had to be drawn.

    The dropout of the settings, and `head_dropout`, take the place of the base's where they are given.
    """
    parts = spec.components(base.tensors, base.config)
    config = dataclasses.replace(
        with_dropout(base.config, info.settings.get("dropout"), head_dropout),
        extra={key: value for key, value in base.config.extra.items() if key not in _HEAD_KEYS} | info.extras(),
    )
    torch.manual_seed(seed)
    notes = []
    model: Model
    if info.kind == "answers":
        model = QuestionAnswering(config)
    else:
        model = Classifier(config, max(1, len(info.labels)), info.hidden)
    pooler = model.encoder.pooler
    if pooler is not None and "pooler" not in parts:
        notes.append(f"{base.where} has no pooler: it starts from random weights")
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


def save_model(model: Model, base: Checkpoint, directory: Path, scale: Scale | None = None) -> None:
    """Write the model's files into the run, each in one step, and prove them; its outputs are labels by `scale`."""
    with contextlib.ExitStack() as stack:
        if isinstance(model, Classifier) and scale and not scale.identity:
            stack.enter_context(scale.folded(model))
        _write_model(model, base, directory)


def _write_model(model: Model, base: Checkpoint, directory: Path) -> None:
    mlp = model.mlp if isinstance(model, Classifier) else None
    if mlp is not None:
        from safetensors.torch import save_file

        tensors = {f"mlp.{name}": item.cpu().contiguous() for name, item in mlp.state_dict().items()}
        with atomic_write(directory / HEAD, force=True, ours=None) as beside:
            save_file(tensors, beside, {"format": "pt"})
    saved = model if mlp is None else nn.ModuleDict({"encoder": model.encoder})
    checkpoint = to_checkpoint(saved, model.config, base.tokenizer)
    convert.save(checkpoint, directory, format="safetensors", force=True)


def write_info(directory: Path, info: RunInfo, *, data: Mapping[str, Any], plan: Mapping[str, int]) -> None:
    """Write run.toml: settings, labels, versions, hashes of data and model, and the numbers of steps."""
    tables = {
        "task": {
            "name": info.task,
            "kind": info.kind,
            "labels": list(info.labels),
            "no_answer": info.no_answer,
            **({"mean": info.scale.mean, "spread": info.scale.spread} if info.kind == "regression" else {}),
        },
        "settings": {key: value for key, value in info.settings.items() if value is not None},
        "plan": dict(plan),
        "data": dict(data),
        "hashes": dict(info.hashes),
    }
    run_info.write_info(directory, tables)


def read_info(directory: Path) -> RunInfo:
    """What run.toml says; for a fine-tuned model of other origin, what its config says. RunError where neither can."""
    if directory.is_file():
        raise RunError(f"{directory}: a file; name the directory of the fine-tuned model that it is a part of")
    if not directory.is_dir():
        raise RunError(f"{directory}: no such directory; name one that albert finetune wrote")
    if not (directory / RUN).exists():
        return _foreign(directory)
    content = load_toml(directory / RUN)
    if faults := faults_of(content, _RunFile, complete=True):
        raise RunError(f"{directory / RUN}: damaged: {'; '.join(faults)}")
    task, settings = content["task"], content["settings"]
    hidden = hidden_sizes(settings.get("head", "linear"))
    if hidden is None:
        raise RunError(
            f"{directory / RUN}: damaged: settings.head is {settings['head']!r}, not linear or mlp: and sizes"
        )
    return RunInfo(
        task=task["name"],
        kind=task["kind"],
        labels=tuple(task["labels"]),
        no_answer=task["no_answer"],
        scale=Scale(float(task.get("mean", 0.0)), float(task.get("spread", 1.0))),
        max_length=settings["max_length"],
        hidden=hidden,
        settings=settings,
        hashes=content["hashes"],
    )


def load_run(directory: Path) -> LoadedRun:
    """The best model of a run, in eval mode on the CPU, with its tokenizer."""
    info = read_info(directory)
    if (directory / RUN).exists() and not (directory / "config.json").exists():
        raise RunError(f"{directory}: no model has been saved yet; finish it with albert finetune --resume")
    checkpoint = convert.load(directory)
    config: EncoderConfig = checkpoint.config
    with shapes_only():
        model: Model
        if info.kind == "answers":
            model = QuestionAnswering(config)
        else:
            model = Classifier(config, max(1, len(info.labels)), info.hidden)
    if info.hidden:
        assert isinstance(model, Classifier)
        assert model.mlp is not None
        model.mlp = model.mlp.to_empty(device="cpu")
        _load_head(directory / HEAD, model.mlp)
        assign(nn.ModuleDict({"encoder": model.encoder}), checkpoint)
    else:
        assign(model, checkpoint)
    return LoadedRun(directory, info, model.eval(), Tokenizer.of_model(checkpoint))


def _load_head(path: Path, mlp: nn.Module) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        mlp.load_state_dict({name.removeprefix("mlp."): item for name, item in load_file(path).items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise CorruptError(f"{path}: not the head that {RUN} describes ({reason})") from None


# What predict, evaluate and answer can make nothing of, by component.
_NO_LABELS_OF_TEXTS = {
    "choice": "gives one number per choice, and a choice means nothing without the others",
    "tokens": "labels each token, not a text",
    "squad2": "is another network than the one that albert answer reads; albert finetune squad trains that",
}


def _foreign(directory: Path) -> RunInfo:
    """A model fine-tuned elsewhere, with a head and (in a Hugging Face config) id2label and problem_type."""
    checkpoint = convert.load(directory)
    parts, config = spec.components(checkpoint.tensors, checkpoint.config), checkpoint.config
    length = min(checkpoint.tokenizer.max_length or 512, config.max_tokens)
    if "qa" in parts:
        return RunInfo("squad", "answers", (), length, no_answer=True)
    for part, why in _NO_LABELS_OF_TEXTS.items():
        if part in parts:
            raise RunError(f"{checkpoint.where}: its {roles.HEADS[part]} {why}")
    if "classifier" not in parts:
        raise RunError(f"{directory}: no {RUN} and no fine-tuned head; make a run with albert finetune")
    count = checkpoint.tensors["classifier.bias"].size
    kind = _problem(config.extra.get("problem_type"), count, checkpoint.where)
    return RunInfo("csv", kind, () if kind == "regression" else _labels(config, count, checkpoint.where), length)


def _problem(said: Any, count: int, where: str) -> Kind:
    """What a head of `count` outputs is for, as transformers' pipeline takes a config's problem_type."""
    if said not in (None, "regression", "single_label_classification", "multi_label_classification"):
        raise RunError(f"{where}: problem_type {brief(said)} in its config is none of transformers'; correct it there")
    if said == "regression" and count > 1:
        raise RunError(f"{where}: a regression to {count} numbers (problem_type), of which albert predicts one only")
    if said == "single_label_classification" and count == 1:
        raise RunError(
            f"{where}: one label alone with problem_type 'single_label_classification' in its config, which is right "
            "of every text; write regression (a number) or multi_label_classification (yes or no) there"
        )
    if said == "multi_label_classification":
        return "labels"
    return "regression" if count == 1 else "classification"


def _labels(config: EncoderConfig, count: int, where: str) -> tuple[str, ...]:
    """The labels in the order of the head's rows; RunError where the config's id2label does not name each once."""
    names = config.extra.get("id2label")
    if not names:
        stated = config.extra.get("num_labels", count)
        if stated != count:
            raise RunError(f"{where}: num_labels {brief(stated)} in its config, but its head has {count} rows")
        return tuple(f"LABEL_{number}" for number in range(count))
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise RunError(f"{where}: id2label in its config is {brief(names)}, not names by number")
    if set(names) != {str(number) for number in range(count)}:
        raise RunError(
            f"{where}: id2label in its config names {spec.listing(names) or 'nothing'}, but its head has {count} rows "
            f"(0 to {count - 1}); name each of them there"
        )
    labels = tuple(names[str(number)] for number in range(count))
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise RunError(f"{where}: id2label in its config names {spec.listing(twice)} twice; give each row its own name")
    return labels
