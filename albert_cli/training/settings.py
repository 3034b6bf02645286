"""Every setting of a run: from the command line, a TOML file, an earlier run, else the task's recipe."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albert_cli.arguments import expanded_in
from albert_cli.errors import TrainingError
from albert_cli.tables.table import streams
from albert_cli.tasks.task import Recipe, Sources, Task
from converters.errors import did_you_mean
from converters.files import read_small

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
# Settings that are paths (the model may be a name, too).
PATHS = ("model", "data", "train", "dev", "test")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides a run, besides the contents of its files. Paths are as the user gave them.

    `warmup` is in steps, or a share of all steps where it is below 1. `batch_size` rows make one update; `grad_accum`
    parts of it are computed one after the other. `dropout` is that of the encoder; None: as the model's config has it.
    Raises TrainingError for values out of range, all in one message.
    """

    task: str
    model: str
    learning_rate: float
    batch_size: int
    max_length: int
    epochs: float | None = None
    steps: int | None = None
    warmup: float | None = None
    dropout: float | None = None
    data: str | None = None
    train: str | None = None
    dev: str | None = None
    test: str | None = None
    text_column: str | None = None
    text_pair_column: str | None = None
    label_column: str | None = None
    delimiter: str | None = None
    regression: bool = False
    seed: int = 42
    freeze_encoder: bool = False
    head: str = "linear"
    precision: str = "auto"
    grad_accum: int = 1
    eval_every: int | None = None
    early_stop: int | None = None
    limit_train: int | None = None
    tensorboard: bool = False
    skip_bad: bool = False

    def __post_init__(self) -> None:
        faults = []
        for name in ("batch_size", "max_length", "steps", "grad_accum", "eval_every", "early_stop", "limit_train"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**63:
                faults.append(f"{name} is {value}, not a positive whole number{' below 2**63' if value > 0 else ''}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            faults.append(f"learning_rate is {self.learning_rate}, not a positive number")
        if self.epochs is not None and not 0 < self.epochs < 2**63:
            faults.append(f"epochs is {self.epochs}, not a positive number{' below 2**63' if self.epochs > 0 else ''}")
        if self.epochs is not None and self.steps is not None:
            faults.append("epochs and steps are both given; choose one")
        if self.warmup is not None and not 0 <= self.warmup < math.inf:
            faults.append(f"warmup is {self.warmup}, not 0 or more")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            faults.append(f"dropout is {self.dropout}, not from 0 to below 1")
        elif self.dropout and self.freeze_encoder:
            faults.append(f"dropout is {self.dropout}, but a frozen encoder has none; set it to 0, or leave it out")
        faults += [
            f"{name} is {path}, a stream, but a run reads its data again (--resume, evaluate); name a file"
            for name in PATHS
            if name != "model" and (path := getattr(self, name)) and streams(Path(path))
        ]
        if self.precision not in PRECISIONS:
            faults.append(f"precision is {self.precision!r}, not one of {', '.join(PRECISIONS)}")
        if self.grad_accum > self.batch_size:
            faults.append(f"grad_accum {self.grad_accum} exceeds batch_size {self.batch_size}, of which it makes parts")
        if self.hidden is None:
            faults.append(f"head is {self.head!r}, not 'linear' or 'mlp:' and sizes, as mlp:128,30,8")
        elif self.hidden and self.batch_size < 2:
            faults.append("an mlp head has batch norm, which needs a batch_size of at least 2")
        if self.hidden and self.grad_accum > 1:
            faults.append(
                f"grad_accum is {self.grad_accum}, but an mlp head has batch norm, whose statistics are those of the "
                "rows computed together: the parts of a batch would give another model; leave grad_accum out"
            )
        if not 0 <= self.seed < 2**63:
            faults.append(f"seed is {self.seed}, not from 0 to 2**63 - 1")
        if faults:
            raise TrainingError("; ".join(faults))

    @property
    def hidden(self) -> tuple[int, ...] | None:
        """The sizes of an MLP head's hidden layers, () for a linear head, None where `head` is neither."""
        kind, _, sizes = self.head.partition(":")
        if self.head == "linear":
            return ()
        parts = sizes.split(",")
        ok = kind == "mlp" and all(part.isascii() and part.isdigit() and 0 < int(part) <= 65536 for part in parts)
        return tuple(map(int, parts)) if ok else None

    @property
    def smallest_batch(self) -> int:
        """How few rows can be computed at once: batch norm needs two."""
        return 2 if self.hidden else 1

    @property
    def sources(self) -> Sources:
        files = {name: Path(path) for name in ("train", "dev", "test") if (path := getattr(self, name))}
        columns = (self.text_column, self.text_pair_column, self.label_column)
        return Sources(Path(self.data) if self.data else None, files, *columns, self.delimiter, self.skip_bad)


@dataclass(frozen=True)
class Plan:
    """The numbers of steps that follow from settings and data."""

    steps: int
    warmup_steps: int
    eval_every: int
    steps_per_epoch: int

    @classmethod
    def of(
        cls, settings: Settings, recipe: Recipe, train_rows: int, dev_rows: int, *, examples: int | None = None
    ) -> Plan:
        """On the recipe's own data: exactly its steps. Other sizes keep its number of epochs and share of warm-up.

        `examples`: of how many examples the rows were made, where these are windows; Google's steps count examples.
        """
        from albert_cli.batching import batch_count

        per_epoch = batch_count(train_rows, settings.batch_size, settings.smallest_batch)
        if settings.steps is not None:
            steps = settings.steps
        elif settings.epochs is not None:
            steps = max(1, round(settings.epochs * per_epoch))
        else:
            # Exactly the recipe's steps where rows and batch are the recipe's.
            steps = max(1, round(recipe.epochs * (examples or train_rows) / settings.batch_size))
        if settings.warmup is None:
            warmup = round(steps * recipe.warmup_steps / recipe.steps)
        else:
            warmup = round(settings.warmup * steps if settings.warmup < 1 else settings.warmup)
        # Never so often that more rows are evaluated than trained on in between.
        sparse = math.ceil(dev_rows / settings.batch_size)
        every = settings.eval_every or max(min(recipe.eval_every, per_epoch), sparse)
        return cls(steps, min(warmup, steps), every, per_epoch)

    def rate(self, step: int) -> float:
        """The share of the learning rate at update `step` (from 0): linearly up over the warm-up, then down to 0."""
        if step < self.warmup_steps:
            return step / self.warmup_steps
        return (self.steps - step) / max(1, self.steps - self.warmup_steps)


def resolve(task: Task, *given: Mapping[str, Any], recipe: Recipe | None = None, begun: bool = False) -> Settings:
    """Settings of `given` mappings, the first that has a value counts; the rest is the task's recipe.

    A run that has `begun` without a dropout of its own goes on so, with that of its model.
    """
    recipe = recipe or task.recipe
    values: dict[str, Any] = {
        "learning_rate": recipe.learning_rate,
        "batch_size": recipe.batch_size,
        "max_length": recipe.max_length,
        "dropout": None if begun else recipe.dropout,
    }
    for layer in reversed(given):
        layer = {key: value for key, value in layer.items() if value is not None}  # noqa: PLW2901
        if layer.keys() & {"epochs", "steps"}:  # a nearer layer's choice replaces the other one of a farther layer
            values = {key: value for key, value in values.items() if key not in ("epochs", "steps")}
        values |= layer
    if values.get("freeze_encoder") and values["dropout"] and not any(layer.get("dropout") for layer in given):
        values["dropout"] = 0.0  # the recipe's is of an encoder that is trained
    return Settings(**(values | {"task": task.name.lower()}))


_TYPES: dict[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,)}


def read_toml(path: Path) -> dict[str, Any]:
    """Settings of a TOML file: its `settings` table, as in a run.toml, or its top level. TrainingError for others."""
    data = load_toml(path)
    table = data.get("settings", data)
    fields = {item.name: str(item.type) for item in dataclasses.fields(Settings)}
    if not isinstance(table, dict):
        raise TrainingError(f"{path}: settings is not a table")
    faults = [f"{key!r} is no setting{did_you_mean(key, fields)}" for key in table if key not in fields]
    for key, value in table.items():
        wanted = fields.get(key, "")
        fits: tuple[type, ...] = _TYPES.get(wanted.split(" ", maxsplit=1)[0], (object,))
        if not isinstance(value, fits) or (isinstance(value, bool) and bool not in fits):
            faults.append(f"{key} is {value!r}, not of type {wanted.split(' ', maxsplit=1)[0]}")
    if faults:
        raise TrainingError(f"{path}: {'; '.join(faults)}; the settings are {', '.join(fields)}")
    return expanded_in(table, PATHS)


def load_toml(path: Path) -> dict[str, Any]:
    """A TOML file; TrainingError where it is none."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        return tomllib.loads(read_small(path).decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path}: not TOML: {error}") from None
