"""What of a model goes into an ONNX file: the encoder alone, or with one head.

Inputs and outputs are called as transformers calls them, and so as optimum and transformers.js look for them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from albert_cli.errors import ExportError
from albert_cli.exporters import AUTO, NONE, NOT_EXPORTED
from albert_cli.model.loading import load_model, load_task_model
from albert_cli.model.task_heads import MeanClassifier, TextClassifier
from converters import spec
from converters.cast import Cast
from converters.checkpoint import Checkpoint
from converters.families import family_of
from converters.messages import listing
from converters.roles import HEADS, REQUIRED

# The heads of fine-tuned models: one that is alone in a model is what the model is for.
_TASKS = ("classifier", "first_token", "tokens", "choice", "qa")
_OF_TOKENS = ("tokens", "qa", "mlm", "rtd")
_LOGITS = ("logits",)


@dataclass(frozen=True)
class Exportable:
    """A model as it is exported. `module` takes the `inputs`, each int64, and gives a tuple of the `outputs`.

    The inputs are (batch, sequence), with `choices` (batch, choices, sequence). `head` is a name of
    `converters.roles.HEADS`, None for the encoder alone; `title` says it in words. `checkpoint` holds what is exported
    and nothing else but an `mlp`'s weights, which no checkpoint has a place for; its config names the class of
    transformers.
    """

    checkpoint: Checkpoint
    module: nn.Module
    head: str | None
    title: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    mlp: bool = False

    @property
    def choices(self) -> bool:
        return self.head == "choice"

    @property
    def of_tokens(self) -> list[bool]:
        """Which of the outputs have values for every token, as their second axis."""
        return [self.head in _OF_TOKENS or output == "last_hidden_state" for output in self.outputs]


class _Outputs(nn.Module):
    """A model whose outputs are a plain tuple."""

    def __init__(self, model: nn.Module, outputs: Callable[[Any], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        return self.outputs(self.model(input_ids, attention_mask, token_type_ids))


def chosen(checkpoint: Checkpoint, asked: str, source: Path | None = None) -> str | None:
    """The head that `asked` means: `auto` is the one head of a task that there is, else none; None: the encoder alone.

    `source`: the directory that the checkpoint was read from, whose head may lie in a file of its own. ExportError for
    a head that the model has not, or that cannot be exported.
    """
    parts = checkpoint.components
    own = ["classifier"] if holds_mlp(source) else []
    if asked == NONE:
        return None
    if asked == AUTO:
        found = [*own, *(head for head in _TASKS if head in parts)]
        return found[0] if len(found) == 1 else None
    if asked in NOT_EXPORTED:
        raise ExportError(
            checkpoint.where, f"the {HEADS[asked]} {NOT_EXPORTED[asked]}", "--head none exports the encoder"
        )
    if asked == "classifier" and "classifier" not in parts and "first_token" in parts:
        return "first_token"
    held = [head for head in HEADS if head in (*parts, *own) and head not in NOT_EXPORTED]
    if asked not in held:
        names = f"it has {listing(held)}; name one of these" if held else "it has no head; leave out --head"
        raise ExportError(checkpoint.where, f"no {HEADS[asked].partition(' (')[0]} ({asked}) in this model", names)
    return asked


def holds_mlp(source: Path | None) -> bool:
    """Whether a run's head is one with hidden layers, or on a mean, which lies beside the weights."""
    from albert_cli.runs.files import RUN
    from albert_cli.training.run_directory import HEAD

    return source is not None and (source / HEAD).is_file() and (source / RUN).is_file()


def exportable(checkpoint: Checkpoint, head: str | None, source: Path | None = None) -> Exportable:
    """The encoder with that head (see `chosen`) in eval mode on the CPU, in float32."""
    mlp = head == "classifier" and "classifier" not in checkpoint.components and holds_mlp(source)
    kept = only(checkpoint, head, mlp=mlp)
    # A single type of tokens leaves nothing to say, and tokenizers of RoBERTa say nothing.
    typed = kept.config.type_vocab_size > 1
    inputs = ("input_ids", "attention_mask", *(["token_type_ids"] if typed else []))
    model, outputs, names = _loaded_run(source) if mlp else _loaded(kept, head)
    title = " and ".join(["encoder", *(["pooler"] if len(names) > 1 else [])])
    if head is not None:
        title = HEADS[head] + (_of_own_head(model) if mlp else "")
    return Exportable(kept, _Outputs(model, outputs).eval(), head, title, inputs, names, mlp)


def only(checkpoint: Checkpoint, head: str | None, *, mlp: bool = False) -> Checkpoint:
    """The checkpoint with the tensors of the encoder and one head alone, as float32, and no Sentence-Transformers."""
    family, wanted = family_of(checkpoint.config), spec.spec(checkpoint.config)
    name = family.bare
    parts: tuple[str, ...] = ("pooler",)
    if mlp:
        name = next(name for name in family.classes if name.endswith("ForSequenceClassification"))
    elif head is not None:
        name = min(
            (name for name, parts in family.classes.items() if parts[-1] == head),
            key=lambda name: len(family.classes[name]),
        )
        parts = tuple(part for part in family.classes[name] if part in ("pooler", "summary", head))
    kept = {*REQUIRED, *parts}
    if head in family.reads_classifier.values():
        kept.add("classifier")  # what all these classes call it
    config = dataclasses.replace(checkpoint.config, extra={**checkpoint.config.extra, "architectures": [name]})
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if wanted[name].component in kept}
    return Cast("float32").apply(dataclasses.replace(checkpoint, config=config, tensors=tensors, sentence=None))


def _loaded(
    checkpoint: Checkpoint, head: str | None
) -> tuple[nn.Module, Callable[[Any], tuple[Tensor, ...]], tuple[str, ...]]:
    """The model, its outputs as a tuple, and their names."""
    if head is None:
        encoder = load_model(checkpoint).encoder
        if encoder.pooler is None:
            return encoder, lambda found: (found.sequence_output,), ("last_hidden_state",)
        return encoder, lambda found: (found.sequence_output, found.pooled_output), _ENCODER
    if head == "qa":
        return load_task_model(checkpoint), lambda found: tuple(found.unbind(-1)), ("start_logits", "end_logits")
    if head in _TASKS:
        return load_task_model(checkpoint), lambda found: (found,), _LOGITS
    place = _PRETRAINING[head]
    return load_model(checkpoint), lambda found: (getattr(found, place),), _LOGITS


_ENCODER = ("last_hidden_state", "pooler_output")
# The field of PreTrainingOutput for each head of pre-training.
_PRETRAINING: Mapping[str, str] = {
    "mlm": "prediction_logits",
    "sop": "pair_logits",
    "nsp": "pair_logits",
    "rtd": "replaced_logits",
}


def _of_own_head(model: nn.Module) -> str:
    """What is peculiar about a head that lies in a file of its own."""
    mean = " on the mean of the hidden states" if isinstance(model, MeanClassifier) else ""
    hidden = isinstance(model, TextClassifier) and model.mlp is not None and len(model.mlp.hidden)
    return (" with hidden layers" if hidden else "") + mean


def _loaded_run(source: Path | None) -> tuple[nn.Module, Callable[[Any], tuple[Tensor, ...]], tuple[str, ...]]:
    """As `_loaded`, of a run whose head lies in a file of its own."""
    from albert_cli.training.run_directory import load_run

    assert source is not None
    return load_run(source, device="cpu").model, lambda found: (found,), _LOGITS
