"""Every setting of a run: from the command line, a TOML file, an earlier run, else the task's recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from typer import BadParameter, Option

from albert_cli import declared, machine, options, vector_options
from albert_cli.arguments import Kind
from albert_cli.errors import TrainingError
from albert_cli.tables.input_files import streams
from albert_cli.tasks.task import Recipe, Sources, Task
from albert_cli.training.weighing import named_weights
from converters.messages import brief

# Settings that are paths (the model may be a name, too): what they hold is compared when a run is resumed.
PATHS = ("model", "data", "train", "dev", "test")
_POOLING = (
    "What a head reads: mean, of all tokens' last hidden states; else what the model's family has. sts, pairs: how the "
    "vectors of the tokens become that of a text, as in embed; by default mean, or as the model's "
    "Sentence-Transformers files say."
)
# What a Recipe has too and earlier versions had not; the defaults are what runs did then.
LATER = ("weight_decay", "layer_decay", "beta2", "bias_correction", "clip", "both_orders")


def _rates(text: str) -> float | tuple[float, ...]:
    """One learning rate, or several in the order given; BadParameter for what is none."""
    found = []
    for part in text.split(","):
        try:
            found.append(float(part))
        except ValueError:
            raise BadParameter(f"{part!r} is not a valid float.", param_hint="'--lr'") from None
        if found[-1] not in declared.POSITIVE:
            raise BadParameter(f"{brief(found[-1])} is not {declared.POSITIVE}", param_hint="'--lr'")
    if len(set(found)) < len(found):
        raise BadParameter(f"{text} names one rate twice", param_hint="'--lr'")
    return tuple(found) if len(found) > 1 else found[0]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides a run, besides the contents of its files. Paths are as the user gave them.

    `warmup` is in steps, or a share of all steps where it is below 1. `batch_size` rows make one update; `grad_accum`
    parts of it are computed one after the other. `dropout` is that of the encoder; None: as the model's config has it.
    Raises TrainingError for values out of range, all in one message.
    """

    task: str
    model: Annotated[str, options.MODEL, Kind.PATH]
    data: Annotated[
        str | None,
        Option("--data", metavar="DIR", help="Directory of the task's files, or of GLUE; else downloaded."),
        Kind.PATH,
    ] = None
    train: Annotated[str | None, Option("--train", metavar="FILE", help="Training rows."), Kind.PATH] = None
    dev: Annotated[
        str | None, Option("--dev", metavar="FILE", help="Development rows; else a tenth is held out."), Kind.PATH
    ] = None
    test: Annotated[
        str | None, Option("--test", metavar="FILE", help="GLUE test rows, to be predicted."), Kind.PATH
    ] = None
    text_column: options.TextColumn = None
    text_pair_column: options.TextPairColumn = None
    label_column: options.LabelColumn = None
    delimiter: options.Delimiter = None
    regression: Annotated[bool, Option("--regression", help="csv: the label is a number to be predicted.")] = False
    multi_label: Annotated[
        bool, Option("--multi-label", help="csv: a row has any number of labels, as a|b or in a list.")
    ] = False
    epochs: Annotated[
        float | None,
        Option("--epochs", metavar="X", help="Passes over the training rows."),
        declared.Within(0, declared.LARGEST_COUNT, "least"),
    ] = None
    steps: Annotated[int | None, options.STEPS, declared.COUNT] = None
    batch_size: Annotated[int, Option("--batch-size", metavar="N", help="Rows of one update."), declared.COUNT]
    learning_rate: Annotated[
        float,
        Option("--lr", metavar="X,X,…", help="Peak learning rate; of several each is tried, and the best one marked."),
        declared.Typed(str, _rates),
        declared.POSITIVE,
    ]
    warmup: Annotated[float | None, options.WARMUP, declared.NOT_NEGATIVE] = None
    dropout: Annotated[
        float | None,
        Option("--dropout", metavar="X", help="Of the encoder; else the recipe's for GLUE and SQuAD, or the model's."),
        declared.Within(0, 1, "most"),
    ] = None
    weight_decay: Annotated[
        float,
        Option(
            "--weight-decay",
            metavar="X",
            help="Of AdamW, but for biases and norms; else the recipe's.",
            show_default=False,
        ),
        declared.Within(0, 1, "most"),
    ] = 0.01
    layer_decay: Annotated[
        float,
        Option(
            "--layer-decay",
            metavar="X",
            help="Each layer's rate by that of the one above; else the recipe's.",
            show_default=False,
        ),
        declared.Within(0, 1, "least"),
    ] = 1.0
    beta2: Annotated[
        float,
        Option("--beta2", metavar="X", help="The second beta of AdamW; else the recipe's.", show_default=False),
        declared.Within(0, 1, "most"),
    ] = 0.999
    bias_correction: Annotated[
        bool,
        Option(
            "--bias-correction/--no-bias-correction",
            help="Of AdamW's moments; else as the recipe has it.",
            show_default=False,
        ),
    ] = True
    clip: Annotated[
        float,
        Option(
            "--clip", metavar="X", help="The gradient's norm at most, 0 for any; else the recipe's.", show_default=False
        ),
        declared.NOT_NEGATIVE,
    ] = 1.0
    both_orders: Annotated[
        bool,
        Option(
            "--both-orders/--one-order",
            help="Train on each pair both ways round; else as the recipe has it.",
            show_default=False,
        ),
    ] = False
    max_length: Annotated[int, Option("--max-length", metavar="N", help=f"{options.MAX_LENGTH}."), declared.COUNT]
    seed: Annotated[int, options.SEED, declared.Within(0, declared.LARGEST_COUNT)] = 42
    freeze_encoder: Annotated[
        bool, Option("--freeze-encoder", help="Train the head only, on features that are computed once.")
    ] = False
    loss: Annotated[
        Literal["cosent", "cosine"] | None,
        Option("--loss", help="sts: cosent ranks the cosines of a batch, cosine learns scores.", show_default="cosent"),
    ] = None
    scale: Annotated[
        float | None,
        Option("--scale", metavar="X", help="sts, pairs: what cosines are multiplied by.", show_default="20"),
        declared.POSITIVE,
    ] = None
    pooling: Annotated[str | None, vector_options.pooling_option(_POOLING)] = None
    head: Annotated[
        str,
        Option("--head", metavar="HEAD", help="linear, or mlp:128,30,8 with batch norm, without --grad-accum."),
    ] = "linear"
    class_weights: Annotated[
        str | None,
        Option(
            "--class-weights",
            metavar="WEIGHTS",
            help="How much a row of each label counts: balanced, by its rarity, or LABEL=X,LABEL=X (of others 1).",
        ),
    ] = None
    label_smoothing: Annotated[
        float | None,
        Option("--label-smoothing", metavar="X", help="The share of every target that is spread over all labels."),
        declared.Within(0, 1, "most"),
    ] = None
    precision: options.Precision = "auto"
    grad_accum: Annotated[int, options.GRAD_ACCUM, declared.COUNT] = 1
    eval_every: Annotated[int | None, options.EVAL_EVERY, declared.COUNT] = None
    early_stop: Annotated[
        int | None,
        Option("--early-stop", metavar="K", help="Stop after K evaluations without a better one."),
        declared.COUNT,
    ] = None
    limit_train: Annotated[
        int | None, Option("--limit-train", metavar="N", help="Train on N of the training rows."), declared.COUNT
    ] = None
    skip_bad: Annotated[bool, options.SKIP_BAD] = False
    tensorboard: Annotated[bool, Option("--tensorboard", help="Log to RUN/tensorboard too.")] = False

    def __post_init__(self) -> None:
        faults = declared.unfit(self)
        if self.epochs is not None and self.steps is not None:
            faults.append("epochs and steps are both given; choose one")
        if self.regression and self.multi_label:
            faults.append("regression and multi_label are both given; choose one")
        if self.dropout and self.freeze_encoder:
            faults.append(f"dropout is {self.dropout}, but a frozen encoder has none; set it to 0, or leave it out")
        faults += [
            f"{name} is {path}, a stream, but a run reads its data again (--resume, evaluate); name a file"
            for name in PATHS
            if name != "model" and (path := getattr(self, name)) and (streams(Path(path)) or Path(path).is_fifo())
        ]
        if self.precision not in get_args(machine.Precision):
            known = ", ".join(get_args(machine.Precision))
            faults.append(f"precision is {self.precision!r}, not one of {known}")
        if self.grad_accum > self.batch_size:
            faults.append(f"grad_accum {self.grad_accum} exceeds batch_size {self.batch_size}, of which it makes parts")
        if self.class_weights is not None and named_weights(self.class_weights) is None:
            faults.append(
                f"class_weights is {brief(self.class_weights)}, not 'balanced' or weights above 0 by label, as a=1,b=3"
            )
        if self.hidden is None:
            faults.append(f"head is {self.head!r}, not 'linear' or 'mlp:' and sizes, as mlp:128,30,8")
        elif self.hidden and self.batch_size < 2:
            faults.append("an mlp head has batch norm, which needs a batch_size of at least 2")
        if self.hidden and self.grad_accum > 1:
            faults.append(
                f"grad_accum is {self.grad_accum}, but an mlp head has batch norm, whose statistics are those of the "
                "rows computed together: the parts of a batch would give another model; leave grad_accum out"
            )
        if faults:
            raise TrainingError("; ".join(faults))

    @property
    def hidden(self) -> tuple[int, ...] | None:
        """The sizes of an MLP head's hidden layers, () for a linear head, None where `head` is neither."""
        return hidden_sizes(self.head)

    @property
    def smallest_batch(self) -> int:
        """How few rows can be computed at once: batch norm needs two."""
        return 2 if self.hidden else 1

    @property
    def sources(self) -> Sources:
        return sources_of(vars(self))


def sources_of(settings: Mapping[str, Any]) -> Sources:
    """Where the data of a run is, by its settings, which may lack those that were not given."""
    data = settings.get("data")
    return Sources(
        Path(data) if data else None,
        {name: Path(path) for name in ("train", "dev", "test") if (path := settings.get(name))},
        settings.get("text_column"),
        settings.get("text_pair_column"),
        settings.get("label_column"),
        settings.get("delimiter"),
        bool(settings.get("skip_bad")),
    )


def hidden_sizes(head: str) -> tuple[int, ...] | None:
    """The sizes in "mlp:128,30,8", () of "linear"; None where it is neither."""
    if head == "linear":
        return ()
    kind, _, sizes = head.partition(":")
    parts = sizes.split(",")
    ok = kind == "mlp" and all(part.isascii() and part.isdigit() and 0 < int(part) <= 65536 for part in parts)
    return tuple(map(int, parts)) if ok else None


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


def resolve(task: Task, *given: Mapping[str, Any], recipe: Recipe | None = None, resumed: bool = False) -> Settings:
    """Settings of `given` mappings, the first that has a value counts; the rest is the task's recipe.

    A `resumed` run without a dropout of its own keeps that of its model; one of an earlier version, what that did.
    """
    recipe = recipe or task.recipe
    ours = {
        "learning_rate": recipe.learning_rate,
        "batch_size": recipe.batch_size,
        "max_length": recipe.max_length,
        "dropout": None if resumed else recipe.dropout,
    }
    if not resumed:
        ours |= {name: getattr(recipe, name) for name in LATER}
    ours |= task.own
    values = {"dropout": None} | declared.layered(*given, ours, exclusive=("epochs", "steps"))
    if values.get("freeze_encoder") and values["dropout"] and not any(layer.get("dropout") for layer in given):
        values["dropout"] = 0.0  # the recipe's is of an encoder that is trained
    if values.get("freeze_encoder") and not resumed:
        if any(layer.get("layer_decay") not in (None, 1) for layer in given):
            raise TrainingError("--layer-decay has no effect on a frozen encoder, which does not learn; leave it out")
        values["layer_decay"] = 1.0  # likewise
    return Settings(**(values | {"task": task.name.lower()}))


def read_toml(path: Path, *, of_run: bool = False) -> dict[str, Any]:
    """Settings of a TOML file, as in a run.toml; TrainingError for what is no setting, or of another type."""
    return declared.read_settings(path, Settings, of_run=of_run)
